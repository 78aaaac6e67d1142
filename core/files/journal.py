"""Moving files so that nothing is overwritten, nothing is lost, and all of it can be undone.

Each move is written into a journal before it happens. A move within a file system is one rename, so a process that is
killed leaves the file at one place or the other, never at both.
"""

from __future__ import annotations

import ctypes
import errno
import filecmp
import json
import os
import shutil
import sys
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .atomic import remove_leftover, temporary_beside

_NO_REPLACE = 1  # RENAME_NOREPLACE of Linux' renameat2
_EXCLUSIVE = 4  # RENAME_EXCL of macOS' renamex_np
_HERE = -100  # AT_FDCWD


@dataclass(frozen=True)
class Move:
    run: str
    old: Path
    new: Path


class Journal:
    """A JSONL file of intended moves. `run` groups those of one call, which are undone together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = uuid.uuid4().hex

    def move(self, old: Path, new: Path) -> Path:
        """Moves a file; a name that is taken is numbered: `cat (1).png`. Returns where it went."""
        old, new = Path(os.path.abspath(old)), Path(os.path.abspath(new))
        if not os.path.lexists(old):
            raise FileNotFoundError(errno.ENOENT, "is no longer there", os.fspath(old))
        new.parent.mkdir(parents=True, exist_ok=True)
        for target in numbered(new):
            if os.path.lexists(target):
                continue
            self._note({"run": self.run, "old": os.fspath(old), "new": os.fspath(target)})
            try:
                move_file(old, target)
            except FileExistsError:
                continue  # taken since we looked
            return target
        raise AssertionError("unreachable: numbers do not end")

    def undo(self, *, dry_run: bool = False) -> list[tuple[Move, str]]:
        """Reverts the last run that has something to revert, last move first: each move, with why it failed or "".

        Files that are gone are left out. A run of which a move failed can be undone again. dry_run: moves nothing.
        """
        for run, moves in reversed(self._runs().items()):
            reverting = _reversible(moves)
            reasons = ["" if dry_run else _revert(move) for move in reverting]
            if not dry_run and not any(reasons):
                self._note({"undone": run})
            if reverting:
                return list(zip(reverting, reasons, strict=True))
        return []

    def repair(self) -> None:
        """Finishes a move to another file system that was killed while copying, or between that and removing."""
        last = deque(self._rows(), maxlen=1)
        if not last or "undone" in last[0]:
            return
        old, new = Path(last[0]["old"]), Path(last[0]["new"])
        for hidden in new.parent.glob(".*.tmp"):
            remove_leftover(hidden)
        # On one file system it was one rename, and these are two files.
        if (
            old.is_file()
            and new.is_file()
            and not _same_device(old, new.parent)
            and filecmp.cmp(old, new, shallow=False)
        ):
            old.unlink()

    def _runs(self) -> dict[str, list[Move]]:
        runs: dict[str, list[Move]] = {}
        for row in self._rows():
            if "undone" in row:
                runs.pop(row["undone"], None)
            else:
                runs.setdefault(row["run"], []).append(Move(row["run"], Path(row["old"]), Path(row["new"])))
        return runs

    def _rows(self) -> Iterator[dict[str, str]]:
        if not self.path.is_file():
            return
        with open(self.path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                with suppress(ValueError):  # the last line of a run that was killed
                    yield json.loads(line)

    def _note(self, row: dict[str, str]) -> None:
        with open(self.path, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _reversible(moves: list[Move]) -> list[Move]:
    """The moves to revert, last one first: the file is there, and its old place free once those before are reverted."""
    changed: dict[Path, bool] = {}
    found = []
    for move in reversed(moves):
        there = {path: changed.get(path, os.path.lexists(path)) for path in (move.old, move.new)}
        if there[move.new] and not there[move.old]:
            found.append(move)
            changed |= {move.new: False, move.old: True}
    return found


def _revert(move: Move) -> str:
    try:
        move.old.parent.mkdir(parents=True, exist_ok=True)
        move_file(move.new, move.old)
    except OSError as error:
        return str(error)
    return ""


def numbered(path: Path) -> Iterator[Path]:
    """cat.png, cat (1).png, cat (2).png, ..."""
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem} ({number}){path.suffix}")
        number += 1


def move_file(old: Path, new: Path) -> None:
    """Moves a file; FileExistsError if there is one already. To another file system: copied whole, then removed."""
    try:
        _rename(old, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(old, new)
        old.unlink()


def copy_file(old: Path, new: Path) -> None:
    """Copies a file with its times and permissions; it appears under its name when it is whole. Never overwrites."""
    temporary = temporary_beside(new)
    try:
        with open(old, "rb") as source, open(temporary, "xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        shutil.copystat(old, temporary)
        _rename(temporary, new)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _rename(old: Path, new: Path) -> None:
    """os.rename that refuses to replace, in one step where the system can."""
    if os.name == "nt":
        os.rename(old, new)  # refuses by itself
        return
    code = _native_rename(os.fsencode(old), os.fsencode(new))
    if code == 0:
        return
    if code not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), os.fspath(old), None, os.fspath(new))
    if os.path.lexists(new):  # a file system without the exclusive rename: look, then leap
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(new))
    os.rename(old, new)


def _native_rename(old: bytes, new: bytes) -> int:
    """0, or the error's number."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(old, new, _EXCLUSIVE)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, old, _HERE, new, _NO_REPLACE)
    else:
        return errno.ENOSYS
    return ctypes.get_errno() if failed else 0


def _same_device(first: Path, second: Path) -> bool:
    return first.stat().st_dev == second.stat().st_dev
