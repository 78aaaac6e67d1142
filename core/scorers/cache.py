"""Image features by content: another prompt for the same picture costs the text side alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..networks.devices import autocast_dtype
from ..weights.fork_safe import ForkSafeLock

Key = tuple[int, int, Hashable]  # 128 bits of a picture, and how its features were made
DEFAULT_BYTES = 64 * 2**20
_SEED = 20230412
_SAMPLES = 4  # numbers of a weight that are looked at, at the least


class FeatureCache:
    """The last features computed, up to `limit` bytes, least recently used first to go. Thread-safe; its copies are empty."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = ForkSafeLock()

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        return FeatureCache, (self.limit,)

    def features(self, pixels: Tensor, compute: Callable[[Tensor], Tensor], made: Hashable) -> Tensor:
        """(B, 3, S, S) prepared pixels in [0, 1] -> compute(pixels), asking `compute` only for pictures not seen lately.

        made: all that the features depend on but the pixels, as `computation` tells it.
        """
        keys = [(a, b, made) for a, b in fingerprints(pixels)]
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
        # A tensor made under inference mode could not take part in a later training.
        with self._lock, torch.inference_mode(False):
            for key, feature in zip(keys, features.detach(), strict=True):
                if key not in self._kept:
                    self._kept[key] = feature.clone()
                    self._bytes += _size(feature)
                self._kept.move_to_end(key)
            while self._bytes > self.limit:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def computation(weights: Sequence[Tensor], device: torch.device) -> Hashable:
    """What features depend on beside the pixels: the weights as they are now, device, dtypes and autocast.

    Of each weight its place in memory, its version (which counts changes in place) and some of its numbers, evenly spread: a
    change through `.data` or NumPy counts nowhere, and freed memory comes back under the same address.
    """
    with torch.no_grad():
        samples = [weight.reshape(-1)[:: max(1, weight.numel() // _SAMPLES)] for weight in weights if weight.numel()]
        numbers = tuple(torch.cat(samples).float().tolist()) if samples else ()
    places = tuple((weight.data_ptr(), _version(weight), weight.dtype) for weight in weights)
    return hash((places, numbers)), str(device), autocast_dtype(device)


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version  # inference tensors count no changes


def fingerprints(pixels: Tensor) -> list[tuple[int, int]]:
    """(B, 3, S, S) float32 pixels -> 128 bits an image: two sums of the bits of its numbers times fixed random odd numbers.

    Computed where the pixels are, so that only 16 bytes an image leave the device; integers, whose sum no order changes.
    """
    values = pixels.flatten(1).view(torch.int32).to(torch.int64)
    keys = _keys(values.shape[1]).to(values.device)
    sums = torch.stack([(values * key).sum(1) for key in keys], dim=1)
    return [(int(a), int(b)) for a, b in sums.tolist()]


@lru_cache(maxsize=4)
def _keys(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(-(2**62), 2**62, (2, length), generator=generator, device="cpu") * 2 + 1


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
