"""Which image files lie below a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ..files.atomic import remove_leftover
from .formats.table import is_listed

_SYSTEM_FOLDERS = ("$recycle.bin", "system volume information")
# Of Windows: what Explorer does not show, and junctions, which lead elsewhere as symbolic links do.
_LEFT_OUT = stat.FILE_ATTRIBUTE_HIDDEN | stat.FILE_ATTRIBUTE_SYSTEM
_LINKS = (0xA000000C, 0xA0000003)  # IO_REPARSE_TAG_SYMLINK and _MOUNT_POINT; files of OneDrive have other tags


class Entry(NamedTuple):
    """A file as the file system describes it; the two numbers tell whether it changed."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Entry:
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)


def scan(root: Path, without: Collection[Path] = (), *, tidy: bool = True) -> Iterator[Entry]:
    """Every image below `root`, folder by folder, without holding more than the folders' names in memory.

    Hidden files and folders, the system's own, symbolic links, junctions and the folders in `without` are left out; so is
    what cannot be listed. tidy: half-written files that a killed process left behind are removed on the way.
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
                        if tidy:
                            remove_leftover(Path(item.path))
                        continue
                    if _is_the_systems(item):
                        continue
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(item.path)
                    elif is_listed(item.name) and item.is_file(follow_symlinks=False):
                        found = item.stat(follow_symlinks=False)
                        yield Entry(Path(item.path), found.st_size, found.st_mtime_ns)
        except OSError:  # no permission, or gone meanwhile
            continue


def _is_the_systems(item: os.DirEntry[str]) -> bool:
    if item.name.lower() in _SYSTEM_FOLDERS:
        return True
    try:
        found = item.stat(follow_symlinks=False)  # on Windows it comes with the listing
    except OSError:
        return False
    attributes = getattr(found, "st_file_attributes", 0)
    return bool(attributes & _LEFT_OUT) or getattr(found, "st_reparse_tag", 0) in _LINKS
