"""Where comparisons come from in training: pictures decoded on the fly by workers, or cached states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import BadImage
from ..pictures.pixels import to_pixels
from ..pictures.resize import resize_crop
from .batches import ImageBatch, Images, PairBatch, PromptReader
from .rankings import ImageSource, Pair
from .scoring import open_source

Item = tuple[ImageSource, str]  # a picture with its prompt
Picks = Sequence[tuple[int, float]]  # (which comparison, its weight)


def items_of(pairs: Sequence[Pair]) -> list[Item]:
    """Each picture with its prompt, once, in the order of first appearance."""
    return list(dict.fromkeys((image, pair.prompt) for pair in pairs for image in (pair.better, pair.worse)))


def numbered(pairs: Sequence[Pair], items: Sequence[Item]) -> tuple[list[int], list[int], list[float]]:
    """Of each comparison the places of its better and its worse picture in `items`, and the target."""
    place = {item: i for i, item in enumerate(items)}
    better = [place[pair.better, pair.prompt] for pair in pairs]
    worse = [place[pair.worse, pair.prompt] for pair in pairs]
    return better, worse, [pair.target for pair in pairs]


def read_pixels(image: ImageSource, size: int) -> Tensor:
    """(3, size, size) uint8 as a scorer prepares it. Raises BadImage."""
    return resize_crop(to_pixels(open_source(image), size)[None], size)[0]


class Source(ABC, Generic[Images]):
    """Comparisons by number, and the images that they are of by number too."""

    def __init__(self, better: Sequence[int], worse: Sequence[int], target: Sequence[float], workers: int = 0) -> None:
        self.better, self.worse, self.target = list(better), list(worse), list(target)
        self.workers = workers

    def __len__(self) -> int:
        return len(self.target)

    @abstractmethod
    def images(self, rows: Sequence[int]) -> tuple[Images, Tensor, tuple[str, ...]]:
        """Of N images what the model takes, which of them can be read (N,), and the names of the others."""

    def batches(self, picks: Sequence[Picks]) -> Iterator[PairBatch[Images]]:
        """A batch for each list of picks, in their order; a comparison with an image that cannot be read weighs 0."""
        return iter(DataLoader(_Collated(self._collate, picks), batch_size=None, num_workers=self.workers))

    def _collate(self, picks: Picks) -> PairBatch[Images]:
        numbers = [i for i, _ in picks]
        rows = dict.fromkeys(row for i in numbers for row in (self.better[i], self.worse[i]))
        place = {row: n for n, row in enumerate(rows)}
        better, worse = (torch.tensor([place[ends[i]] for i in numbers]) for ends in (self.better, self.worse))
        images, readable, unreadable = self.images(list(rows))
        return PairBatch(
            images=images,
            better=better,
            worse=worse,
            target=torch.tensor([self.target[i] for i in numbers]),
            weight=torch.tensor([weight for _, weight in picks]) * (readable[better] & readable[worse]),
            unreadable=unreadable,
        )


class PicturePairs(Source[ImageBatch]):
    """Comparisons whose pictures are decoded when they are needed."""

    def __init__(self, pairs: Sequence[Pair], size: int, reader: PromptReader, workers: int = 0) -> None:
        items = items_of(pairs)
        super().__init__(*numbered(pairs, items), workers)
        self.pictures = Pictures(items, size, reader)

    def images(self, rows: Sequence[int]) -> tuple[ImageBatch, Tensor, tuple[str, ...]]:
        batch = self.pictures.collate(rows)
        return batch, batch.readable, batch.unreadable


class StatePairs(Source[Tensor]):
    """Comparisons of rows of a table of [CLS] states (N, width)."""

    def __init__(self, states: Tensor, better: Sequence[int], worse: Sequence[int], target: Sequence[float]) -> None:
        super().__init__(better, worse, target)
        self.states = states

    def images(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        return self.states[list(rows)], torch.ones(len(rows), dtype=torch.bool), ()


class Pictures(Dataset[ImageBatch]):
    """Single pictures with their prompts, each combination once."""

    def __init__(self, items: Sequence[Item], size: int, reader: PromptReader, workers: int = 0) -> None:
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
