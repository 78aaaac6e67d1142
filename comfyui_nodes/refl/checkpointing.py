"""Gradient checkpointing (arXiv 1604.06174) of ComfyUI's blocks: recompute activations instead of keeping them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from . import forwards

# Blocks that are big enough to be worth it and small enough to fit again.
_BLOCKS = (
    ("comfy.ldm.modules.diffusionmodules.openaimodel", "ResBlock"),
    ("comfy.ldm.modules.attention", "BasicTransformerBlock"),
    ("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock"),
    ("comfy.ldm.flux.layers", "DoubleStreamBlock"),
    ("comfy.ldm.flux.layers", "SingleStreamBlock"),
    ("comfy.ldm.modules.diffusionmodules.model", "ResnetBlock"),
    ("comfy.ldm.modules.diffusionmodules.model", "AttnBlock"),
)


def switch_on(network: nn.Module) -> None:
    forwards.cover(network, _BLOCKS, _recomputing)


def switch_off(network: nn.Module) -> None:
    forwards.uncover(network, _recomputing)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **keywords)
        # The host counts blocks up in these dictionaries on its way: the second pass must see what the first one saw.
        frozen = {name: dict(value) if isinstance(value, dict) else value for name, value in keywords.items()}
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **frozen)

    return wrapper
