"""What belongs to images, as ComfyUI hands it to a list node, taken by position and packed again.

A single batch stays a batch; a list stays a list, of single images. So images of unequal sizes, which no batch can hold,
are ranked and filtered like any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

from torch import Tensor

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from ..core.scoring.selection import count, take
from .scores import Scores


class Carried:
    """A list of batches (tensors with a batch dimension, or latents), seen as one row of items."""

    def __init__(self, elements: Sequence[Any]) -> None:
        self.elements = list(elements)
        self.places = [(e, i) for e, element in enumerate(self.elements) for i in range(count(element))]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, positions: Sequence[int]) -> list[Any]:
        if len(self.elements) == 1:
            return [take(self.elements[0], positions)]
        return [take(self.elements[e], [i]) for e, i in (self.places[p] for p in positions)]


class Conditionings(Carried):
    """One CONDITIONING an image: never cut open, as it may hold several prompts and areas."""

    def __init__(self, elements: Sequence[Any]) -> None:
        self.elements = list(elements)
        self.places = [(e, 0) for e in range(len(self.elements))]

    def take(self, positions: Sequence[int]) -> list[Any]:
        return [self.elements[p] for p in positions]


class Shared(Carried):
    """One for all images (a single mask or conditioning beside many images): it stays what it is."""

    def __init__(self, elements: Sequence[Any], images: int) -> None:
        self.elements = list(elements)
        self.images = images

    def __len__(self) -> int:
        return self.images

    def take(self, positions: Sequence[int]) -> list[Any]:
        return self.elements


class Anything(Carried):
    """Values of any type. What holds several items is cut open: a batch always, SEGS or a Python list if it comes alone."""

    def __init__(self, elements: Sequence[Any]) -> None:
        self.elements = list(elements)
        counts = [_items(element, alone=len(self.elements) == 1) for element in self.elements]
        self.places = [(e, i) for e, items in enumerate(counts) for i in range(1 if items is None else items)]
        self.whole = {e for e, items in enumerate(counts) if items is None}

    def take(self, positions: Sequence[int]) -> list[Any]:
        _check_positions(positions, len(self))
        if len(self.elements) == 1 and not self.whole:
            return [_cut(self.elements[0], positions)]
        places = [self.places[p] for p in positions]
        return [self.elements[e] if e in self.whole else _cut(self.elements[e], [i]) for e, i in places]


def _items(value: Any, alone: bool) -> int | None:
    """How many items a value holds; None for one that is never cut open."""
    if isinstance(value, Scores):
        return len(value)
    if isinstance(value, Tensor):
        return len(value) if value.ndim >= 3 else None  # IMAGE, MASK (B, H, W), ...; SIGMAS and a single mask are whole
    if isinstance(value, Mapping):
        rows = value.get("samples", value.get("waveform"))  # LATENT, AUDIO
        return len(rows) if isinstance(rows, Tensor) else None
    if not alone or not isinstance(value, (list, tuple)) or _is_conditioning(value):
        return None
    return len(value[1]) if _is_segs(value) else len(value)


def _cut(value: Any, positions: Sequence[int]) -> Any:
    if isinstance(value, Scores):
        return value.take(positions)
    if isinstance(value, Mapping) and "samples" not in value:
        return {**value, "waveform": take(value["waveform"], positions)}
    if isinstance(value, tuple) and _is_segs(value):
        return (value[0], take(value[1], positions))
    return take(value, positions)


def _is_conditioning(value: Sequence[Any]) -> bool:
    """CONDITIONING: pairs of a tensor and a dictionary, all for one image."""
    return bool(value) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], Tensor) and isinstance(pair[1], dict)
        for pair in value
    )


def _is_segs(value: Sequence[Any]) -> bool:
    """SEGS of the Impact Pack: ((height, width), [SEG, ...])."""
    return len(value) == 2 and isinstance(value[0], tuple) and len(value[0]) == 2 and isinstance(value[1], list)


def _check_positions(positions: Sequence[int], items: int) -> None:
    for position in positions:
        try:
            inside = 0 <= index(position) < items
        except TypeError as error:
            raise ImageRewardError(f"Positions are whole numbers, counted from 0: {error}.") from error
        if not inside:
            raise ImageRewardError(
                f"There is no position {position} among {counted(items, 'item')}, counted from 0: "
                "connect the list or batch that belongs to these very images."
            )


def latents(elements: Sequence[Any] | None, images: int) -> Carried | None:
    if not elements:
        return None
    return _matching(Carried(elements), "latent", images)


def masks(elements: Sequence[Tensor] | None, images: int) -> Carried | None:
    """Masks (B, H, W), or (H, W) for one image."""
    if not elements:
        return None
    rows = Carried([mask.unsqueeze(0) if mask.ndim == 2 else mask for mask in elements])
    return Shared(elements, images) if len(rows) == 1 else _matching(rows, "mask", images)


def conditionings(elements: Sequence[Any] | None, images: int) -> Carried | None:
    if not elements:
        return None
    row = Conditionings(elements)
    return Shared(elements, images) if len(row) == 1 else _matching(row, "conditioning", images)


def _matching(row: Carried, what: str, images: int) -> Carried:
    if len(row) != images:
        raise ImageRewardError(f"{counted(len(row), what)} for {counted(images, 'image')}: connect one for each image.")
    return row
