"""Stand-in of ComfyUI's `comfy.model_management`: what our nodes use, on the CPU, with a record of what was asked."""

from __future__ import annotations

from typing import Any

import torch


class InterruptProcessingException(Exception):
    pass


OOM_EXCEPTION = torch.cuda.OutOfMemoryError

interrupted = False
current_loaded_models: list[Any] = []
requests: list[dict[str, Any]] = []  # of `load_models_gpu`
cpu = torch.device("cpu")


def reset() -> None:
    global interrupted
    interrupted = False
    current_loaded_models.clear()
    requests.clear()


def get_torch_device() -> torch.device:
    return cpu


def unet_offload_device() -> torch.device:
    return cpu


def load_models_gpu(
    models: list[Any],
    memory_required: float = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: float | None = None,
    force_full_load: bool = False,
) -> None:
    requests.append({"models": models, "memory_required": memory_required, "force_full_load": force_full_load})
    for model in models:
        model.partially_load(model.load_device, 1e32, force_patch_weights=force_patch_weights)
        if model not in current_loaded_models:
            current_loaded_models.insert(0, model)


def unload_all_models() -> None:
    for model in current_loaded_models:
        model.detach()
    current_loaded_models.clear()


def throw_exception_if_processing_interrupted() -> None:
    global interrupted
    if interrupted:
        interrupted = False
        raise InterruptProcessingException()
