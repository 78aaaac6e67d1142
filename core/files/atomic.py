"""Files that are either the old one or the whole new one, never half of it.

Everything that takes the place of a file goes through `replace`: on Windows an antivirus, an indexer or OneDrive opens new
files for a moment, and a file that is open cannot be replaced.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..errors import FileInUse, UnwritableFile
from .attributes import copy_attributes

T = TypeVar("T")

# The longer name is that of earlier versions.
_LEFTOVER = re.compile(r"\.(ir-[0-9a-f]{8}|[0-9a-f]{32})\.tmp")
STALE_SECONDS = 60.0  # a younger one may be what another process is writing

PATIENCE_SECONDS = 6.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_HELD_WINDOWS = (5, 32, 33)  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
_FULL_WINDOWS = (39, 112, 223)  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL, ERROR_FILE_TOO_LARGE
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
# The same in Rust's words, in which safetensors tells them.
_FULL_WORDS = re.compile(r"(os error |code: )(27|28|39|112|122|223)\b|no space left|not enough space", re.IGNORECASE)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """os.replace that waits for a file which another program holds for a moment.

    Raises FileInUse if it is still held after some seconds. `source` stays where it is then.
    """
    patiently(lambda: os.replace(source, target), Path(target), "replace")


def remove(path: str | os.PathLike[str]) -> None:
    """os.unlink with the patience of `replace`; the read-only attribute of Windows does not keep a file.

    Raises FileInUse if the file is still held after some seconds, FileNotFoundError if it is not there.
    """
    path = Path(path)
    if os.name == "nt" and _is_read_only(path.lstat()):
        path.chmod(stat.S_IWRITE)
    patiently(lambda: os.unlink(path), path, "delete")


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """os.rename with the patience of `replace`. An existing target: see os.rename."""
    patiently(lambda: os.rename(source, target), Path(source), "move")


def patiently(action: Callable[[], T], path: Path, verb: str) -> T:
    """What `action` returns; tried again for some seconds while another program holds the file that it is about.

    Raises FileInUse, which says "cannot `verb` `path`", if it is still held then; any other error at once.
    """
    pause, waited = _FIRST_PAUSE, 0.0
    while True:
        try:
            return action()
        except OSError as error:
            if not _may_pass(error):
                raise
            if waited >= PATIENCE_SECONDS:
                raise _in_use(path, verb, error) from error
        time.sleep(pause)
        waited += pause
        pause = min(pause * 2, _LONGEST_PAUSE)


def temporary_beside(path: Path) -> Path:
    """A name that no program lists among the images, and that `remove_leftover` knows.

    Short: Windows allows 260 characters for a whole path.
    """
    return path.with_name(f".ir-{secrets.token_hex(4)}.tmp")


def remove_leftover(path: Path) -> bool:
    """Removes a temporary file of a process that was killed; whether it was one."""
    if not _LEFTOVER.fullmatch(path.name):
        return False
    with suppress(OSError):
        # Of the inode: the file may already bear the older time of the image it was to replace.
        if time.time() - path.lstat().st_ctime < STALE_SECONDS:
            return False
        remove(path)
        return True
    return False


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_attributes: bool = False) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` that takes its place when the block ends, and is removed if it fails.

    The permissions of an existing file are kept; a symbolic link keeps pointing to its file, whose content changes. A
    pipe or a device (/dev/null) is written to.

    keep_attributes: the new file also gets the old one's times, owner, group and extended attributes; where that is
    impossible, nothing is written.

    Raises UnwritableFile before the block if the folder is missing or not writable or the file is read-only; after it
    if the disk has no room; FileInUse if another program keeps the old file open.
    """
    if is_pipe(path):
        with open(path, "wb") as pipe:
            yield pipe
        return
    with replacing_path(path, keep_attributes=keep_attributes) as temporary, open(temporary, "r+b") as file:
        yield file


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text as UTF-8 in the place of a file; raises as `replacing`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a name that is no valid unicode must not cost the rest


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Adds a text to the end of a file, made if it is not there. A kill or a full disk may leave a part of it."""
    path = Path(path)
    with as_unwritable(path), patiently(lambda: open(path, "ab"), path, "write") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def replace_by_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies a file's content to the place of another; raises as `replacing`."""
    with open(source, "rb") as old, replacing(target) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def replacing_path(
    path: str | os.PathLike[str],
    *,
    keep_attributes: bool = False,
    take_place: Callable[[Path, Path], None] = replace,
) -> Iterator[Path]:
    """As `replacing`, for libraries that write files by name: the empty temporary file's path.

    take_place: what brings the whole temporary file (first) to its place (second).
    """
    target = Path(os.path.realpath(path))
    before = _replaceable(target, keep_attributes)
    temporary = temporary_beside(target)
    try:
        with as_unwritable(target):
            temporary.open("xb").close()  # not tempfile: its files are unreadable to other users for good
        mode = stat.S_IMODE(temporary.stat().st_mode if before is None else before.st_mode)
        with _full_disk_as_unwritable(target):
            yield temporary
            _flush_to_disk(temporary)
        with as_unwritable(target):
            if before is not None and keep_attributes:
                copy_attributes(target, before, temporary)
            temporary.chmod(mode)  # some libraries make a new file of it, with permissions of their own
        take_place(temporary, target)
    except BaseException:  # an interrupt, too, leaves nothing behind
        with suppress(OSError):
            remove(temporary)
        raise


def _may_pass(error: OSError) -> bool:
    """Whether this may end by itself. Elsewhere than on Windows a denial is one of permissions, and stays."""
    if getattr(error, "winerror", None) in _HELD_WINDOWS or error.errno == errno.EBUSY:
        return True
    return os.name == "nt" and error.errno == errno.EACCES


def _in_use(path: Path, verb: str, error: OSError) -> FileInUse:
    refusal = FileInUse(
        f"cannot {verb} {path}: another program has it open, perhaps an image viewer, a spreadsheet, OneDrive or an "
        f"antivirus. Close it there and try again. ({error.strerror or error})"
    )
    refusal.errno = error.errno
    return refusal


def _replaceable(target: Path, keep_attributes: bool) -> os.stat_result | None:
    """What stands at `target`, None if nothing. Raises UnwritableFile if it must not or cannot be replaced."""
    with as_unwritable(target):
        try:
            before = target.stat()
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise UnwritableFile(
                    f"cannot write {target}: there is no folder {target.parent}. Create it, or choose another place."
                ) from None
            return None
    if stat.S_ISDIR(before.st_mode):
        raise UnwritableFile(f"cannot write {target}: it is a folder. Give the name of a file.")
    if _is_read_only(before) or not os.access(target, os.W_OK):
        raise UnwritableFile(f"cannot write {target}: the file is read-only. Make it writable, or choose another name.")
    if keep_attributes and before.st_nlink > 1:
        raise UnwritableFile(
            f"cannot change {target}: it is one file with {before.st_nlink} names (hard links), and only this name would "
            "get the new content. Copy the file first."
        )
    return before


def _is_read_only(found: os.stat_result) -> bool:
    """Whether nobody may write it. os.access is no answer for an administrator, who may."""
    return not found.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def _flush_to_disk(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether it is a pipe or a device, which cannot be replaced."""
    with suppress(OSError):
        mode = os.stat(path).st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


@contextmanager
def as_unwritable(target: Path) -> Iterator[None]:
    """Every OSError within is about writing `target`, and becomes a sentence."""
    try:
        yield
    except UnwritableFile:
        raise
    except OSError as error:
        raise _unwritable(target, error) from error


@contextmanager
def _full_disk_as_unwritable(target: Path) -> Iterator[None]:
    """The block is the caller's: of its errors a full disk is the one that is ours, by whatever library it comes."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UnwritableFile) and _is_full(error):
            raise _full(target) from error
        raise


def _unwritable(target: Path, error: OSError) -> UnwritableFile:
    if _is_full(error):
        return _full(target)
    refusal = UnwritableFile(f"cannot write {target}: {error.strerror or error}. Choose another place.")
    refusal.errno = error.errno
    return refusal


def _full(target: Path) -> UnwritableFile:
    refusal = UnwritableFile(
        f"cannot write {target}: the disk has no room for it. Free some space, or choose another disk."
    )
    refusal.errno = errno.ENOSPC
    return refusal


def _is_full(error: BaseException | None) -> bool:
    """Also where a library wrapped the system's error or only repeats its words."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in _FULL or getattr(error, "winerror", None) in _FULL_WINDOWS):
            return True
        if _FULL_WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
