"""What the tests of ReFL on ComfyUI's stand-ins look at: the bits of networks, and what they draw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Networks = tuple[Any, Any, Any]  # MODEL, CLIP, VAE
KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")


def bits(networks: Networks) -> str:
    """Equal for networks whose weights are equal to the bit, once nothing is merged into them any more."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    model, clip, vae = networks
    parts = (model.model, clip.cond_stage_model, vae.first_stage_model)
    return "".join(digest(network.state_dict()) for network in parts)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Equal for equal names, bits, shapes and types."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def draw(networks: Networks, start: Tensor | None = None, steps: int = 3) -> Tensor:
    """IMAGE by the host's own road, as of a KSampler and a VAE Decode: from noise, or from latents to which none is added."""
    import comfy.samplers
    from comfy.k_diffusion import sampling

    class Euler(comfy.samplers.Sampler):
        def sample(self, *given: Any, **keywords: Any) -> Tensor:
            model, sigmas, extra, _, noise, latents, *_ = given
            levels = model.inner_model.model_sampling
            x = levels.noise_scaling(sigmas[0], noise, latents, self.max_denoise(model, sigmas))
            return levels.inverse_noise_scaling(sigmas[-1], sampling.sample_euler(model, x, sigmas, extra))

    model, clip, vae = networks
    channels = model.get_model_object("latent_format").latent_channels
    latents = torch.zeros(1, channels, 8, 8) if start is None else model.model.process_latent_in(start)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(4)) * (start is None)
    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*(clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a cat", "")))
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        picture: Tensor = vae.decode(guider.sample(noise, latents, Euler(), sigmas))
    return picture
