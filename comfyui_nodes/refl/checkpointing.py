"""Gradient checkpointing (arXiv 1604.06174) of ComfyUI's blocks: recompute activations instead of keeping them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

# Blocks that are big enough to be worth it and small enough to fit again, where this ComfyUI has them.
_BLOCKS = (
    ("comfy.ldm.modules.diffusionmodules.openaimodel", "ResBlock"),
    ("comfy.ldm.modules.attention", "BasicTransformerBlock"),
    ("comfy.ldm.modules.diffusionmodules.model", "ResnetBlock"),
    ("comfy.ldm.modules.diffusionmodules.model", "AttnBlock"),
)


def switch_on(network: nn.Module) -> None:
    switch_off(network)
    kinds = tuple(_kinds())
    for module in network.modules():
        if isinstance(module, kinds):
            module.forward = _recomputing(module.forward)  # on the instance, over the class's method


def switch_off(network: nn.Module) -> None:
    for module in network.modules():
        if getattr(module.__dict__.get("forward"), "is_recomputing", False):
            del module.forward


def _kinds() -> Iterator[type[nn.Module]]:
    for module, name in _BLOCKS:
        try:
            yield getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **keywords)
        # The host counts blocks up in these dictionaries on its way: the second pass must see what the first one saw.
        frozen = {name: dict(value) if isinstance(value, dict) else value for name, value in keywords.items()}
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **frozen)

    wrapper.is_recomputing = True  # type: ignore[attr-defined]
    return wrapper
