"""Which images stay and in which order, as positions, and how everything that belongs to an image follows along.

Positions go in and come out, so that images, latents, masks, seeds, prompts and texts are moved by the same list.
A score that is NaN (an image that could not be read) ranks last, never passes a threshold and is never the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, SupportsFloat, SupportsIndex

from ..errors import ImageRewardError
from ..files.console import counted


@dataclass(frozen=True)
class Split:
    """Positions that stay and positions that go, each in the order in which the images were given."""

    kept: list[int]
    rejected: list[int]


def rank(scores: Iterable[float], top: int = 0) -> list[int]:
    """Positions from the highest score to the lowest. Equal scores keep their order; NaN comes last.

    Args:
        scores: a list, array or tensor (N,).
        top: how many to return; 0 returns all.

    Returns:
        At most N positions, counted from 0.

    Raises:
        ImageRewardError: the scores are not N numbers, or `top` is not a whole number of at least 0.
    """
    values = _values(scores)
    _check_not_negative("top", top)
    ordered = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -values[i]))
    return ordered[:top] if top else ordered


def split(scores: Iterable[float], threshold: float, *, at_least: int = 0, top: int = 0) -> Split:
    """Keeps the scores >= `threshold`; then the `at_least` best in any case; then only the `top` best.

    Args:
        scores: a list, array or tensor (N,). NaN never stays.
        threshold: the lowest score that passes; -inf keeps every scored image.
        at_least: how many of the best stay whatever their scores, if so many images have a score.
        top: how many stay at most, which has the last word; 0 sets no maximum.

    Returns:
        The positions that stay and those that go, each in the order in which the scores were given.

    Raises:
        ImageRewardError: the scores are not N numbers, the threshold is not a number, or a count is negative.
    """
    values = _values(scores)
    _check_not_negative("at_least", at_least)
    if isinstance(threshold, str) or not isinstance(threshold, SupportsFloat) or math.isnan(threshold):
        shown = "NaN" if isinstance(threshold, float) else repr(threshold)
        raise ImageRewardError(
            f"The threshold is not a number ({shown}); give a number, or -inf to keep every scored image."
        )
    ranked = [i for i in rank(values) if not math.isnan(values[i])]
    chosen = [i for place, i in enumerate(ranked) if values[i] >= threshold or place < at_least]
    _check_not_negative("top", top)
    kept = set(chosen[:top] if top else chosen)
    return Split([i for i in range(len(values)) if i in kept], [i for i in range(len(values)) if i not in kept])


def best(scores: Iterable[float]) -> int:
    """The position of the highest score, the first of equals.

    Args:
        scores: a list, array or tensor (N,).

    Returns:
        A position, counted from 0.

    Raises:
        ImageRewardError: there are no scores, they are not numbers, or all are NaN.
    """
    values = _values(scores)
    if not values:
        raise ImageRewardError("There is no best of no images: expected one score or more, got none.")
    first = rank(values, top=1)[0]
    if math.isnan(values[first]):
        raise ImageRewardError(
            f"There is no best image: expected a score that is a number, got NaN for {counted(len(values), 'image')}. "
            "Check the images and how they were scored."
        )
    return first


def take(items: Any, positions: Iterable[int]) -> Any:
    """The items at `positions`, in that order, in the same kind of container.

    A latent's `samples` (N, ...) is what counts. Its `noise_mask` may have fewer rows, which repeat; `batch_index` is
    made if absent, as ComfyUI's own batch nodes do, so that a later sampler finds the noise of each image again;
    every other key is kept as it is.

    Args:
        items: a torch tensor or numpy array (N, ...), a list or tuple of N, a ComfyUI latent dictionary, or None.
        positions: counted from 0; they may repeat.

    Returns:
        A copy of those items (the elements of a list or tuple are shared); None for None.

    Raises:
        ImageRewardError: a position is out of range or not a whole number, or the items have no rows.
    """
    if items is None:
        return None
    try:
        chosen = [int(index(p)) for p in positions]  # int(): a list of booleans would be read as a mask
    except TypeError as error:
        raise ImageRewardError(f"Positions are whole numbers, counted from 0: {error}.") from error
    total = count(items)
    outside = [p for p in chosen if not 0 <= p < total]
    if outside:
        raise ImageRewardError(f"Expected positions below {total}, counted from 0, got {outside[0]}.")
    if isinstance(items, Mapping):
        return _take_latent(items, chosen, total)
    if isinstance(items, tuple):
        return tuple(items[p] for p in chosen)
    if isinstance(items, list):
        return [items[p] for p in chosen]
    return items[chosen]


def count(items: Any) -> int:
    """How many images these items belong to: rows of a tensor, array or latent, or the length of a list or tuple."""
    if isinstance(items, Mapping) and "samples" in items:
        items = items["samples"]
    if isinstance(items, (list, tuple)) or len(getattr(items, "shape", ())) > 0:
        return len(items)
    raise ImageRewardError(
        "Expected a tensor or array with a batch dimension, a list, a tuple or a latent (a dictionary with 'samples'), "
        f"got {type(items).__name__}."
    )


def _take_latent(latent: Mapping[str, Any], positions: list[int], total: int) -> dict[str, Any]:
    taken = dict(latent)
    taken["samples"] = latent["samples"][positions]
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) > 1:
        taken["noise_mask"] = mask[[p % len(mask) for p in positions]]
    numbers: Sequence[int] = latent.get("batch_index") or range(total)
    taken["batch_index"] = [numbers[p] for p in positions]
    return taken


def _values(scores: Iterable[float]) -> list[float]:
    listed = scores.tolist() if hasattr(scores, "tolist") else list(scores)
    if not isinstance(listed, list) or any(isinstance(value, list) for value in listed):
        raise ImageRewardError(
            f"Expected one score per image (N,), got the shape {tuple(getattr(scores, 'shape', ()))}."
        )
    try:
        return [float(value) for value in listed]
    except (TypeError, ValueError) as error:
        raise ImageRewardError(f"Expected numbers as scores: {error}.") from error


def _check_not_negative(name: str, number: int) -> None:
    if not isinstance(number, SupportsIndex) or number < 0:
        raise ImageRewardError(f"{name} is a number of images: expected 0 or more, got {number}.")
