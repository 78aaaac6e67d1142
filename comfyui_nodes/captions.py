"""Previews with the score written under each image, and many images as a table."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw
from torch import Tensor

from ..core.files.atomic import replacing
from ..core.pages.drawing import shortened, text_width, write_line
from .pictures import to_picture
from .scores import Scores, number

MOST_PREVIEWS = 16  # one picture an image; more are shown in a single table
SIDE = 512  # of an image in its preview; the images themselves go on as they are
SCORE, NAME = 120, 48  # pixels of the letters: the page shows sixteen previews in rows of six
STRIP, NAME_STRIP = 140, 60  # their lines
INK, SOFT, PAPER = (235, 235, 235), (160, 160, 160), (28, 28, 28)
BEST, WARNING = (130, 225, 145), (255, 190, 90)

MOST_CELLS, COLUMNS = 64, 4  # of a table
CELL = (256, 76)
THUMBNAIL = 68
CELL_SCORE, CELL_NAME, HEAD_TEXT, HEAD = 34, 22, 26, 56


def preview(pixels: Sequence[Tensor], scores: Scores) -> dict[str, Any]:
    """The `ui` of a node: each image (3, H, W) with its score below, or all in a table; the numbers reach the history too."""
    sheets = captions(pixels, scores) if len(pixels) <= MOST_PREVIEWS else [table(pixels, scores)]
    return {
        "images": [_save(sheet) for sheet in sheets],
        "scores": list(map(_json_number, scores.total)),
        "text": [scores.text()],
    }


def captions(pixels: Sequence[Tensor], scores: Scores) -> list[Image.Image]:
    """Each image with its score below, all of one size: the page fits them into equal cells, so that all letters are equal."""
    pictures = [_fitted(to_picture(one), SIDE) for one in pixels]
    widths = [max(picture.width, text_width(number(scores.total[i]), SCORE) + 16) for i, picture in enumerate(pictures)]
    box = max(widths), max(picture.height for picture in pictures)
    return [_sheet(picture, box, scores, i) for i, picture in enumerate(pictures)]


def _sheet(picture: Image.Image, box: tuple[int, int], scores: Scores, i: int) -> Image.Image:
    width, height = box
    sheet = Image.new("RGB", (width, height + STRIP + (NAME_STRIP if scores.names else 0)), PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    canvas = ImageDraw.Draw(sheet)
    ink, ground = _ink(scores, i), PAPER
    if _is_best(scores, i):
        ink, ground = PAPER, ink
    canvas.rectangle((0, height, width, height + STRIP - 1), fill=ground)
    write_line(canvas, (width / 2, height + STRIP / 2), number(scores.total[i]), "middle", ink, SCORE)
    if scores.names:
        name = _name(scores, i, width - 16, NAME)
        write_line(canvas, (width / 2, height + STRIP + NAME_STRIP / 2), name, "middle", SOFT, NAME)
    return sheet


def table(pixels: Sequence[Tensor], scores: Scores) -> Image.Image:
    """A small image, score and name each, best first, down the columns; of more than `MOST_CELLS` the best of them."""
    shown = scores.order()[:MOST_CELLS]
    rows = math.ceil(len(shown) / COLUMNS)
    width, height = CELL
    sheet = Image.new("RGB", (COLUMNS * width, HEAD + rows * height), PAPER)
    canvas = ImageDraw.Draw(sheet)
    write_line(
        canvas,
        (8, HEAD / 2),
        shortened(_heading(scores, len(shown)), sheet.width - 16, HEAD_TEXT),
        "start",
        INK,
        HEAD_TEXT,
    )
    for place, i in enumerate(shown):
        column, row = divmod(place, rows)
        x, y = column * width + 4, HEAD + row * height
        picture = _fitted(to_picture(pixels[i]), THUMBNAIL)
        sheet.paste(picture, (x + (THUMBNAIL - picture.width) // 2, y + (THUMBNAIL - picture.height) // 2))
        left, room = x + THUMBNAIL + 10, width - THUMBNAIL - 18
        write_line(canvas, (left, y + 22), number(scores.total[i]), "start", _ink(scores, i), CELL_SCORE)
        write_line(canvas, (left, y + 54), _name(scores, i, room, CELL_NAME), "start", SOFT, CELL_NAME)
    return sheet


def _heading(scores: Scores, shown: int) -> str:
    many = f"the first {shown} of {len(scores)}" if shown < len(scores) else f"{shown} images"
    return f"{scores.title}, {many}: {scores.summary()}"


def _name(scores: Scores, i: int, room: int, size: int) -> str:
    """Cut in the middle: files of one series differ at the end of their names."""
    name = scores.name(i)
    if text_width(name, size) <= room:
        return name
    kept = len(name) - 1
    while kept > 1 and text_width(_clipped(name, kept), size) > room:
        kept -= 1
    return _clipped(name, kept)


def _clipped(name: str, kept: int) -> str:
    return f"{name[: kept // 2]}...{name[-(kept - kept // 2) :]}"


def _ink(scores: Scores, i: int) -> tuple[int, int, int]:
    return WARNING if i in scores.notes else BEST if _is_best(scores, i) else INK


def _is_best(scores: Scores, i: int) -> bool:
    return len(scores) > 1 and scores.total[i] == scores.best


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """As large as fits into a square, small images enlarged."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def show(picture: Image.Image) -> dict[str, Any]:
    """The `ui` of a node that shows one picture."""
    return {"images": [_save(picture)]}


def _save(picture: Image.Image) -> ui.SavedResult:
    name = "ImageReward_" + "".join(random.choices(string.ascii_lowercase, k=5))
    folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(name, folder_paths.get_temp_directory())
    file = f"{stem}_{counter:05}_.jpg"
    with replacing(Path(folder) / file) as whole:
        picture.save(whole, format="JPEG", quality=90)
    return ui.SavedResult(file, subfolder, io.FolderType.temp)


def _json_number(value: float) -> float | None:
    """JSON has neither NaN nor infinity: one of them would cost the page the whole history."""
    return value if math.isfinite(value) else None
