"""ComfyUI's blocks made fit for training: a function over the `forward` of each, put on for a while and taken off again."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

Forward = Callable[..., Any]
Cover = Callable[[Forward], Forward]
Names = Iterable[tuple[str, str]]  # (module, class); those that this ComfyUI lacks are passed over

# Big enough to be worth recomputing, small enough to fit again. Those of the networks are in `core.refl.families`.
VAE_BLOCKS = (
    ("comfy.ldm.modules.diffusionmodules.model", "ResnetBlock"),
    ("comfy.ldm.modules.diffusionmodules.model", "AttnBlock"),
)


def cover(network: nn.Module, blocks: Names, make: Cover) -> None:
    """Put `make(forward)` over each block's forward. `make` must set `__wrapped__`, as functools.wraps does."""
    uncover(network, make)
    kinds = tuple(_kinds(blocks))
    for module in network.modules():
        if isinstance(module, kinds):
            covered = make(module.forward)
            covered.cover = make  # type: ignore[attr-defined]
            module.forward = covered  # on the instance, over the class's method


def uncover(network: nn.Module, make: Cover) -> None:
    """Take off what `cover` put on; what lies below it stays. Nothing may have been put over it since."""
    for module in network.modules():
        covered = module.__dict__.get("forward")
        if covered is None or getattr(covered, "cover", None) is not make:
            continue
        below = covered.__wrapped__
        if inspect.ismethod(below):
            del module.forward
        else:
            module.forward = below


def _kinds(blocks: Names) -> Iterator[type[nn.Module]]:
    for module, name in blocks:
        try:
            yield getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue


def recomputing(forward: Forward) -> Forward:
    """A cover: gradient checkpointing (arXiv 1604.06174), which recomputes activations instead of keeping them."""

    @wraps(forward)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **keywords)
        # The host counts blocks up in these dictionaries on its way: the second pass must see what the first one saw.
        frozen: dict[str, Any] = {
            name: dict(value) if isinstance(value, dict) else value for name, value in keywords.items()
        }
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **frozen)

    return wrapper


def differentiable(forward: Forward) -> Forward:
    """A cover: for blocks that work in place, or with kernels that have no gradient.

    Around each block and not around a whole step, as blocks are also run by the threads of the backward pass.
    """

    @wraps(forward)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **keywords)
        with _Differentiable():
            return forward(*args, **keywords)

    return wrapper


class _Differentiable(TorchFunctionMode):
    """Where autograd records, `a += b` makes a new `a`, as the old one is still needed: by a norm's backward pass, or to
    recompute the block. And rotary embeddings (arXiv 2104.09864) are applied by plain torch operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.add_ and any(isinstance(one, Tensor) and one.requires_grad for one in args):
            func = torch.add
        elif getattr(func, "_qualified_op_name", "") == "comfy_kitchen::apply_rope":
            func = _rotate_both
        return func(*args, **(kwargs or {}))


def _rotate_both(queries: Tensor, keys: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    return _rotate(queries, rotations), _rotate(keys, rotations)


def _rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Each pair of the last axis of x by its 2 x 2 matrix: (..., d) and (..., d / 2, 2, 2) -> (..., d)."""
    pairs = x.to(rotations.dtype).reshape(*x.shape[:-1], -1, 1, 2)
    return (rotations[..., 0] * pairs[..., 0] + rotations[..., 1] * pairs[..., 1]).flatten(-2).to(x.dtype)
