"""The text files beside a picture that may hold its prompt, in the order in which they are read.

fox.txt        WebUIs (`Save text information next to images`), trainers, people
fox.png.txt    hydrus and others that keep the whole name
fox.caption    trainers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import UnreadableText
from ..files.text import MOST_BYTES, read_text
from .origin import TEXT_FILE, Origin

_FOREIGN = re.compile("[\u00a0-\u2122]")
_MISREAD = re.compile("[\u00a0-\u00bf\u00c0-\u2122]{3}|[\x80-\x9f]")


def texts_beside(picture: Path) -> Iterator[Path]:
    """The text files beside a picture that are there, the one that counts first."""
    for path in (
        picture.with_suffix(".txt"),
        picture.with_name(f"{picture.name}.txt"),
        picture.with_suffix(".caption"),
    ):
        if path.is_file():
            yield path


def read_beside(path: Path) -> tuple[str, str]:
    """(the text, why it may be misread). A text in no encoding that is known is empty, with the reason."""
    try:
        return read_text(path).strip(), ""
    except UnreadableText as error:
        western = _as_western(path)
        reason = f"{path.name} is read as Windows-1252, which it does not say; save it as UTF-8"
        return (western, reason) if western else ("", str(error))


def _as_western(path: Path) -> str:
    """A text of an older Windows, where that leaves words that people write: single foreign letters among plain ones."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("cp1252").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if _MISREAD.search(text) or 3 * len(_FOREIGN.findall(text)) > len(text) else text


def in_text_file(origin: Origin, path: Path, doubt: str) -> Origin:
    """What was read of such a text, as that of a text file."""
    syntax = origin.program if origin.model or origin.negative or origin.program != "A1111" else ""
    return replace(origin, program=TEXT_FILE, where=path.name, syntax=syntax, uncertain=doubt or origin.uncertain)
