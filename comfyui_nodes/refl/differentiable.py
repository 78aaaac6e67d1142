"""Flux's blocks made fit for a backward pass: ComfyUI's work in place, and with kernels that have no gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from . import forwards

_BLOCKS = (("comfy.ldm.flux.layers", "DoubleStreamBlock"), ("comfy.ldm.flux.layers", "SingleStreamBlock"))


def switch_on(network: nn.Module) -> None:
    forwards.cover(network, _BLOCKS, _differentiable)


def switch_off(network: nn.Module) -> None:
    forwards.uncover(network, _differentiable)


def _differentiable(forward: Callable[..., Any]) -> Callable[..., Any]:
    # Around each block and not around a whole step, as blocks are also run by the threads of the backward pass.
    @wraps(forward)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **keywords)
        with _Differentiable():
            return forward(*args, **keywords)

    return wrapper


class _Differentiable(TorchFunctionMode):
    """Where autograd looks on, `a += b` makes a new `a`, as the old one is still needed: by a norm's backward pass, or to
    recompute the block. And rotary embeddings (arXiv 2104.09864) are turned by plain torch operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.add_ and any(isinstance(one, Tensor) and one.requires_grad for one in args):
            func = torch.add
        elif getattr(func, "_qualified_op_name", "") == "comfy_kitchen::apply_rope":
            func = _rotate_both
        return func(*args, **(kwargs or {}))


def _rotate_both(queries: Tensor, keys: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    return _rotate(queries, turns), _rotate(keys, turns)


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Each pair of the last axis of x by its 2 x 2 matrix: (..., d) and (..., d / 2, 2, 2) -> (..., d)."""
    pairs = x.to(turns.dtype).unflatten(-1, (-1, 1, 2))
    return (turns[..., 0] * pairs[..., 0] + turns[..., 1] * pairs[..., 1]).flatten(-2).to(x.dtype)
