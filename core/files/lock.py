"""One process at a time on a folder or a file; the others wait, or are told."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FolderInUse, UnwritableFile

if TYPE_CHECKING:
    from filelock import BaseFileLock

NAME = ".imagereward.lock"
_UNLOCKABLE = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(
    path: str | os.PathLike[str], *, wait: float = 0.0, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Holds the lock of a folder (`FOLDER/.imagereward.lock`) or of a file (`FILE.lock`) while the block runs.

    It ends with the process, however that ends. Where it cannot be written, the lock lies in the user's cache. A thread
    that asks for a lock which it already has gets the error, too.

    wait: seconds to wait for another process; on_wait: called once before waiting, to say so.
    Raises FolderInUse if another process still has it then, UnwritableFile if there is no place for a lock.
    """
    path = Path(os.path.realpath(path))
    lock = _acquired(path, 0.0)
    if lock is None and wait > 0:
        if on_wait is not None:
            on_wait()
        lock = _acquired(path, wait)
    if lock is None:
        raise FolderInUse(f"another process is working on {path}. Wait for it to end, or end it, and try again.")
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, wait: float) -> BaseFileLock | None:
    beside = path / NAME if path.is_dir() else path.with_name(path.name + ".lock")
    try:
        return _acquired_at(beside, wait)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise UnwritableFile(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        return _acquired_at(_in_cache(path), wait)
    except OSError as error:
        raise UnwritableFile(f"cannot lock {path}: {error.strerror or error}") from error


def _acquired_at(file: Path, wait: float) -> BaseFileLock | None:
    from filelock import FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(file)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        return None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNLOCKABLE:
            raise
        # A file system without locks, as some network drives are: the file's existence is the lock.
        lock = SoftFileLock(file.with_name(file.name + "ed"))
        with suppress(Timeout):
            lock.acquire(timeout=wait)
            return lock
        return None
    return lock


def _in_cache(path: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagereward"
    cache.mkdir(parents=True, exist_ok=True)
    return cache / f"{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}.lock"
