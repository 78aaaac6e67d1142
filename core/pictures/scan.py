"""Which image files lie below a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ..files.atomic import remove_leftover

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif"})


class Entry(NamedTuple):
    """A file as the file system describes it; the two numbers tell whether it changed."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Entry:
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)


def scan(root: Path, without: Collection[Path] = ()) -> Iterator[Entry]:
    """Every image below `root`, folder by folder, without holding more than the folders' names in memory.

    Hidden files and folders, symbolic links and the folders in `without` are left out; so is what cannot be listed.
    Half-written files that a killed process left behind are removed on the way.
    """
    left_out = {os.path.realpath(folder) for folder in without}
    waiting = [os.path.realpath(root)]
    while waiting:
        folder = waiting.pop()
        if folder in left_out:
            continue
        try:
            with os.scandir(folder) as listing:
                for item in listing:
                    if item.name.startswith("."):
                        remove_leftover(Path(item.path))
                        continue
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(item.path)
                    elif os.path.splitext(item.name)[1].lower() in SUFFIXES and item.is_file(follow_symlinks=False):
                        stat = item.stat(follow_symlinks=False)
                        yield Entry(Path(item.path), stat.st_size, stat.st_mtime_ns)
        except OSError:  # no permission, or gone meanwhile
            continue
