"""The formats of picture files: one row each, which everything that lists, opens, labels or saves files reads."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import PIL
from PIL import Image

_PREFIX = 16  # bytes by which Pillow tells a format


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format, for those Pillows that do not know it."""

    module: str
    package: str  # what pip installs
    register: str = ""  # a function of the module; "": importing it is enough


@dataclass(frozen=True)
class Format:
    """name: Pillow's. recognises: by the bytes of a file. endings: in lower case, the usual one first."""

    name: str
    endings: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    labelled: bool = False  # whether scores can be written into a file that exists
    saved: bool = False  # whether `save_image` writes it
    listed: bool = True  # whether a folder's files of this kind are taken; others are read when they are named
    plugin: Plugin | None = None
    share: int = 1  # a third or a quarter of the limit of pixels, for decoders that hold a picture as many times


def _starts(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(marks)


def _brand(*names: bytes) -> Callable[[bytes], bool]:
    """ISO base media files say in their first box what they hold (ISO/IEC 14496-12, 4.3)."""
    return lambda data: data[4:8] == b"ftyp" and data[8:12] in names


# Containers that may hold AVIF or HEIF: whoever can read the file has it.
_EITHER = (b"mif1", b"msf1")
_AVIF = Plugin("pillow_avif", "pillow-avif-plugin")
_HEIF = Plugin("pillow_heif", "pillow-heif", "register_heif_opener")
_JXL = Plugin("pillow_jxl", "pillow-jxl-plugin")

FORMATS: tuple[Format, ...] = (
    Format("PNG", (".png", ".apng"), _starts(b"\x89PNG\r\n\x1a\n"), labelled=True, saved=True),
    Format("JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), _starts(b"\xff\xd8\xff"), labelled=True, saved=True),
    Format(
        "WEBP",
        (".webp",),
        lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
        labelled=True,
        saved=True,
        share=3,
    ),
    Format("AVIF", (".avif",), _brand(b"avif", b"avis", *_EITHER), labelled=True, saved=True, plugin=_AVIF, share=3),
    Format("GIF", (".gif",), _starts(b"GIF87a", b"GIF89a"), saved=True),
    Format("BMP", (".bmp", ".dib"), _starts(b"BM")),
    Format("TIFF", (".tif", ".tiff"), _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    Format(
        "HEIF",
        (".heic", ".heif", ".hif"),
        _brand(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", *_EITHER),
        plugin=_HEIF,
        share=3,
    ),
    Format("JPEG2000", (".jp2", ".j2k", ".jpx"), _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), share=4),
    Format("JXL", (".jxl",), _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), plugin=_JXL, share=3),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), _starts(*(b"P%d" % kind for kind in range(1, 7))), listed=False),
    Format("QOI", (".qoi",), _starts(b"qoif"), listed=False),
    Format("TGA", (".tga",), lambda data: data.endswith(b"TRUEVISION-XFILE.\0"), listed=False),
)

ENDINGS = {ending: row for row in FORMATS for ending in row.endings}
LISTED_ENDINGS = frozenset(ending for ending, row in ENDINGS.items() if row.listed)
LABELLED_ENDINGS = frozenset(ending for ending, row in ENDINGS.items() if row.labelled)
SAVED_ENDINGS = {ending: row.name for ending, row in ENDINGS.items() if row.saved}


def ending_of(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.fspath(path))[1].lower()


def is_listed(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a picture by its name, and one to take when a folder is given."""
    return ending_of(path) in LISTED_ENDINGS


def opener_of(row: Format, data: bytes) -> Callable[[IO[bytes], str], Image.Image] | None:
    """What makes an image of a file of this format; None where neither Pillow nor a plugin that is installed reads it."""
    Image.init()
    if row.name not in Image.OPEN and row.plugin is not None:
        _load(row.plugin)
    if row.name not in Image.OPEN:
        return None
    factory, accept = Image.OPEN[row.name]
    # A Pillow that was built without the format's library answers with a text.
    return None if accept is not None and isinstance(accept(data[:_PREFIX]), str) else factory


def cure(row: Format) -> str:
    """What to do about a format that cannot be read here."""
    needed = f"Pillow {PIL.__version__} cannot read {row.name} files here"
    if row.name == "AVIF":
        return f'{needed}. Run: pip install "Pillow>=11.3"'
    return f"{needed}. Run: pip install {row.plugin.package}" if row.plugin else f"{needed}: it was built without them"


def _load(plugin: Plugin) -> None:
    try:
        module = importlib.import_module(plugin.module)
        if plugin.register:
            getattr(module, plugin.register)()
    except Exception:  # not installed, or broken by another version of Pillow: the format stays unknown
        return
