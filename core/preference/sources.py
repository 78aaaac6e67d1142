"""Where comparisons come from in training: pictures decoded on the fly by workers, or cached states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import BadImage
from ..pictures.pixels import to_pixels
from ..pictures.resize import resize_crop
from .batches import ImageBatch, PairBatch, PromptReader, StateBatch
from .rankings import ImageSource, Pair
from .scoring import open_source

Picks = Sequence[tuple[int, float]]  # (which pair, its weight)


class Source(Protocol):
    """Comparisons by number."""

    def __len__(self) -> int: ...

    def batches(self, picks: Sequence[Picks]) -> Iterator[PairBatch | StateBatch]:
        """A batch for each list of picks, in their order."""


def read_pixels(image: ImageSource, size: int) -> Tensor:
    """(3, size, size) uint8 as a scorer prepares it. Raises BadImage."""
    return resize_crop(to_pixels(open_source(image), size)[None], size)[0]


class PicturePairs(Dataset[PairBatch]):
    """Pairs whose pictures are decoded when they are needed; one that cannot be read gets the weight 0."""

    def __init__(self, pairs: Sequence[Pair], size: int, reader: PromptReader, workers: int = 0) -> None:
        self.pairs = pairs
        self.size = size
        self.reader = reader
        self.workers = workers

    def __len__(self) -> int:
        return len(self.pairs)

    def batches(self, picks: Sequence[Picks]) -> Iterator[PairBatch]:
        return iter(DataLoader(_Collated(self.collate, picks), batch_size=None, num_workers=self.workers))

    def collate(self, picks: Picks) -> PairBatch:
        pairs = [self.pairs[i] for i, _ in picks]
        better = [_attempt(pair.better, self.size) for pair in pairs]
        worse = [_attempt(pair.worse, self.size) for pair in pairs]
        readable = [a is not None and b is not None for a, b in zip(better, worse, strict=True)]
        unread = [str(p.better) for p, pixels in zip(pairs, better, strict=True) if pixels is None]
        unread += [str(p.worse) for p, pixels in zip(pairs, worse, strict=True) if pixels is None]
        return PairBatch(
            better=_stack(better, self.size),
            worse=_stack(worse, self.size),
            text=self.reader.read([pair.prompt for pair in pairs]),
            target=torch.tensor([0.5 if pair.tie else 1.0 for pair in pairs]),
            weight=torch.tensor([w if ok else 0.0 for (_, w), ok in zip(picks, readable, strict=True)]),
            unreadable=tuple(unread),
        )


class Pictures(Dataset[ImageBatch]):
    """Single pictures with their prompts, each combination once."""

    def __init__(
        self, items: Sequence[tuple[ImageSource, str]], size: int, reader: PromptReader, workers: int = 0
    ) -> None:
        self.items = items
        self.size = size
        self.reader = reader
        self.workers = workers

    def batches(self, positions: Sequence[Sequence[int]]) -> Iterator[ImageBatch]:
        return iter(DataLoader(_Collated(self.collate, positions), batch_size=None, num_workers=self.workers))

    def collate(self, positions: Sequence[int]) -> ImageBatch:
        items = [self.items[i] for i in positions]
        pixels = [_attempt(image, self.size) for image, _ in items]
        return ImageBatch(
            pixels=_stack(pixels, self.size),
            text=self.reader.read([prompt for _, prompt in items]),
            readable=torch.tensor([p is not None for p in pixels]),
            unreadable=tuple(str(image) for (image, _), p in zip(items, pixels, strict=True) if p is None),
        )


class StatePairs:
    """Pairs of rows of a table of [CLS] states (N, width)."""

    def __init__(self, states: Tensor, better: Tensor, worse: Tensor, target: Tensor) -> None:
        self.states, self.better, self.worse, self.target = states, better, worse, target

    def __len__(self) -> int:
        return len(self.target)

    def batches(self, picks: Sequence[Picks]) -> Iterator[StateBatch]:
        for chosen in picks:
            rows = torch.tensor([i for i, _ in chosen])
            weight = torch.tensor([w for _, w in chosen])
            better, worse = self.states[self.better[rows]], self.states[self.worse[rows]]
            yield StateBatch(better, worse, self.target[rows], weight)


class _Collated(Dataset):  # type: ignore[type-arg]
    """What a DataLoader's workers fetch: one whole batch an item."""

    def __init__(self, collate: object, requests: Sequence[object]) -> None:
        self.collate, self.requests = collate, requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, i: int) -> object:
        return self.collate(self.requests[i])  # type: ignore[operator]


def _attempt(image: ImageSource, size: int) -> Tensor | None:
    try:
        return read_pixels(image, size)
    except BadImage:
        return None


def _stack(pixels: Sequence[Tensor | None], size: int) -> Tensor:
    grey = torch.full((3, size, size), 127, dtype=torch.uint8)
    return torch.stack([grey if p is None else p for p in pixels])
