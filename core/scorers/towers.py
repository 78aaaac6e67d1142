"""Towers that several scorers look through: loaded once, run once a picture, freed when the last user goes."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from .cache import FeatureCache, gradient_wanted

N = TypeVar("N", bound=nn.Module)
Memo = dict[tuple[int, int], tuple[Tensor, Tensor]]

_towers: weakref.WeakValueDictionary[tuple[object, ...], Tower[nn.Module]] = weakref.WeakValueDictionary()
_registry_lock = threading.Lock()
_sharers: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("sharers", default=())
_memo: contextvars.ContextVar[Memo | None] = contextvars.ContextVar("memo", default=None)


class Tower(Generic[N]):
    """A network and the features it computed lately. Scorers hold it; nothing else does."""

    def __init__(self, network: N) -> None:
        self.network = network
        self.cache = FeatureCache()

    def features(self, prepared: Tensor) -> Tensor:
        """(B, 3, S, S) prepared pixels in [0, 1] -> what the network makes of them.

        From the cache where no gradient is wanted; with one, once for each tensor within `one_batch`.
        """
        if not gradient_wanted(prepared, self.network):
            return self.cache.features(prepared, self.network)
        memo = _memo.get()
        if memo is None:
            return self.network(prepared)
        key = (id(self), id(prepared))
        if key not in memo:
            memo[key] = (prepared, self.network(prepared))  # the tensor is kept, so that its id stays its own
        return memo[key][1]


@contextlib.contextmanager
def one_batch() -> Iterator[None]:
    """Within it, scorers that look at the same prepared tensor through the same tower share its features and their graph."""
    token = _memo.set({})
    try:
        yield
    finally:
        _memo.reset(token)


@contextlib.contextmanager
def towers_shared_by(*sharers: object) -> Iterator[None]:
    """Towers built within are shared only with those built under equal `sharers`."""
    token = _sharers.set(sharers)
    try:
        yield
    finally:
        _sharers.reset(token)


def shared_tower(
    part: str, path: Path | None, device: torch.device, dtype: torch.dtype, build: Callable[[], N]
) -> Tower[N]:
    """The tower of a checkpoint file that is in memory, or a new one. part: which of the file's towers, and its activation."""
    if path is None:
        return Tower(build())
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, part, str(device), str(dtype), _sharers.get())
    with _registry_lock:
        tower = _towers.get(key)
        if tower is None:
            tower = Tower(build())
            _towers[key] = tower
    return tower  # type: ignore[return-value]
