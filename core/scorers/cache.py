"""Image features by content: another prompt for the same picture costs the text side alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

Key = tuple[int, int, str]  # 128 bits of a picture, and the device its features are on
DEFAULT_BYTES = 64 * 2**20
_SEED = 20230412


class FeatureCache:
    """The last features computed, up to `limit` bytes, least recently used first to go. Thread-safe."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def features(self, pixels: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, 3, S, S) prepared pixels in [0, 1] -> compute(pixels), asking `compute` only for pictures not seen lately."""
        keys = [(a, b, str(pixels.device)) for a, b in fingerprints(pixels)]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
        missing: dict[Key, int] = {}
        for i, key in enumerate(keys):
            if key not in found:
                missing.setdefault(key, i)  # a picture that comes twice in a batch is computed once
        if len(missing) == len(keys):
            computed = compute(pixels)
            self._keep(keys, computed)
            return computed
        if missing:
            computed = compute(pixels[list(missing.values())])
            self._keep(list(missing), computed)
            found.update(zip(missing, computed, strict=True))
        return torch.stack([found[key] for key in keys])

    def __len__(self) -> int:
        """How many pictures' features are kept."""
        return len(self._kept)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _keep(self, keys: list[Key], features: Tensor) -> None:
        with self._lock:
            for key, feature in zip(keys, features, strict=True):
                if key not in self._kept:
                    self._kept[key] = feature.detach().clone()
                    self._bytes += _size(feature)
                self._kept.move_to_end(key)
            while self._bytes > self.limit:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def gradient_wanted(pixels: Tensor, network: nn.Module) -> bool:
    """Whether something will be differentiated through the network, so that its features must come with their graph."""
    trained = any(parameter.requires_grad for parameter in network.parameters())
    return torch.is_grad_enabled() and (pixels.requires_grad or trained)


def fingerprints(pixels: Tensor) -> list[tuple[int, int]]:
    """(B, 3, S, S) pixels in [0, 1] -> 128 bits an image: two sums of its 8-bit values times fixed random odd numbers.

    Computed where the pixels are, so that only 16 bytes an image leave the device; integers, so equal on every device.
    """
    values = (pixels * 255).round().to(torch.int64).flatten(1)
    keys = _keys(values.shape[1]).to(values.device)
    sums = torch.stack([(values * key).sum(1) for key in keys], dim=1)
    return [(int(a), int(b)) for a, b in sums.tolist()]


@lru_cache(maxsize=4)
def _keys(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(-(2**62), 2**62, (2, length), generator=generator) * 2 + 1


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
