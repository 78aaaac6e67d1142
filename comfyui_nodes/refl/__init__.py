"""Reward feedback learning on ComfyUI's own MODEL, CLIP and VAE: the host's adapter to `core.refl`."""
