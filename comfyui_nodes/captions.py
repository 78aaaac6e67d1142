"""Previews with the score written under each image."""

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
from ..core.pages.drawing import load_font, text_width, write_line
from .pictures import to_picture
from .scores import Scores

LONGEST_SIDE = 512  # of a preview; the images themselves go on as they are
SMALLEST_TEXT = 17
INK, PAPER, WARNING = (235, 235, 235), (28, 28, 28), (255, 190, 90)


def preview(pixels: Sequence[Tensor], scores: Scores) -> dict[str, Any]:
    """The `ui` of a node: an image (3, H, W) with its score below, for each; the numbers reach the history too."""
    saved = [_save(caption(image, scores, i)) for i, image in enumerate(pixels)]
    return {"images": saved, "scores": list(map(_json_number, scores.total)), "text": [scores.text()]}


def caption(pixels: Tensor, scores: Scores, i: int) -> Image.Image:
    """The image with its score below, in letters that grow with it: a node shows many previews side by side."""
    picture = to_picture(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    size = max(SMALLEST_TEXT, picture.width // 7)
    text = f"{scores.total[i]:.4f}"
    _, top, _, bottom = load_font(size).getbbox(text)
    width, strip = max(picture.width, text_width(text, size) + 8), int((bottom - top) * 1.8)
    sheet = Image.new("RGB", (width, picture.height + strip), PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    ink = WARNING if i in scores.notes else INK
    write_line(ImageDraw.Draw(sheet), (width / 2, picture.height + strip / 2), text, "middle", ink, size)
    return sheet


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
