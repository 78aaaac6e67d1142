"""Puts a function over the `forward` of a host's blocks for a while, on the instances, and takes it off again."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

Forward = Callable[..., Any]
Cover = Callable[[Forward], Forward]
Names = Iterable[tuple[str, str]]  # (module, class); those that this ComfyUI lacks are passed over


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
        if getattr(covered, "cover", None) is not make:
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
