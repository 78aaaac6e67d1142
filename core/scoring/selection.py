"""Which images stay and in which order, as positions, and how everything that belongs to an image follows along.

Positions go in and come out, so that images, latents, masks, seeds, prompts and texts are moved by the same list.
A score that is NaN (an image that could not be read) ranks last and never passes a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, SupportsFloat, SupportsIndex

from ..errors import ImageRewardError


@dataclass(frozen=True)
class Split:
    """Positions that stay and positions that go, each in the order in which the images were given."""

    kept: list[int]
    rejected: list[int]


def rank(scores: Iterable[float], top: int = 0) -> list[int]:
    """Positions from the highest score to the lowest.

    `scores`: list, array or tensor (N,). Equal scores keep their order; NaN comes last. `top`: how many; 0 means all.
    """
    values = _values(scores)
    _check_not_negative("top", top)
    ordered = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -values[i]))
    return ordered[:top] if top else ordered


def split(scores: Iterable[float], threshold: float, *, at_least: int = 0, top: int = 0) -> Split:
    """Keeps the scores >= `threshold`; then the `at_least` best in any case; then only the `top` best (0: all).

    Where both are given, `top` has the last word. NaN stays only if `at_least` asks for more images than have a score.
    """
    values = _values(scores)
    _check_not_negative("at_least", at_least)
    if isinstance(threshold, str) or not isinstance(threshold, SupportsFloat) or math.isnan(threshold):
        shown = "NaN" if isinstance(threshold, float) else repr(threshold)
        raise ImageRewardError(
            f"The threshold is not a number ({shown}); give a number, or -inf to keep every scored image."
        )
    ranked = rank(values)
    chosen = [i for place, i in enumerate(ranked) if values[i] >= threshold or place < at_least]
    _check_not_negative("top", top)
    kept = set(chosen[:top] if top else chosen)
    return Split([i for i in range(len(values)) if i in kept], [i for i in range(len(values)) if i not in kept])


def best(scores: Iterable[float]) -> int:
    """The position of the highest score, the first of equals (0 if all are NaN). No scores at all is an error."""
    ranked = rank(scores, top=1)
    if not ranked:
        raise ImageRewardError("There is no best of no images: expected one score or more, got none.")
    return ranked[0]


def take(items: Any, positions: Iterable[int]) -> Any:
    """The items at `positions`, in that order, in the same kind of container.

    Takes a torch tensor or numpy array (along dimension 0; a copy), a list or tuple, a ComfyUI latent dictionary, and
    None, which stays None. Positions may repeat.

    A latent's `samples` (N, ...) is what counts. Its `noise_mask` may have fewer rows, which repeat; `batch_index` is
    made if absent, as ComfyUI's own batch nodes do, so that a later sampler finds the noise of each image again;
    every other key is kept as it is.
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
