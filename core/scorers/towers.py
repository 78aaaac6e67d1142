"""Image towers: loaded once for all scorers of a file, run once a picture, freed when the last user goes."""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..networks.derivatives import derivative_wanted
from ..weights.fork_safe import ForkSafeLock
from .base import Scorer, ScorerInfo
from .cache import FeatureCache, computation

N = TypeVar("N", bound=nn.Module)
N_co = TypeVar("N_co", bound=nn.Module, covariant=True)
Memo = dict[tuple[int, int], tuple[Tensor, Tensor]]

_towers: weakref.WeakValueDictionary[tuple[object, ...], Tower[nn.Module]] = weakref.WeakValueDictionary()
_registry_lock = ForkSafeLock()
_sharers: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("sharers", default=())
_memo: contextvars.ContextVar[Memo | None] = contextvars.ContextVar("memo", default=None)


class Tower(Generic[N_co]):
    """A network and the features it computed lately. Scorers hold it; nothing else does.

    compute: prepared pixels -> features, with the weights of `network` alone; the network itself if None.
    """

    def __init__(self, network: N_co, compute: Callable[[Tensor], Tensor] | None = None) -> None:
        self.network = network
        self.compute: Callable[[Tensor], Tensor] = compute or network
        self.cache = FeatureCache()

    def features(self, prepared: Tensor) -> Tensor:
        """(B, 3, S, S) prepared pixels in [0, 1] -> what the network makes of them.

        From the cache where no derivative is wanted, in pixels or weights; with one, once for each tensor within `one_batch`.
        """
        weights = [*self.network.parameters(), *self.network.buffers()]
        if not any(map(derivative_wanted, (prepared, *weights))):
            return self.cache.features(prepared, self.compute, computation(weights, prepared.device))
        memo = _memo.get()
        if memo is None:
            return self.compute(prepared)
        key = (id(self), id(prepared))
        if key not in memo:
            memo[key] = (prepared, self.compute(prepared))  # the tensor is kept, so that its id stays its own
        return memo[key][1]


class TowerScorer(Scorer):
    """A scorer that looks at pictures through a tower, and scores the tower's features."""

    def __init__(self, info: ScorerInfo, network: nn.Module, tower: Tower[nn.Module], input_size: int | None) -> None:
        super().__init__(info, network, input_size)
        self._tower: Tower[nn.Module] | None = tower

    @property
    def tower(self) -> Tower[nn.Module]:
        self._require_loaded()
        assert self._tower is not None
        return self._tower

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        if self._count(pixels, prompts) == 0:
            return torch.zeros(0, dtype=torch.float32, device=self.device)
        with self.lock:
            return self.score_features(self.image_features(pixels), prompts)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels -> (B, ...) features; from the cache where no derivative is wanted."""
        return self.tower.features(self.prepare(pixels))

    @abstractmethod
    def score_features(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, ...) features and B prompts -> (B,) float32."""

    def feature_caches(self) -> Sequence[FeatureCache]:
        return () if self._tower is None else (self._tower.cache,)

    def drop_network(self) -> None:
        super().drop_network()
        self._tower = None  # freed with its last user


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
