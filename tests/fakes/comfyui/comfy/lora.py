"""Stand-in of `comfy.lora`: which weight a name in a LoRA file means, and what the LoRA adds to it."""

from __future__ import annotations

import logging
from typing import Any

import comfy.utils
from torch import Tensor


def model_lora_keys_unet(model: Any, key_map: dict[str, str]) -> dict[str, str]:
    """kohya's names -> the model's: the original ones, and for a U-Net those of diffusers."""
    own = [name for name in model.state_dict() if name.startswith("diffusion_model.") and name.endswith(".weight")]
    names = {name.removeprefix("diffusion_model."): name for name in own}
    for theirs, ours in comfy.utils.unet_to_diffusers(model.model_config.unet_config).items():
        if theirs.endswith(".weight"):
            names[theirs] = f"diffusion_model.{ours}"
    for name, key in names.items():
        key_map["lora_unet_" + name.removesuffix(".weight").replace(".", "_")] = key
    return key_map


def load_lora(lora: dict[str, Tensor], to_load: dict[str, str]) -> dict[str, Any]:
    """Patches by the model's names: ("diff", (what is added to the weight,))."""
    patches, used = {}, set[str]()
    for name, key in to_load.items():
        up, down, alpha = (lora.get(f"{name}.{part}") for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        if up is None or down is None:
            continue
        scale = 1.0 if alpha is None else float(alpha) / len(down)
        added = scale * (up.flatten(1).float() @ down.flatten(1).float())
        patches[key] = ("diff", (added.reshape(len(up), *down.shape[1:]),))
        used |= {f"{name}.{part}" for part in ("lora_up.weight", "lora_down.weight", "alpha")}
    for name in lora.keys() - used:
        logging.warning("lora key not loaded: %s", name)
    return patches
