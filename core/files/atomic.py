"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.tmp")
STALE_SECONDS = 60.0  # a younger one may be what another process is writing


def temporary_beside(path: Path) -> Path:
    """A name that no program lists among the images, and that `remove_leftover` knows."""
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def remove_leftover(path: Path) -> bool:
    """Removes a temporary file of a process that was killed; whether it was one."""
    if not _LEFTOVER.fullmatch(path.name):
        return False
    with suppress(OSError):
        # Of the inode: the file may already bear the older time of the image it was to replace.
        if time.time() - path.lstat().st_ctime < STALE_SECONDS:
            return False
        path.unlink()
        return True
    return False


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` that takes its place when the block ends, and is removed if it fails.

    The permissions of an existing file are kept; a symbolic link keeps pointing to its file, whose content changes.
    """
    target = Path(os.path.realpath(path))
    temporary = temporary_beside(target)
    try:
        with open(temporary, "xb") as file:  # not tempfile: its files are unreadable to other users for good
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:  # an interrupt, too, leaves nothing behind
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
