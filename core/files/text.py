"""Text files that people write, in whatever editor they have."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ..errors import UnreadableText

MOST_BYTES = 64 << 20
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file: in the encoding that a byte order mark names, else in UTF-8. Line breaks become "\\n".

    Raises UnreadableText for a file that is missing, not permitted, larger than 64 MiB, or in another encoding.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UnreadableText(f"expected a text file, found {'a folder' if path.is_dir() else 'nothing'} at {path}")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableText(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise UnreadableText(f"expected a text file of at most {MOST_BYTES >> 20} MiB, got a larger one: {path}")
    return decode_text(data, os.fspath(path))


def decode_text(data: bytes, name: str) -> str:
    """The text of bytes that were read from the file `name`; see `read_text`."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableText(
            f"cannot read {name} as {encoding.removesuffix('-sig').upper()} text (byte {error.start}). Save it as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
