"""Pictures on a page: thumbnails, links to the files, and the cards that show both with a score."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image, features

from ..errors import ImageRewardError
from ..pictures.opening import open_picture, upright
from ..pictures.pixels import to_pixels

QUALITY = 80


class Thumbnail(NamedTuple):
    """An image inside the page: its data URI, and its size in pixels."""

    source: Markup
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """Where a page shows a picture, or says why it cannot."""

    source: str = ""  # what <img> loads
    width: int = 0
    height: int = 0
    link: str = ""  # "": leads nowhere
    trouble: str = ""


@dataclass(frozen=True)
class Card:
    """A picture with what is known of it."""

    frame: Frame
    name: str
    rank: int
    score: float  # NaN: could not be scored
    percentile: float | None = None  # 0..100
    prompt: str = ""
    made: str = ""  # by which checkpoint and LoRAs
    components: Mapping[str, float] = field(default_factory=dict)  # what the score is made of, by title
    words: str | None = None  # where the page's search looks


def frame(image: str | os.PathLike[str] | Image.Image, side: int, folder: Path | None = None) -> Frame:
    """A thumbnail of at most `side` pixels; for a page in `folder`, with a link to the file."""
    link = "" if folder is None or isinstance(image, Image.Image) else link_to(Path(image), folder)
    try:
        return Frame(*thumbnail(image, side), link=link)
    except (ImageRewardError, OSError) as error:
        return Frame(trouble=str(error))


def thumbnail(image: str | os.PathLike[str] | Image.Image, side: int) -> Thumbnail:
    """The image with a longer side of at most `side` pixels, turned as its EXIF orientation says. Raises BadImage."""
    picture = upright(image if isinstance(image, Image.Image) else _open_small(image, side))
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(to_pixels(picture).permute(1, 2, 0).numpy())  # CHW -> HWC
    clear = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    webp = bool(features.check("webp"))
    picture = picture.convert("RGBA" if clear and webp else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "WEBP" if webp else "JPEG"
    picture.save(buffer, kind, quality=QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(Markup(f"data:image/{kind.lower()};base64,{encoded}"), *picture.size)


def _open_small(path: str | os.PathLike[str], side: int) -> Image.Image:
    """The decoded image; a JPEG at the smallest of its decoder's scales that is large enough, which is several times faster."""
    return open_picture(path, draft=(2 * side, 2 * side)).image


def link_to(image: Path, folder: Path) -> str:
    """A link from a page in `folder` to the file that still holds when both are moved together."""
    try:
        relative = _relative(os.fspath(image), os.fspath(folder))
    except ValueError:  # another drive on Windows
        return image.absolute().as_uri()
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))  # a name need not be UTF-8


def _relative(path: str, folder: str) -> str:
    """`os.path.relpath`, without its time (19 µs of a card) for a file below the folder."""
    below = path.startswith(folder + os.sep) and f"{os.sep}.." not in path
    return path[len(folder) + 1 :] if below else os.path.relpath(path, folder)
