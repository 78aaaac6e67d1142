"""Networks under ComfyUI's memory management, made fit for a backward pass and given back as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management as model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...core.errors import OutOfMemory


def hold(patchers: Sequence[ModelPatcher], activations: int) -> None:
    """Bring all networks whole to their devices, with room for `activations` bytes, frozen and fit for autograd.

    One call for all of them: ComfyUI makes room once, and none of them pushes out another.
    """
    model_management.load_models_gpu(list(patchers), memory_required=activations, force_full_load=True)
    for patcher in patchers:
        _expect_whole(patcher)
        make_trainable(patcher.model)


def are_held(patchers: Sequence[ModelPatcher]) -> bool:
    """Are all of them still where `hold` brought them? Nobody else loads models while a node runs, but be sure."""
    loaded = [one.model for one in model_management.current_loaded_models]
    return all(any(one is patcher for one in loaded) and not _away(patcher) for patcher in patchers)


def release(patcher: ModelPatcher) -> None:
    """Take one network back off its device, patches undone, as ComfyUI does when it needs the room."""
    for loaded in list(model_management.current_loaded_models):
        if loaded.model is not None and (loaded.model is patcher or patcher.is_clone(loaded.model)):
            model_management.current_loaded_models.remove(loaded)
            loaded.model_unload()


def make_trainable(network: nn.Module) -> None:
    """Freeze a network, and replace tensors born under inference mode by equal ones that autograd may keep.

    One tensor at a time, so that the peak grows by the largest of them alone.
    """
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(False)
            if _is_tainted(parameter):
                setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            if _is_tainted(buffer):
                module._buffers[name] = buffer.clone()


@contextmanager
def training_mode() -> Iterator[None]:
    """Nodes run under inference mode, in which nothing can be saved for a backward pass.

    Newer hosts have a switch besides, which puts differentiable code in place of their fused kernels.
    """
    before = getattr(model_management, "in_training", None)
    with torch.inference_mode(False), torch.enable_grad():
        try:
            if before is not None:
                model_management.in_training = True
            yield
        finally:
            if before is not None:
                model_management.in_training = before


@contextmanager
def explained_memory(advice: str) -> Iterator[None]:
    """Out of memory, in words that name what to turn."""
    try:
        yield
    except model_management.OOM_EXCEPTION as error:
        raise OutOfMemory(f"Out of memory: {advice} ({str(error).splitlines()[0]})") from error


def _is_tainted(tensor: Tensor) -> bool:
    """Moving an inference tensor outside inference mode hides the mark, but the version counter stays missing."""
    if tensor.is_inference():
        return True
    try:
        return tensor._version < 0
    except RuntimeError:
        return True


def _away(patcher: ModelPatcher) -> list[str]:
    """Names of the parameters that are not on the network's device."""
    device = torch.device(patcher.load_device)
    return [name for name, parameter in patcher.model.named_parameters() if parameter.device.type != device.type]


def _expect_whole(patcher: ModelPatcher) -> None:
    away = _away(patcher)
    if away:
        raise OutOfMemory(
            f"{type(patcher.model).__name__} is only partly on {patcher.load_device} ({len(away)} tensors are not, such as "
            f"{away[0]}), and a network loaded in part cannot be trained. Start ComfyUI without --lowvram and --novram, "
            "close other programs that use the graphics memory, or take a smaller model, reward model (fp16) or resolution."
        )
