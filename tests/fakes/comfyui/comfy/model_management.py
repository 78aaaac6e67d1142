"""Stand-in of ComfyUI's `comfy.model_management`: what our nodes use, on the CPU, with a record of what was asked."""

from __future__ import annotations

import weakref
from enum import Enum
from typing import Any

import torch

_GIB = 2**30
EXTRA_RESERVED_VRAM = 0.4 * _GIB
DISABLE_SMART_MEMORY = False  # a network that must make room leaves whole


class VRAMState(Enum):
    NORMAL_VRAM = 3


class InterruptProcessingException(Exception):
    pass


OOM_EXCEPTION = torch.cuda.OutOfMemoryError

vram_state = VRAMState.NORMAL_VRAM
interrupted = False
in_training: bool  # newer hosts have it
requests: list[dict[str, Any]] = []  # of `load_models_gpu`
cpu = torch.device("cpu")


class LoadedModel:
    """A patcher in the list of those that lie on their devices. It holds on to none."""

    def __init__(self, model: Any) -> None:
        self._model, self.device = weakref.ref(model), model.load_device

    @property
    def model(self) -> Any:
        return self._model()

    def model_memory(self) -> int:
        return int(self.model.model_size())

    def model_loaded_memory(self) -> int:
        return int(self.model.loaded_size())

    def model_load(self, lowvram_model_memory: float = 0, force_patch_weights: bool = False) -> Any:
        room = lowvram_model_memory or 1e32
        self.model.partially_load(self.device, room, force_patch_weights=force_patch_weights)
        return self.model.model

    def model_unload(self, memory_to_free: float | None = None, unpatch_weights: bool = True) -> bool:
        """Whether it left whole."""
        if memory_to_free is not None and memory_to_free < self.model_loaded_memory():
            freed = self.model.partially_unload(self.model.offload_device, memory_to_free)
            if freed >= memory_to_free:
                return False
        self.model.detach(unpatch_weights)
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedModel) and self.model is other.model

    __hash__ = None  # type: ignore[assignment]  # as the host's, which defines `__eq__` alone


current_loaded_models: list[LoadedModel] = []


def reset() -> None:
    global interrupted
    interrupted = False
    current_loaded_models.clear()
    requests.clear()


def module_size(module: torch.nn.Module) -> int:
    return sum(tensor.nelement() * tensor.element_size() for tensor in module.state_dict().values())


def get_torch_device() -> torch.device:
    return cpu


def unet_offload_device() -> torch.device:
    return cpu


def text_encoder_device() -> torch.device:
    return cpu


def vae_device() -> torch.device:
    return get_torch_device()


def is_device_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


def extra_reserved_memory() -> float:
    return EXTRA_RESERVED_VRAM


def minimum_inference_memory() -> float:
    return 0.8 * _GIB + extra_reserved_memory()


def get_free_memory(dev: torch.device | None = None, torch_free_too: bool = False) -> Any:
    return (64 * _GIB, 0) if torch_free_too else 64 * _GIB


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return [one.model for one in current_loaded_models]


def free_memory(memory_required: float, device: torch.device, keep_loaded: Any = ()) -> list[LoadedModel]:
    """Networks leave until there is room, those first that were loaded last of all."""
    gone = []
    for one in reversed(list(current_loaded_models)):
        if one.model is None or one.device != device or one in keep_loaded:
            continue
        missing = 1e32 if DISABLE_SMART_MEMORY else memory_required - get_free_memory(device)
        if missing > 0 and one.model_unload(missing):
            gone.append(one)
    current_loaded_models[:] = [one for one in current_loaded_models if not any(one is each for each in gone)]
    return gone


def load_models_gpu(
    models: list[Any],
    memory_required: float = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: float | None = None,
    force_full_load: bool = False,
) -> None:
    requests.append({"models": models, "memory_required": memory_required, "force_full_load": force_full_load})
    current_loaded_models[:] = [one for one in current_loaded_models if one.model is not None]
    needed = max(minimum_inference_memory(), memory_required + extra_reserved_memory())
    loading = []
    for model in models:
        for other in [one for one in current_loaded_models if one.model is not model and model.is_clone(one.model)]:
            current_loaded_models.remove(other)
            other.model.detach()
        loading.append(next((one for one in current_loaded_models if one.model is model), LoadedModel(model)))
    for device in {one.device for one in loading}:
        if not is_device_cpu(device):
            missing = sum(one.model_memory() - one.model_loaded_memory() for one in loading if one.device == device)
            free_memory(1.1 * missing + needed, device)
    for one in loading:
        one.model_load(force_patch_weights=force_patch_weights)
        current_loaded_models[:] = [one, *(other for other in current_loaded_models if other is not one)]


def unload_all_models() -> None:
    for one in current_loaded_models:
        if one.model is not None:
            one.model_unload()
    current_loaded_models.clear()


def throw_exception_if_processing_interrupted() -> None:
    global interrupted
    if interrupted:
        interrupted = False
        raise InterruptProcessingException()
