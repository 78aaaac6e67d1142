"""The files that belong to a picture: captions, prompts, scores and settings that programs put beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..files.journal import Part
from .formats.table import LISTED_ENDINGS

TAILS = (".txt", ".caption", ".json", ".score.json", ".swarm.json", ".xmp")
"""Of `cat.png` each may be `cat.txt` or `cat.png.txt`."""


def companions_of(picture: Path) -> Iterator[tuple[Path, str]]:
    """(path, what to put behind the picture's stem to name it) of each companion that is there."""
    for end in (*TAILS, *(picture.suffix + tail for tail in TAILS)):
        path = picture.with_name(picture.stem + end)
        if path.is_file() and not path.is_symlink():
            yield path, end


def parts_to(picture: Path, target: Path, *, copied: bool = False) -> list[Part]:
    """The picture and its companions on their way to `target` and beside it.

    A companion that another picture of the same stem needs, too, is copied.
    """
    shared = not copied and bool(_namesakes(picture))
    parts = [Part(picture, target, copied)]
    for path, end in companions_of(picture):
        of_all = end in TAILS
        new_end = end if of_all else target.suffix + end.removeprefix(picture.suffix)
        parts.append(Part(path, target.with_name(target.stem + new_end), copied or (shared and of_all)))
    return parts


def parts_if_free(picture: Path, target: Path, *, copied: bool = False) -> list[Part] | None:
    """`parts_to`, or None if the name is taken: by a file, or by a picture of that stem that would share companions."""
    parts = parts_to(picture, target, copied=copied)
    own = {part.old for part in parts if not part.copied}
    for_stem = {target.stem + tail for tail in TAILS}
    others = [path for path, _ in companions_of(target)]
    if any(part.new.name in for_stem for part in parts[1:]):
        others += _namesakes(target)
    taken = any(os.path.lexists(part.new) for part in parts)
    return None if taken or any(path not in own for path in others) else parts


def owned_by(picture: Path) -> list[Path]:
    """The picture and those companions that no other picture needs."""
    return [part.old for part in parts_to(picture, picture) if not part.copied]


def _namesakes(picture: Path) -> list[Path]:
    """Other pictures with the same stem in the same folder."""
    endings = sorted({*LISTED_ENDINGS, *map(str.upper, LISTED_ENDINGS)})
    found = (picture.with_suffix(ending) for ending in endings)
    return [path for path in found if path.name != picture.name and path.exists() and not _is_one_file(path, picture)]


def _is_one_file(first: Path, second: Path) -> bool:
    """As cat.png and cat.PNG are where the file system makes no difference between them."""
    return second.exists() and first.samefile(second)
