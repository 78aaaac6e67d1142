"""File names that every system takes, and that no other file has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LONGEST_NAME = 255
"""Bytes of UTF-8; the limit of nearly every file system. Windows counts in UTF-16 units, which are never more."""

_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f]')
# Windows opens devices by these names, whatever ending follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\.|$)", re.IGNORECASE)
_ROOM = 24  # for a companion's longer ending, such as .webp.score.json


def safe_name(text: str, most_bytes: int) -> str:
    """The text as a file name, without an ending, that Windows, macOS and Linux take; "" if nothing is left of it."""
    name = _cut(_UNSAFE.sub("_", text).strip(" ."), most_bytes).rstrip(" .")
    return f"_{name}" if is_device_name(name) else name


def why_no_file_name(name: str) -> str:
    """Why a file's name without its ending, or a folder's, will not do on some system; "" if it will.

    In words that follow "it", as in "holds ':'".
    """
    found = _UNSAFE.search(name)
    if not name.strip(" ."):
        return "holds no letter"
    if found is not None:
        return f"holds {found[0]!r}"
    if is_device_name(name):
        return "is the name of a device on Windows"
    if name[-1] in ". " or name[0] == " ":
        return "begins or ends in a space, or ends in a dot"
    most = LONGEST_NAME - _ROOM
    return "" if _cut(name, most) == name else f"is longer than {most} bytes"


def is_device_name(name: str) -> bool:
    """Whether Windows opens a device by this name, as it does by `NUL` and `con.txt`."""
    return _DEVICES.match(name) is not None


def numbered(path: Path) -> Iterator[Path]:
    """cat.png, cat (1).png, cat (2).png, ... A name that would become too long for it is shortened."""
    yield path
    number = 1
    while True:
        ending = f" ({number}){path.suffix}"
        room = LONGEST_NAME - _ROOM - len(ending.encode("utf-8", "surrogateescape"))
        yield path.with_name(_cut(path.stem, room).rstrip(" .") + ending)
        number += 1


def _cut(text: str, most_bytes: int) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return text if len(data) <= most_bytes else data[:most_bytes].decode("utf-8", "ignore")
