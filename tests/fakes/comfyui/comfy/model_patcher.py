"""Stand-in of ComfyUI's `comfy.model_patcher`: moves a network whole, and knows how much of it is loaded."""

from __future__ import annotations

from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP


class ModelPatcher:
    def __init__(
        self,
        model: torch.nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        self.model: Any = model
        self.load_device, self.offload_device, self.size = load_device, offload_device, size
        self.model.model_loaded_weight_memory = 0
        self.callbacks: dict[str, list[Any]] = {}

    def add_callback(self, call_type: str, callback: Any) -> None:
        self.callbacks.setdefault(call_type, []).append(callback)

    def model_size(self) -> int:
        return sum(tensor.nelement() * tensor.element_size() for tensor in self.model.state_dict().values())

    def loaded_size(self) -> int:
        return int(self.model.model_loaded_weight_memory)

    def load(
        self,
        device_to: torch.device | None = None,
        lowvram_model_memory: float = 0,
        force_patch_weights: bool = False,
        full_load: bool = False,
    ) -> None:
        """As the real one, which leaves plain torch layers behind unless it is told to load all."""
        if full_load:
            self.model.to(device_to)
            self.model.model_loaded_weight_memory = self.model_size()

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> float:
        self.load(device_to, extra_memory, force_patch_weights)
        return self.loaded_size()

    def partially_unload(self, device_to: torch.device, memory_to_free: float = 0) -> float:
        self.model.model_loaded_weight_memory -= memory_to_free
        return memory_to_free

    def detach(self, unpatch_all: bool = True) -> torch.nn.Module:
        self.model.to(self.offload_device)
        self.model.model_loaded_weight_memory = 0
        for callback in self.callbacks.get(CallbacksMP.ON_DETACH, []):
            callback(self, unpatch_all)
        return self.model
