"""Which row of `core.refl.families` a MODEL is, and its layers by the names of LoRA files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_base
import comfy.utils
from torch import nn

from ...core.errors import ImageRewardError
from ...core.refl.families import COMFYUI_TITLES, FAMILIES, ComfyFamily, Family, fits


def family_of(model: Any) -> tuple[Family, ComfyFamily]:
    """The row, and what it says of ComfyUI; other models are refused. `model`: a comfy.model_base.BaseModel."""
    config = model.model_config.unet_config
    for family in FAMILIES.values():
        if family.comfyui is not None and _is_of(model, family.comfyui):
            _expect_plain(config["in_channels"], model.latent_format.latent_channels)
            return family, family.comfyui
    raise ImageRewardError(
        f"Expected a text-to-image model of the kind {COMFYUI_TITLES}, got {type(model).__name__}, which cannot be trained "
        "here."
    )


def _is_of(model: Any, family: ComfyFamily) -> bool:
    kind = getattr(comfy.model_base, family.model)
    same = isinstance(model, kind) if family.descendants else type(model) is kind
    return same and fits(model.model_config.unet_config, family.unet or {})


def _expect_plain(inputs: int, latents: int) -> None:
    if inputs != latents:
        raise ImageRewardError(
            f"The model takes {inputs} channels, its latents have {latents}: inpainting and instruct models cannot be tuned "
            "from prompts alone; take the plain text-to-image model."
        )


def layers_of(model: Any, family: Family) -> Mapping[str, nn.Module]:
    """Linear and convolution layers by the names that LoRA files give them.

    ComfyUI has a table of a U-Net's diffusers names. A transformer's are its own: kohya's trainers use the original names,
    and so does ComfyUI when it loads `lora_unet_...` keys.
    """
    modules = dict(model.diffusion_model.named_modules())
    if not family.layers.original_names:
        names = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
        weights = {theirs: own for theirs, own in names.items() if theirs.endswith(".weight")}
        modules = {
            # sorted, as ComfyUI's table comes out of sets: an order of its own in each process
            theirs.removesuffix(".weight"): modules.get(own.removesuffix(".weight"))
            for theirs, own in sorted(weights.items())
        }
    return {name: module for name, module in modules.items() if isinstance(module, nn.Linear | nn.Conv2d)}
