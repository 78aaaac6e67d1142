"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` that takes its place when the block ends, and is removed if it fails.

    The permissions of an existing file are kept; a symbolic link keeps pointing to its file, whose content changes.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
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
