"""Scores as a picture: a bar for each image, several rows of scores side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (250, 250, 250), (30, 30, 30), (205, 205, 205)
# Okabe and Ito (2008), 'Color Universal Design': tells apart for all kinds of colour vision.
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167))
MARGIN, BAR, GAP, HEADER = 16, 18, 8, 34
LABEL_WIDTH, VALUE_WIDTH = 64, 76
TEXT_SIZE = 14


@dataclass(frozen=True)
class Series:
    """One row of scores: a name for the legend, and a value for each image (NaN: no score)."""

    name: str
    values: Sequence[float]


def bar_chart(series: Sequence[Series], width: int = 640) -> Image.Image:
    """A horizontal bar for each image and series from a common zero line, the best of each series marked with a star."""
    rows = max((len(one.values) for one in series), default=0)
    group = len(series) * BAR + GAP
    height = MARGIN + HEADER * len(series) + max(rows, 1) * group + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _legend(draw, series)
    top = MARGIN + HEADER * len(series)
    scale = _Scale.of(series, MARGIN + LABEL_WIDTH, width - MARGIN - VALUE_WIDTH)
    draw.line((scale.zero, top, scale.zero, height - MARGIN), fill=FAINT)
    for row in range(rows):
        y = top + row * group
        draw.text((MARGIN, y + len(series) * BAR / 2), f"#{row}", fill=INK, font=font(TEXT_SIZE), anchor="lm")
        for place, one in enumerate(series):
            if row < len(one.values):
                starred = row == _best(one.values)
                _bar(draw, scale, y + place * BAR, one.values[row], COLOURS[place % len(COLOURS)], starred)
    return sheet


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """Pillow's own font; releases before 10.1 have it in one size."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


@dataclass(frozen=True)
class _Scale:
    left: float
    right: float
    low: float
    high: float

    @classmethod
    def of(cls, series: Sequence[Series], left: float, right: float) -> _Scale:
        numbers = [value for one in series for value in one.values if math.isfinite(value)]
        low, high = min([0.0, *numbers]), max([0.0, *numbers])
        return cls(left, right, low, high if high > low else low + 1.0)

    def __call__(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    @property
    def zero(self) -> float:
        return self(0.0)


def _legend(draw: ImageDraw.ImageDraw, series: Sequence[Series]) -> None:
    for place, one in enumerate(series):
        y = MARGIN + place * HEADER
        draw.rectangle((MARGIN, y + 4, MARGIN + 14, y + 18), fill=COLOURS[place % len(COLOURS)])
        numbers = [value for value in one.values if math.isfinite(value)]
        summary = (
            f"best {max(numbers):.4f}   mean {sum(numbers) / len(numbers):.4f}   {len(one.values)} images"
            if numbers
            else "no scores"
        )
        draw.text((MARGIN + 24, y + 11), f"{one.name}   {summary}", fill=INK, font=font(TEXT_SIZE), anchor="lm")


def _bar(
    draw: ImageDraw.ImageDraw, scale: _Scale, y: float, value: float, colour: tuple[int, int, int], starred: bool
) -> None:
    text = "no score" if math.isnan(value) else f"{value:.4f}" + (" *" if starred else "")
    if math.isfinite(value):
        left, right = sorted((scale.zero, scale(value)))
        draw.rectangle((left, y + 2, max(right, left + 1), y + BAR - 2), fill=colour)
    draw.text((scale.right + 8, y + BAR / 2), text, fill=INK, font=font(TEXT_SIZE), anchor="lm")


def _best(values: Sequence[float]) -> int:
    numbers = [-math.inf if math.isnan(value) else value for value in values]
    return numbers.index(max(numbers)) if numbers else -1
