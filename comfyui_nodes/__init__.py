"""The ComfyUI door's room: everything that says `comfy`. Nodes hold schema and wiring; the work is in `core`."""
