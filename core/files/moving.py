"""Moving, copying and trashing one file so that nothing is overwritten or lost, whenever the process is killed."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import ImageRewardError
from .atomic import patiently, remove, rename, replace, replacing_path

# A file system without hard links, or one that does not allow this file another name.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL}


def move_file(old: Path, new: Path, temporary: Path) -> None:
    """Moves a file; FileExistsError if there is one already. To another file system: copied whole, then removed.

    temporary: where a copy grows, beside `new`. A process that is killed on the way may leave this file, or both `old` and
    `new`: one file with two names, an empty `new`, or, from one file system to another, two whole files.
    """
    try:
        _rename(old, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(old, new, temporary)
        _remove_or_take_back(old, new)


def copy_file(old: Path, new: Path, temporary: Path) -> None:
    """Copies a file with its times and permissions; it appears under its name when it is whole. Never overwrites."""
    with suppress(FileNotFoundError):
        remove(temporary)  # of a process that was killed
    try:
        with open(old, "rb") as source, open(temporary, "xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        shutil.copystat(old, temporary)
        _rename(temporary, new)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise


@contextmanager
def creating(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """As `atomic.replacing`, for a file that must be new: it appears under its name when it is whole.

    Raises FileExistsError, and leaves everything as it was, if something of this name is there before or after the block.
    """
    target = Path(path)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    with replacing_path(target, take_place=_rename) as temporary, open(temporary, "r+b") as file:
        yield file


def trash() -> Callable[[Path], None]:
    """What moves a file to the system's trash. Raises ImageRewardError if the package for it is missing."""
    try:
        send = importlib.import_module("send2trash").send2trash
    except ImportError as error:
        raise ImageRewardError(
            "files go to the system's trash only, and that needs a package: pip install send2trash"
        ) from error
    return lambda path: patiently(lambda: send(os.fspath(path)), path, "delete")


def _rename(old: Path, new: Path) -> None:
    """os.rename that refuses to replace."""
    if os.name == "nt":
        rename(old, new)  # refuses by itself
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        _rename_over_placeholder(old, new)
        return
    _remove_or_take_back(old, new)


def _remove_or_take_back(old: Path, new: Path) -> None:
    """The end of a move: where the old name stays, as in a folder that cannot be written, the new one goes."""
    try:
        remove(old)
    except OSError:
        with suppress(OSError):
            remove(new)
        raise


def _rename_over_placeholder(old: Path, new: Path) -> None:
    """Takes the name with an empty file, which nobody else can do a second time, and replaces that."""
    open(new, "xb").close()
    try:
        replace(old, new)
    except OSError:
        with suppress(OSError):
            remove(new)
        raise
