"""Charts as PNG with Pillow alone: bars with intervals, and lines. Readable in grey and by colour-blind eyes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from ..files.atomic import replacing

# Okabe and Ito 2008, "Color Universal Design".
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_INK, _GRID, _PAPER = "#222222", "#DDDDDD", "#FFFFFF"
_WIDTH = 900
_MARGIN = 24


class Bar(NamedTuple):
    """A value, and an interval that is drawn unless it is NaN."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan


def bar_chart(title: str, bars: Sequence[Bar], path: Path, *, decimals: int = 3) -> None:
    """Horizontal bars from zero, in the order given, each with its value; NaN is drawn as no bar."""
    finite = [v for bar in bars for v in (bar.value, bar.low, bar.high) if math.isfinite(v)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    font, row = load_font(16), 34
    labels = max((_width(font, bar.label) for bar in bars), default=0)
    left, right = _MARGIN + labels + 12, _WIDTH - _MARGIN - 90
    image = Image.new("RGB", (_WIDTH, _MARGIN * 2 + 44 + row * len(bars) + 30), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=load_font(20))
    scale = Scale(low, high, left, right)
    top, bottom = _MARGIN + 44, _MARGIN + 44 + row * len(bars)
    for tick in ticks(low, high):
        draw.line((scale(tick), top, scale(tick), bottom), fill=_GRID)
        draw.text((scale(tick), bottom + 6), f"{tick:g}", fill=_INK, font=font, anchor=anchor_for(font, "ma"))
    for i, bar in enumerate(bars):
        middle = top + row * i + row // 2
        draw.text((left - 10, middle), bar.label, fill=_INK, font=font, anchor=anchor_for(font, "rm"))
        if math.isnan(bar.value):
            continue
        edges = sorted((scale(0.0), scale(bar.value)))
        draw.rectangle((edges[0], middle - 11, edges[1], middle + 11), fill=COLOURS[0])
        if math.isfinite(bar.low) and math.isfinite(bar.high):
            draw.line((scale(bar.low), middle, scale(bar.high), middle), fill=_INK, width=2)
            for end in (bar.low, bar.high):
                draw.line((scale(end), middle - 6, scale(end), middle + 6), fill=_INK, width=2)
        draw.text(
            (right + 12, middle), f"{bar.value:.{decimals}f}", fill=_INK, font=font, anchor=anchor_for(font, "lm")
        )
    draw.line((scale(0.0), top, scale(0.0), bottom), fill=_INK)
    _save(image, path)


def draw_line_chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Image.Image:
    """Lines through (x, y) points by name, with a legend; points that are not finite are left out."""
    points = {name: [(x, y) for x, y in line if math.isfinite(x + y)] for name, line in lines.items()}
    xs = [x for line in points.values() for x, _ in line] or [0.0]
    ys = [y for line in points.values() for _, y in line] or [0.0]
    font, height = load_font(16), 420
    image = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=load_font(20))
    left, right, top, bottom = 90, _WIDTH - _MARGIN, _MARGIN + 72, height - 50
    across, up = Scale(min(xs), max(xs), left, right), Scale(min(ys), max(ys), bottom, top)
    for tick in ticks(min(ys), max(ys)):
        draw.line((left, up(tick), right, up(tick)), fill=_GRID)
        draw.text((left - 8, up(tick)), f"{tick:g}", fill=_INK, font=font, anchor=anchor_for(font, "rm"))
    for tick in ticks(min(xs), max(xs)):
        draw.text((across(tick), bottom + 8), f"{tick:g}", fill=_INK, font=font, anchor=anchor_for(font, "ma"))
    place = left
    for i, (name, line) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        draw.line([(across(x), up(y)) for x, y in line], fill=colour, width=3)
        draw.text((place, _MARGIN + 38), name, fill=colour, font=font)
        place += _width(font, name) + 24
    return image


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) between `low` and `high`."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    power = 10 ** math.floor(math.log10(span / about))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


class Scale:
    """Values to pixels along one axis."""

    def __init__(self, low: float, high: float, start: int, stop: int) -> None:
        self.low, self.span = low, (high - low) or 1.0
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / self.span * (self.stop - self.start)


def load_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size, a bitmap
        return ImageFont.load_default()


def anchor_for(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, anchor: str) -> str | None:
    """Bitmap fonts know no anchors."""
    return anchor if isinstance(font, ImageFont.FreeTypeFont) else None


def _width(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str) -> int:
    return math.ceil(font.getlength(text))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        image.save(file, format="PNG")
