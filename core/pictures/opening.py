"""The one way in: a file is read once and becomes a `Picture`, or a BadImage with the reason."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps

from ..errors import BadImage, ImageRewardError, ImageUnavailable
from . import limits
from .formats import jpeg, png
from .formats.table import FORMATS, Format, cure, opener_of

_IN_MEMORY = re.compile(
    r"\s*:?\s*<[^<>]* object at 0x[0-9a-fA-F]+>"
)  # what decoders call bytes that come without a file

_ORIENTATION = 0x0112  # of EXIF
# Its values -> how the stored image is turned (CIPA DC-008, 4.6.4).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What os.open has on Windows and elsewhere: no translation of line breaks; a pipe that took a file's place does not block.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Picture:
    """A picture file, read once."""

    path: Path
    data: bytes = field(repr=False)  # the file
    image: Image.Image = field(repr=False)  # as it is stored, decoded, with its texts in `info`

    @cached_property
    def hash(self) -> bytes:
        return content_hash(self.data)

    @cached_property
    def upright(self) -> Image.Image:
        """The image turned as its EXIF orientation says; the same object where it is upright already."""
        return upright(self.image)

    @property
    def width(self) -> int:
        """In pixels, upright."""
        return upright_size(self.image)[0]

    @property
    def height(self) -> int:
        """In pixels, upright."""
        return upright_size(self.image)[1]


def open_picture(
    path: str | os.PathLike[str], data: bytes | None = None, *, draft: tuple[int, int] | None = None
) -> Picture:
    """Reads and decodes a file, once.

    Args:
        path: the file.
        data: its bytes, if they were read already.
        draft: (width, height) for a thumbnail; a JPEG may come smaller, but not smaller than this, in less time.

    Returns:
        The file's bytes, its decoded image, its size and its hash.

    Raises:
        ImageUnavailable: what may be otherwise at another time: the file is missing, held by a program, not permitted, still
            being written, beyond a limit or of a format whose package is not installed; or memory ran out.
        BadImage: what a decoder found wrong with the bytes. Nothing else is raised.
    """
    name = os.fspath(path)
    data = read_file(path) if data is None else data
    image = _header(data, name)
    try:
        if draft is not None:
            image.draft(image.mode, draft)
        image.load()
    except Exception as error:
        raise _refusal(error, name) from error
    return Picture(Path(path), data, image)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The upright PIL image of a file, decoded, with its texts.

    Args:
        path: the file.

    Returns:
        The image, turned as its EXIF orientation says.

    Raises:
        BadImage: as `open_picture`.
    """
    return open_picture(path).upright


def open_header(path: str | os.PathLike[str], data: bytes | None = None) -> Image.Image:
    """The image of a file with its size and its texts, its pixels not decoded yet. Raises as `open_picture`."""
    return _header(read_file(path) if data is None else data, os.fspath(path))


def content_hash(data: bytes) -> bytes:
    """By which the same file is known under another name."""
    return hashlib.blake2b(data, digest_size=16).digest()


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; the same object where there is nothing to turn."""
    orientation = orientation_of(image)
    if orientation == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow writes the EXIF anew, which it cannot where that is damaged
        turned = image.transpose(TURNS[orientation])
        turned.info.pop("exif", None)
        return turned


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the upright image."""
    return image.size if orientation_of(image) < 5 else (image.height, image.width)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, which is upright, where it is missing or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises whatever the damage happens to hit
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


# -- bytes -------------------------------------------------------------------------------------------------------------


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file, all of one moment. Raises ImageUnavailable."""
    name = os.fspath(path)
    try:
        _check_regular(os.stat(path), name)  # before it is opened: opening a device may act
        with open(os.open(path, _OPEN_FLAGS), "rb") as file:
            before = os.fstat(file.fileno())
            _check_regular(before, name)
            data = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        raise ImageUnavailable(f"no such image: {name}") from None
    except ImageRewardError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero character in the name
        raise ImageUnavailable(f"cannot read {name} now: {_reason(error)}") from error
    except MemoryError:
        raise ImageUnavailable(f"no memory is left to read {name}") from None
    if len(data) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ImageUnavailable(f"{name} changed while it was read: another program is still writing it")
    return data


def _check_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ImageUnavailable(f"expected an image file, found {kind}: {name}")
    try:
        limits.FILE_BYTES.check(status.st_size)
    except ImageRewardError as error:
        raise ImageUnavailable(f"cannot read {name} as an image: {error}") from None


# -- decoding ----------------------------------------------------------------------------------------------------------


def _header(data: bytes, name: str) -> Image.Image:
    """What `Image.open` does, with our formats and limits in place of Pillow's, which belong to the whole process."""
    try:
        if not data:
            raise BadImage("the file is empty")
        image, share = _recognised(data)
        limits.SIDE.check(max(image.size))
        limits.PIXELS.check(image.width * image.height, share)
    except Exception as error:  # decoders meet damage in ways of their own
        raise _refusal(error, name) from error
    return image


def _recognised(data: bytes) -> tuple[Image.Image, int]:
    """The image, not decoded yet, and which share of the limit of pixels it may take."""
    failure: Exception = BadImage("it is in no format that is known here")
    for row in FORMATS:
        if not row.recognises(data):
            continue
        opener = opener_of(row, data)
        if opener is None:
            failure = ImageUnavailable(cure(row))
            continue
        try:
            image = _opened(row, opener, data)
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as `Image.open`: another may begin alike
            failure = error
            continue
        if image.info.get("progressive"):  # ten scans are usual
            return image, max(3, jpeg.scans(data) // 4)
        return image, row.share
    raise failure


def _opened(row: Format, opener: Callable[[IO[bytes], str], Image.Image], data: bytes) -> Image.Image:
    if row.name != "PNG":
        return opener(BytesIO(data), "")
    # Pillow refuses texts and colour profiles that unpack to more than 1 MB, which workflows do.
    pixels, info = png.without_texts(data)
    image = opener(BytesIO(pixels), "")
    image.info.update(info)
    return image


def _refusal(error: Exception, name: str) -> BadImage:
    """What another's exception means for a file."""
    if isinstance(error, ImageRewardError):
        kind = BadImage if type(error) is BadImage else ImageUnavailable
        return kind(f"cannot read {name} as an image: {error}")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageUnavailable(f"cannot read {name}: it goes beyond a limit of Pillow's own ({error})")
    reason = _reason(error)
    if isinstance(error, MemoryError) or "out of memory" in reason.lower():
        return ImageUnavailable(f"no memory is left to decode {name}")
    if isinstance(error, OSError) and error.errno:
        return ImageUnavailable(f"cannot read {name} now: {reason}")
    return BadImage(f"cannot read {name} as an image: {reason}")


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return _IN_MEMORY.sub("", text).strip() or type(error).__name__
