"""Training under dynamic VRAM, the default of newer ComfyUI on NVIDIA and ROCm.

There a weight is a view into a page, and the page may leave between a forward pass and its backward pass. Training works on a
second copy of the network, whose weights stay where they are put; the host's loader reads it from the file once more, and it
is gone when the run ends. LoRAs, options and object patches of the MODEL come along.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...core.errors import ImageRewardError

_OFF = "or start ComfyUI with --disable-dynamic-vram"
_LOADERS = {
    "MODEL": "'Load Checkpoint' or 'Load Diffusion Model'",
    "VAE": "'Load Checkpoint', or 'Load VAE' with a file that is neither a TAESD nor pixel_space",
}


def standing(model: ModelPatcher, vae: Any) -> tuple[ModelPatcher, Any]:
    """MODEL and VAE with weights that stay on their device: themselves, or copies of what is under dynamic VRAM.

    Call it outside inference mode. Raises ImageRewardError where a copy cannot be made; nothing was loaded then.
    """
    kinds = {"MODEL": model, "VAE": vae.patcher}
    for kind, patcher in kinds.items():
        if is_dynamic(patcher):
            _expect_a_copy_can_be_made(kind, patcher)
    return _standing_model(model), _standing_vae(vae)


def is_dynamic(patcher: Any) -> bool:
    """Whether its weights come and go."""
    return bool(patcher.is_dynamic())


def recast(network: nn.Module, otherwise: torch.dtype) -> None:
    """Each weight to the type that the host computes it in, else to `otherwise`. One at a time, for the sake of the peak.

    The fresh copy has the file's types: a dynamic patcher casts whatever it brings to the device, the plain one does not.
    Quantised weights, which are of classes of their own, stay as they are.
    """
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            if type(weight) is nn.Parameter and weight.is_floating_point():
                cast = weight.detach().to(_dtype_of(module, name, otherwise))
                setattr(module, name, nn.Parameter(cast, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.to(_dtype_of(module, name, buffer.dtype)))


def _dtype_of(module: nn.Module, name: str, otherwise: torch.dtype) -> torch.dtype:
    return getattr(module, f"{name}_comfy_model_dtype", None) or otherwise


def _standing_model(model: ModelPatcher) -> ModelPatcher:
    if not is_dynamic(model):
        return model
    twin = _loaded_again("MODEL", model)
    recast(twin.model, getattr(twin.model, "manual_cast_dtype", None) or twin.model.get_dtype())
    return twin


def _standing_vae(vae: Any) -> Any:
    if not is_dynamic(vae.patcher):
        return vae
    twin = copy.copy(vae)
    twin.patcher = _loaded_again("VAE", vae.patcher)
    twin.first_stage_model = twin.patcher.model
    recast(twin.first_stage_model, vae.vae_dtype)
    return twin


def _loaded_again(kind: str, patcher: Any) -> ModelPatcher:
    try:
        twin: ModelPatcher = patcher.clone(disable_dynamic=True)
        return twin
    except OSError as error:
        raise ImageRewardError(
            f"Training under dynamic VRAM loads the {kind} a second time, and its file is no longer readable ({error}): put "
            f"it back, {_OFF}."
        ) from error


def _expect_a_copy_can_be_made(kind: str, patcher: Any) -> None:
    if "disable_dynamic" not in inspect.signature(patcher.clone).parameters:
        raise ImageRewardError(
            f"The {kind} is under the experimental dynamic VRAM of this ComfyUI, which cannot be trained on: start ComfyUI "
            "without --fast dynamic_vram, or update it."
        )
    if patcher.cached_patcher_init is None:
        raise ImageRewardError(
            f"Training under dynamic VRAM loads the {kind} a second time, and the node that loaded it does not say how: load "
            f"it with {_LOADERS[kind]} (loaders for GGUF and of other packs may not do), {_OFF}."
        )
    if getattr(patcher, "injections", None):
        raise ImageRewardError(
            f"The {kind} has code injected into it, such as a LoRA in bypass mode, which training under dynamic VRAM would "
            f"leave out: switch 'bypass' off, connect the {kind} from before that node, {_OFF}."
        )
