"""Stand-in of ComfyUI's `comfy.model_patcher`: moves a network, whole or in part, and knows how much of it is loaded.

Patches are put into the weights at loading and taken out when the network leaves, as the real one does it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor


class ModelPatcher:
    def __init__(
        self,
        model: Any,  # a torch.nn.Module with attributes of the host's
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        self.model = model
        self.load_device, self.offload_device, self.size = load_device, offload_device, size
        self.patches: dict[str, list[tuple[float, Any]]] = {}
        self.backup: dict[str, Tensor] = {}
        self.object_patches: dict[str, Any] = {}
        self.object_patches_backup: dict[str, Any] = {}
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.callbacks: dict[str, list[Callable[..., None]]] = {}
        self.wrappers: dict[str, list[Callable[..., Any]]] = {}
        if not hasattr(self.model, "model_loaded_weight_memory"):
            self.model.model_loaded_weight_memory = 0

    def is_dynamic(self) -> bool:
        return False

    def model_size(self) -> int:
        return comfy.model_management.module_size(self.model)

    def loaded_size(self) -> int:
        return int(self.model.model_loaded_weight_memory)

    def clone(self) -> ModelPatcher:
        """Another view of the same network, with patches and options of its own."""
        made = type(self)(self.model, self.load_device, self.offload_device, self.size)
        made.patches = {name: list(patches) for name, patches in self.patches.items()}
        made.object_patches = dict(self.object_patches)
        made.model_options = _copied(self.model_options)
        made.backup, made.object_patches_backup = self.backup, self.object_patches_backup
        made.callbacks = {kind: list(given) for kind, given in self.callbacks.items()}
        made.wrappers = {kind: list(given) for kind, given in self.wrappers.items()}
        return made

    def is_clone(self, other: Any) -> bool:
        return self.model is getattr(other, "model", None)

    # what lies over the network

    def add_callback(self, call_type: str, callback: Callable[..., None]) -> None:
        self.callbacks.setdefault(call_type, []).append(callback)

    def add_wrapper(self, wrapper_type: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(wrapper_type, []).append(wrapper)

    def get_all_wrappers(self, wrapper_type: str) -> list[Callable[..., Any]]:
        return self.wrappers.get(wrapper_type, [])

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Callable[..., Tensor]) -> None:
        self.model_options["model_function_wrapper"] = unet_wrapper_function

    def add_object_patch(self, name: str, obj: Any) -> None:
        self.object_patches[name] = obj

    def set_model_compute_dtype(self, dtype: torch.dtype | None) -> None:
        self.add_object_patch("manual_cast_dtype", dtype)

    def get_model_object(self, name: str) -> Any:
        return self.object_patches[name] if name in self.object_patches else comfy.utils.get_attr(self.model, name)

    def model_dtype(self) -> torch.dtype | None:
        dtype: torch.dtype | None = self.model.get_dtype() if hasattr(self.model, "get_dtype") else None
        return dtype

    def add_patches(
        self, patches: dict[str, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        """Names that the network has. A patch: ("diff", (what is added to the weight,))."""
        known = [name for name in patches if name in self.model.state_dict()]
        for name in known:
            self.patches.setdefault(name, []).append((strength_patch, patches[name]))
        return known

    # loading

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
            self._patch_weights()
            return
        for layer in self.model.modules():
            size = _own_size(layer)
            if hasattr(layer, "comfy_cast_weights") and self.loaded_size() + size <= lowvram_model_memory:
                layer.to(device_to)
                self.model.model_loaded_weight_memory += size

    def _patch_weights(self) -> None:
        for name, patches in self.patches.items():
            if name in self.backup:
                continue
            weight = comfy.utils.get_attr(self.model, name)
            self.backup[name] = weight
            patched = weight.detach().clone()
            for strength, (_, (added,)) in patches:
                patched += strength * added.to(patched)
            comfy.utils.set_attr(self.model, name, torch.nn.Parameter(patched, requires_grad=False))

    def patch_model(self, device_to: torch.device | None = None, load_weights: bool = True) -> torch.nn.Module:
        for name, value in self.object_patches.items():
            self.object_patches_backup.setdefault(name, comfy.utils.get_attr(self.model, name))
            comfy.utils.set_attr(self.model, name, value)
        if load_weights:
            self.load(device_to, full_load=True)
        network: torch.nn.Module = self.model
        return network

    def unpatch_model(self, device_to: torch.device | None = None, unpatch_weights: bool = True) -> None:
        for saved in (self.backup, self.object_patches_backup):
            for name, value in saved.items():
                comfy.utils.set_attr(self.model, name, value)
            saved.clear()
        self.model.to(device_to)
        self.model.model_loaded_weight_memory = 0

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> float:
        before = self.loaded_size()
        if before == self.model_size() and before and not force_patch_weights:
            return 0
        self.patch_model(load_weights=False)
        room = before + extra_memory
        self.load(device_to, room, force_patch_weights, full_load=room > self.model_size())
        return self.loaded_size() - before

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False
    ) -> float:
        """Layers of the host's own, one by one; a network of plain torch layers can only leave whole."""
        freed = 0
        for layer in self.model.modules():
            if freed >= memory_to_free:
                break
            if hasattr(layer, "comfy_cast_weights"):
                layer.to(device_to)
                freed += _own_size(layer)
        self.model.model_loaded_weight_memory = max(self.loaded_size() - freed, 0)
        return freed

    def detach(self, unpatch_all: bool = True) -> torch.nn.Module:
        if unpatch_all:
            self.unpatch_model(self.offload_device)
        for callback in self.callbacks.get(CallbacksMP.ON_DETACH, []):
            callback(self, unpatch_all)
        network: torch.nn.Module = self.model
        return network


def _copied(options: Any) -> Any:
    """Lists and dictionaries anew, what they hold as it is."""
    if isinstance(options, dict):
        return {name: _copied(value) for name, value in options.items()}
    return copy.copy(options) if isinstance(options, list) else options


def _own_size(layer: torch.nn.Module) -> int:
    """Bytes of the weights that are its own, not those of the modules in it."""
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    return sum(tensor.nelement() * tensor.element_size() for tensor in own)
