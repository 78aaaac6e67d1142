"""Makes tests/core/refl/checkpoint_keys.json: the tensors of a checkpoint file as the real ComfyUI writes and reads them.

    COMFYUI_PYTHON tests/reference/checkpoint_keys.py PATH_TO_COMFYUI

ComfyUI's own modules are built on the meta device, and named by the functions that its CheckpointSave node names them with.
Each group of keys becomes a count and the SHA-256 of its lines "key shape".
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "core" / "refl" / "checkpoint_keys.json"
# The sizes of the three U-Nets, in ComfyUI's own words (what its detection finds in the published files).
PLAIN = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True,
    "legacy": False, "use_temporal_attention": False, "use_temporal_resblock": False, "adm_in_channels": None,
}  # fmt: skip
FOUR_LEVELS = {
    "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_middle": 1, "transformer_depth_output": [1] * 9 + [0] * 3,
}  # fmt: skip
UNETS: dict[str, dict[str, Any]] = {
    "sd1": PLAIN | FOUR_LEVELS | {"use_linear_in_transformer": False, "context_dim": 768, "num_heads": 8},
    "sd2": PLAIN | FOUR_LEVELS | {"use_linear_in_transformer": True, "context_dim": 1024, "num_head_channels": 64},
    "sdxl": PLAIN
    | {
        "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10, "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3,
        "use_linear_in_transformer": True, "context_dim": 2048, "num_head_channels": 64, "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
}  # fmt: skip
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def fingerprints(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Group of keys -> "count SHA-256" of its sorted lines "key shape"."""
    groups: dict[str, list[str]] = {}
    for key, tensor in tensors.items():
        name = ".".join(key.split(".")[:3])
        groups.setdefault(name, []).append(f"{key} {tuple(tensor.shape)}")
    return {
        name: f"{len(lines)} {hashlib.sha256(chr(10).join(sorted(lines)).encode()).hexdigest()}"
        for name, lines in sorted(groups.items())
    }


def checkpoint_of(kind: str) -> dict[str, Any]:
    import comfy.supported_models as models
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {"sd1": models.SD15, "sd2": models.SD20, "sdxl": models.SDXL}[kind](UNETS[kind])
    with torch.device("meta"):
        model = config.get_model({}, "", device="meta")
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
        text = config.clip_target().clip(device="meta", dtype=torch.float32, model_options={})
    return model.state_dict_for_saving(model.diffusion_model.state_dict(), text.state_dict(), vae.state_dict())


def without_what_nobody_reads(tensors: dict[str, Any], kind: str) -> dict[str, Any]:
    """ComfyUI makes these anew where a file lacks them, or never runs them; a diffusers pipeline has them not.

    SD2 takes the last but one layer of its text encoder, so diffusers leaves the last one and the projection out.
    """
    unread = ("logit_scale", "position_ids", "embedders.0.transformer.text_projection.weight")
    if kind == "sd2":
        unread = (*unread, "cond_stage_model.model.text_projection")
    last = "cond_stage_model.model.transformer.resblocks.23."
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(unread) and not key.startswith(last)}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    made = {kind: fingerprints(without_what_nobody_reads(checkpoint_of(kind), kind)) for kind in UNETS}
    TARGET.write_text(json.dumps(made, indent=1) + "\n")
