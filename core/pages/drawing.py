"""A drawing of lines, boxes and labels, laid out once: SVG for pages, Pillow's pixels for ComfyUI and PNG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from ..files.atomic import replacing
from ..files.console import one_line
from .kit import render

# Okabe and Ito 2008, "Color Universal Design": told apart in grey and by colour-blind eyes. On pages: see page.css.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
PAPER = "#FFFFFF"
_INKS = {"ink": "#222222", "soft": "#555555", "grid": "#DDDDDD"}
TEXT = 13  # pixels
_BITMAP_HEIGHT = 11
_MARGIN, _HEAD = 12, 24
_SMOOTHING = 3  # slanting lines are drawn that much larger; Pillow draws hard edges


class Polyline(NamedTuple):
    """A line through points (x, y) in pixels."""

    points: Sequence[tuple[float, float]]
    ink: str
    width: float = 1.0


class Box(NamedTuple):
    """A filled rectangle. hint: what a page says when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    ink: str
    hint: str = ""


class Dot(NamedTuple):
    """A disc around (x, y). hint: see Box."""

    x: float
    y: float
    radius: float
    ink: str
    hint: str = ""


class Label(NamedTuple):
    """One line of text; y is its middle, x its start, middle or end, as `anchor` says."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    ink: str = "soft"


Shape = Polyline | Box | Dot


@dataclass
class Drawing:
    """Shapes in the order in which they cover each other, and labels above them.

    title: for a heading; pixels have it on top. summary: what the drawing shows, for who cannot see it.
    """

    width: int
    height: int
    title: str
    summary: str
    shapes: list[Shape] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, anchor: str = "start", ink: str = "soft") -> None:
        self.labels.append(Label(x, y, one_line(text), anchor, ink))

    def line(self, start: tuple[float, float], end: tuple[float, float], ink: str, width: float = 1.0) -> None:
        self.shapes.append(Polyline((start, end), ink, width))

    def svg(self) -> Markup:
        """Inline SVG in the colours of the page around it, without the title."""
        return render("pages/drawing.svg", drawing=self)

    def image(self, scale: int = 1) -> Image.Image:
        """RGB pixels on white, `scale` of them for one of the drawing, with the title and a margin."""
        size = (self.width * scale, self.height * scale)
        smoothing = _SMOOTHING if any(map(_slants, self.shapes)) else 1
        inner = Image.new("RGB", (size[0] * smoothing, size[1] * smoothing), PAPER)
        canvas = ImageDraw.Draw(inner)
        for shape in self.shapes:
            _draw(canvas, shape, scale * smoothing)
        inner = inner.resize(size, Image.Resampling.BOX) if smoothing > 1 else inner
        canvas = ImageDraw.Draw(inner)
        for label in self.labels:
            place = (label.x * scale, label.y * scale)
            write_line(canvas, place, label.text, label.anchor, _colour(label.ink), TEXT * scale)
        return self._framed(inner, scale)

    def _framed(self, inner: Image.Image, scale: int) -> Image.Image:
        margin, head = _MARGIN * scale, (_HEAD if self.title else 0) * scale
        image = Image.new("RGB", (inner.width + 2 * margin, inner.height + 2 * margin + head), PAPER)
        image.paste(inner, (margin, margin + head))
        place = (margin, margin + head / 3)
        write_line(ImageDraw.Draw(image), place, one_line(self.title), "start", _colour("ink"), TEXT * scale)
        return image

    def save(self, path: Path, scale: int = 1) -> None:
        """As PNG, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            self.image(scale).save(file, format="PNG")


def _slants(shape: Shape) -> bool:
    return isinstance(shape, Dot) or (isinstance(shape, Polyline) and len(shape.points) > 2)


def _draw(canvas: ImageDraw.ImageDraw, shape: Shape, scale: int) -> None:
    colour = _colour(shape.ink)
    if isinstance(shape, Box):
        x, y, width, height = (each * scale for each in shape[:4])
        canvas.rectangle((x, y, x + max(width, 1.0) - 1, y + max(height, 1.0) - 1), fill=colour)
    elif isinstance(shape, Dot):
        x, y, radius = (each * scale for each in shape[:3])
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape.points:
        points = [(x * scale, y * scale) for x, y in shape.points]
        canvas.line(points, fill=colour, width=round(shape.width * scale), joint="curve")


def write_line(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    anchor: str,
    colour: str | tuple[int, int, int],
    size: int = TEXT,
) -> None:
    """One line of text; place: its start, middle or end, as `anchor` says, at half its height."""
    font, text = load_font(size), text.replace("\N{MINUS SIGN}", "-")  # which Pillow's font lacks
    x, y = place
    x -= {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * text_width(text, size)
    if isinstance(font, ImageFont.FreeTypeFont):
        canvas.text((x, y), text, fill=colour, font=font, anchor="lm")
    else:  # bitmap fonts know no anchors
        canvas.text((x, y - _BITMAP_HEIGHT / 2), _latin(text), fill=colour, font=font)


def _colour(ink: str) -> str:
    return _INKS[ink] if ink in _INKS else SERIES[int(ink.removeprefix("series-"))]


def series_ink(number: int) -> str:
    return f"series-{number % len(SERIES)}"


@cache
def load_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size, a bitmap
        return ImageFont.load_default()


def text_width(text: str, size: int = TEXT) -> int:
    """In pixels; about as wide as on a page."""
    font = load_font(size)
    return math.ceil(font.getlength(text if isinstance(font, ImageFont.FreeTypeFont) else _latin(text)))


def shortened(text: str, most: float, size: int = TEXT) -> str:
    """As much of a text as `most` pixels hold."""
    if text_width(text, size) <= most:
        return text
    while text and text_width(text + "...", size) > most:
        text = text[:-1]
    return text + "..."


def _latin(text: str) -> str:
    """What a bitmap font can write."""
    return text.encode("latin-1", "replace").decode("latin-1")
