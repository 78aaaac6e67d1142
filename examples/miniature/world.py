"""A world of coloured shapes: captions, pictures of them with painted faults, and the true preference.

A caption names one thing ("a red circle") or two ("a red circle above a blue square"). Pictures are 64 x 64, on white.
The truth reads a picture's pixels and its caption, never the recipe that it was painted by, so it holds for what a model
draws just as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64
MIDDLE = SIDE / 2
COLOURS = {"red": (222, 54, 50), "green": (44, 160, 72), "blue": (52, 92, 214)}
SHAPES = ("circle", "square", "triangle", "cross")
RELATIONS = {"above": (0.0, 1.0), "left of": (1.0, 0.0)}  # from the first thing to the second: x, y
APART = 13.5  # pixels from the middle to each of two things
SIZE_ALONE, SIZE_OF_TWO = 17.0, 10.0  # half a square's side, in pixels
BEST = 3.0  # what the truth gives a flawless picture

Pixels = NDArray[np.uint8]  # (SIDE, SIDE, 3)
_PALETTE = np.array([(255, 255, 255), *COLOURS.values()], dtype=np.float32) / 255


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str
    x: float
    y: float
    size: float

    def __str__(self) -> str:
        return f"a {self.colour} {self.shape}"


@dataclass(frozen=True)
class Caption:
    """What a text says: the things, where they belong, and how large they are."""

    things: tuple[Thing, ...]
    relation: str = ""

    def __str__(self) -> str:
        return f" {self.relation} ".join(map(str, self.things))


def _all_captions() -> list[Caption]:
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    alone = [Caption((Thing(*kind, MIDDLE, MIDDLE, SIZE_ALONE),)) for kind in kinds]
    return alone + [
        Caption(
            (
                Thing(*first, MIDDLE - APART * dx, MIDDLE - APART * dy, SIZE_OF_TWO),
                Thing(*second, MIDDLE + APART * dx, MIDDLE + APART * dy, SIZE_OF_TWO),
            ),
            relation,
        )
        for relation, (dx, dy) in RELATIONS.items()
        for first in kinds
        for second in kinds
        if first[0] != second[0]
    ]


CAPTIONS = {str(caption): caption for caption in _all_captions()}


@dataclass(frozen=True)
class Split:
    """Captions by what they are for. Nothing is trained on `valid` or `test`."""

    train: list[str]
    valid: list[str]
    test: list[str]

    @classmethod
    def of(cls, seed: int, valid: int = 16, test: int = 56) -> Split:
        """All captions of one thing are for training; of two things, `valid` and `test` are held out."""
        alone = [text for text, caption in CAPTIONS.items() if not caption.relation]
        pairs = [text for text, caption in CAPTIONS.items() if caption.relation]
        shuffled = [pairs[n] for n in np.random.default_rng([seed, 1]).permutation(len(pairs))]
        return cls(alone + shuffled[valid + test :], shuffled[:valid], shuffled[valid : valid + test])


# -- painting ------------------------------------------------------------------------------------------------------

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5
_HALF_BAR = 0.36  # of a cross, in sizes


def _distance(shape: str, x: float, y: float, size: float) -> NDArray[np.float32]:
    """(SIDE, SIDE): pixels outside the shape's edge; negative inside."""
    dx, dy = _X - x, _Y - y
    if shape == "circle":
        return np.hypot(dx, dy) - 1.1 * size
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - size
    if shape == "triangle":
        sides = (np.abs(dx) * 2.2 - (dy + 1.2 * size) * 1.2) / float(np.hypot(2.2, 1.2))
        return np.maximum(sides, dy - size)
    bars = [np.maximum(a - size * 1.15, b - size * _HALF_BAR) for a, b in [(abs(dx), abs(dy)), (abs(dy), abs(dx))]]
    return np.minimum(*bars)


def _cover(thing: Thing) -> NDArray[np.float32]:
    """(SIDE, SIDE) in 0..1: how much of each pixel the thing covers."""
    return np.clip(0.5 - _distance(thing.shape, thing.x, thing.y, thing.size), 0, 1)


def paint(things: Sequence[Thing]) -> Pixels:
    canvas = np.ones((SIDE, SIDE, 3), dtype=np.float32)
    for thing in things:
        cover = _cover(thing)[..., None]
        canvas = canvas * (1 - cover) + cover * np.array(COLOURS[thing.colour], dtype=np.float32) / 255
    return _to_levels(canvas)


def _to_levels(canvas: NDArray[np.float32]) -> Pixels:
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


# -- faults --------------------------------------------------------------------------------------------------------

WRONG_THINGS = ("colour", "shape", "missing", "swapped", "off-centre", "extra")
WRONG_SURFACES = ("blur", "noise")
FAULTS = WRONG_THINGS + WRONG_SURFACES


def paint_caption(text: str, rng: np.random.Generator, faults: Sequence[str] = ()) -> Pixels:
    """A picture of the caption, every thing a little off its place and size, with these faults."""
    caption = CAPTIONS[text]
    things = [
        replace(
            thing,
            x=thing.x + rng.uniform(-2, 2),
            y=thing.y + rng.uniform(-2, 2),
            size=thing.size * rng.uniform(0.92, 1.08),
        )
        for thing in caption.things
    ]
    for fault in faults:
        if fault in WRONG_THINGS:
            things = _spoil(things, fault, rng)
    pixels = paint(things)
    for fault in faults:
        if fault in WRONG_SURFACES:
            pixels = _blurred(pixels, rng) if fault == "blur" else _noisy(pixels, rng)
    return pixels


def random_faults(rng: np.random.Generator, mean: float) -> list[str]:
    """None, one or more kinds of faults; `mean` of them on average."""
    count = min(rng.poisson(mean), 3)
    return list(rng.choice(FAULTS, size=count, replace=False))


def _spoil(things: list[Thing], fault: str, rng: np.random.Generator) -> list[Thing]:
    if not things:
        return things
    which = int(rng.integers(len(things)))
    thing = things[which]
    if fault == "missing":
        return things[:which] + things[which + 1 :]
    if fault == "swapped":
        places = [(each.x, each.y) for each in reversed(things)]
        return [replace(each, x=x, y=y) for each, (x, y) in zip(things, places, strict=True)]
    if fault == "extra":
        return [*things, _extra(things, rng)]
    changes: dict[str, object]
    if fault == "colour":
        changes = {"colour": _another(COLOURS, [each.colour for each in things], rng)}
    elif fault == "shape":
        changes = {"shape": _another(SHAPES, [thing.shape], rng)}
    else:
        angle, by = rng.uniform(0, 2 * np.pi), rng.uniform(7, 14)
        changes = {"x": thing.x + by * np.cos(angle), "y": thing.y + by * np.sin(angle)}
    return [*things[:which], replace(thing, **changes), *things[which + 1 :]]


def _extra(things: Sequence[Thing], rng: np.random.Generator) -> Thing:
    colour = _another(COLOURS, [each.colour for each in things], rng)
    corner = rng.choice([9.0, SIDE - 9.0], size=2)
    return Thing(colour, str(rng.choice(SHAPES)), *corner, size=rng.uniform(4, 7))


def _another(choices: Sequence[str] | dict[str, object], taken: Sequence[str], rng: np.random.Generator) -> str:
    return str(rng.choice([choice for choice in choices if choice not in taken] or list(choices)))


def _blurred(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 3.5))))


def _noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _to_levels(pixels.astype(np.float32) / 255 + rng.normal(0, rng.uniform(0.08, 0.25), pixels.shape))


# -- truth ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the pixels say, before any caption."""

    labels: NDArray[np.intp]  # (SIDE, SIDE): 0 background, 1.. the colours in order
    dirt: float  # 0 clean .. 1: how far pixels inside areas are from the palette
    blur: float  # 0 sharp .. 1: how wide the edges are

    @classmethod
    def of(cls, pixels: Pixels) -> Seen:
        values = pixels.astype(np.float32) / 255
        distances = np.linalg.norm(values[:, :, None] - _PALETTE, axis=-1)
        labels = distances.argmin(-1)
        rest = distances.min(-1)
        inside = _is_inside(labels)
        dirt = rest[inside].mean() if inside.any() else 1.0
        edge = max(int((~inside).sum()), 40)
        wide = (rest[~_grown(~inside)] > 0.15).sum() / edge
        return cls(labels, _ramp(dirt, 0.06, 0.30), _ramp(float(wide), 0.02, 0.5))


def truth(pixels: Pixels, text: str) -> float:
    """How well a picture shows its caption, and how cleanly: about -2 (hopeless) .. 3 (flawless)."""
    caption, seen = CAPTIONS[text], Seen.of(pixels)
    named = [1 + list(COLOURS).index(thing.colour) for thing in caption.things]
    things = np.mean([_shown(seen.labels == label, thing) for label, thing in zip(named, caption.things, strict=True)])
    strange = float(((seen.labels > 0) & ~np.isin(seen.labels, named)).sum())
    return float(BEST * things - 0.75 * _ramp(strange, 6, 90) - seen.dirt - 0.75 * seen.blur)


def _shown(mask: NDArray[np.bool_], thing: Thing) -> float:
    """0..1: is the thing there, where it belongs, in its shape? mask: the pixels of its colour."""
    area = int(mask.sum())
    wanted = _area(thing.shape, thing.size)
    there = _ramp(area, 0.1 * wanted, 0.5 * wanted) * (1 - _ramp(area, 1.6 * wanted, 3.0 * wanted))
    if there == 0:
        return 0.0
    x, y = float(_X[mask].mean()), float(_Y[mask].mean())
    place = 1 - _ramp(float(np.hypot(x - thing.x, y - thing.y - _sag(thing.shape, thing.size))), 4, 12)
    fits = {shape: _fit(mask, shape, x, y, area) for shape in SHAPES}
    others = max(fit for shape, fit in fits.items() if shape != thing.shape)
    shape = _ramp(fits[thing.shape], 0.55, 0.85) * _ramp(fits[thing.shape] - others, -0.06, 0.03)
    return there * (0.2 + 0.4 * place + 0.4 * shape)


def _fit(mask: NDArray[np.bool_], shape: str, x: float, y: float, area: int) -> float:
    """Intersection over union of the mask with the shape of its area at its centre."""
    size = float(np.sqrt(area / _area(shape, 1.0)))
    ideal = _distance(shape, x, y - _sag(shape, size), size) < 0
    return float((mask & ideal).sum() / max((mask | ideal).sum(), 1))


@cache
def _unit(shape: str) -> tuple[float, float]:
    """(area, how far the centre of gravity lies below the centre) of the shape at size 1."""
    inside = _distance(shape, MIDDLE, MIDDLE, 20.0) < 0
    return float(inside.sum()) / 400, float(_Y[inside].mean() - MIDDLE) / 20


def _area(shape: str, size: float) -> float:
    return _unit(shape)[0] * size**2


def _sag(shape: str, size: float) -> float:
    return _unit(shape)[1] * size


def _is_inside(labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Pixels whose eight neighbours have their label."""
    padded = np.pad(labels, 1, mode="edge")
    shifts = [padded[y : y + SIDE, x : x + SIDE] == labels for y in range(3) for x in range(3)]
    return np.logical_and.reduce(shifts)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    return np.logical_or.reduce([padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)])


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, straight between."""
    return float(np.clip((value - low) / (high - low), 0, 1))
