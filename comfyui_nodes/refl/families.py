"""What kind of model a MODEL is, what ReFL can do with it, and what its layers are called in LoRA files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_base
import comfy.utils
from torch import nn

from ...core.errors import ImageRewardError

NATIVE = {"sd1": 512, "sd2": 768, "sdxl": 1024, "sd3": 1024, "flux": 1024}
EXPERIMENTAL = ("sd3", "flux")


def family_of(model: Any) -> str:
    """One of sd1, sd2, sdxl, sd3, flux; other models are refused. `model`: a comfy.model_base.BaseModel."""
    kind = type(model).__name__
    config = model.model_config.unet_config
    if isinstance(model, comfy.model_base.SDXL):
        family = "sdxl"
    elif type(model) is comfy.model_base.BaseModel and "context_dim" in config:
        family = "sd2" if config.get("use_linear_in_transformer") else "sd1"
    elif type(model) is comfy.model_base.SD3:
        family = "sd3"
    elif type(model) is comfy.model_base.Flux:  # not its descendants (Chroma, Flux.2, ...), which sample in other ways
        family = "flux"
    else:
        raise ImageRewardError(
            f"Expected a text-to-image model of the kind SD1.x, SD2.x, SDXL, SD3 or Flux.1, got {kind}, which cannot be "
            "trained here."
        )
    if config["in_channels"] != model.latent_format.latent_channels:
        raise ImageRewardError(
            f"The model takes {config['in_channels']} channels, its latents have {model.latent_format.latent_channels}: "
            "inpainting and instruct models cannot be tuned from prompts alone; take the plain text-to-image model."
        )
    return family


def predicts_velocity(model: Any) -> bool:
    return bool(model.model_type == comfy.model_base.ModelType.V_PREDICTION)


def signal_to_noise(model: Any, sigma: float) -> float:
    """alpha^2 / sigma^2 at a noise level of ComfyUI's: x0 + sigma * noise, or (1 - sigma) * x0 + sigma * noise of flows."""
    return ((1 - sigma) / sigma) ** 2 if is_flow(model) else sigma**-2


def is_flow(model: Any) -> bool:
    return model.model_type in {getattr(comfy.model_base.ModelType, name, None) for name in ("FLOW", "FLUX")}


def layers_of(model: Any) -> Mapping[str, nn.Module]:
    """Linear and convolution layers by the names that LoRA files give them.

    A U-Net's are the diffusers names, for which ComfyUI has a table. A transformer's are its own: kohya's trainers use
    the original names of SD3 and Flux, and so does ComfyUI when it loads `lora_unet_...` keys.
    """
    if isinstance(model, comfy.model_base.SD3 | comfy.model_base.Flux):
        return {name: module for name, module in model.diffusion_model.named_modules() if _is_layer(module)}
    names = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
    modules = dict(model.diffusion_model.named_modules())
    ours = {
        key.removesuffix(".weight"): own.removesuffix(".weight")
        for key, own in names.items()
        if key.endswith(".weight")
    }
    return {name: modules[own] for name, own in ours.items() if _is_layer(modules.get(own))}


def _is_layer(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Linear | nn.Conv2d)
