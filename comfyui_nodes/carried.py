"""What belongs to images, as ComfyUI hands it to a list node, taken by position and packed again.

A single batch stays a batch; a list stays a list, of single images. So images of unequal sizes, which no batch can hold,
are ranked and filtered like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from ..core.scoring.selection import count, take


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
