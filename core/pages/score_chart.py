"""Scores as a picture: a bar for each image, several rows of scores side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .chart import COLOURS, Scale, anchor_for, load_font

PAPER, INK, FAINT = (250, 250, 250), (30, 30, 30), (205, 205, 205)
MARGIN, BAR, GAP, HEADER = 16, 18, 8, 34
LABEL_WIDTH, VALUE_WIDTH = 64, 76
TEXT_SIZE = 14


@dataclass(frozen=True)
class Series:
    """One row of scores: a name for the legend, and a value for each image (NaN: no score)."""

    name: str
    values: Sequence[float]


def draw_scores(series: Sequence[Series], width: int = 640) -> Image.Image:
    """A horizontal bar for each image and series from a common zero line, the best of each series marked with a star."""
    rows = max((len(one.values) for one in series), default=0)
    group = len(series) * BAR + GAP
    height = MARGIN + HEADER * len(series) + max(rows, 1) * group + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _legend(draw, series)
    top = MARGIN + HEADER * len(series)
    scale = _scale(series, MARGIN + LABEL_WIDTH, width - MARGIN - VALUE_WIDTH)
    draw.line((scale(0.0), top, scale(0.0), height - MARGIN), fill=FAINT)
    for row in range(rows):
        y = top + row * group
        _write(draw, MARGIN, y + len(series) * BAR / 2, f"#{row}")
        for place, one in enumerate(series):
            if row < len(one.values):
                starred = row == _best(one.values)
                _bar(draw, scale, y + place * BAR, one.values[row], COLOURS[place % len(COLOURS)], starred)
    return sheet


def _scale(series: Sequence[Series], left: int, right: int) -> Scale:
    """From the lowest value to the highest, zero always among them."""
    numbers = [value for one in series for value in one.values if math.isfinite(value)]
    return Scale(min([0.0, *numbers]), max([0.0, *numbers]), left, right)


def _write(draw: ImageDraw.ImageDraw, left: float, middle: float, text: str) -> None:
    font = load_font(TEXT_SIZE)
    draw.text((left, middle), text, fill=INK, font=font, anchor=anchor_for(font, "lm"))


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
        _write(draw, MARGIN + 24, y + 11, f"{one.name}   {summary}")


def _bar(draw: ImageDraw.ImageDraw, scale: Scale, y: float, value: float, colour: str, starred: bool) -> None:
    text = "no score" if math.isnan(value) else f"{value:.4f}" + (" *" if starred else "")
    if math.isfinite(value):
        left, right = sorted((scale(0.0), scale(value)))
        draw.rectangle((left, y + 2, max(right, left + 1), y + BAR - 2), fill=colour)
    _write(draw, scale.stop + 8, y + BAR / 2, text)


def _best(values: Sequence[float]) -> int:
    numbers = [-math.inf if math.isnan(value) else value for value in values]
    return numbers.index(max(numbers)) if numbers else -1
