"""A journal of moves, copies and deletions, so that none stops half way and the moves can be undone.

A picture and its companions are one entry. It is written before anything happens, and marked when all of it is done; a killed
process leaves it unmarked, and `repair` finishes it. Paths below the journal's folder are kept relative to it: the journal
goes along when that folder is renamed or copied, and in a copy it speaks of the copy. Paths outside are absolute, and
followed only where the folder still is the one they were written for.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ImageRewardError
from .atomic import remove
from .moving import copy_file, move_file

STARTED, DONE, DROPPED, UNDOING, UNDONE = "started", "done", "dropped", "undoing", "undone"
_STORED = "stored"  # in a row of its own: the caller has taken note of all moves above
_Identity = list[int]
_NOT_HERE = "it was moved out of the folder that this one is a copy of; left alone"


@dataclass(frozen=True)
class Part:
    """One file of an entry. copied: `old` stays, as another picture needs it, too."""

    old: Path
    new: Path
    copied: bool = False


@dataclass(frozen=True)
class Entry:
    """A picture, the first part, and its companions. To the trash: `new` is `old`."""

    key: tuple[str, int]  # the run, whose entries are undone together, and a number in it
    parts: tuple[Part, ...]
    trash: bool = False
    home: bool = True  # its paths outside are followed
    state: str = STARTED
    was: tuple[_Identity, ...] = ()  # of the files to be moved, in the order of the parts

    @property
    def old(self) -> Path:
        return self.parts[0].old

    @property
    def new(self) -> Path:
        return self.parts[0].new

    @property
    def moves(self) -> bool:
        return not (self.trash or self.parts[0].copied)

    def backwards(self) -> Entry:
        return replace(self, parts=tuple(Part(part.new, part.old, part.copied) for part in self.parts))


class Journal:
    """A JSONL file. One process at a time may change what it speaks of."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path.parent)) / path.name
        self.wrote = False
        self._run = uuid.uuid4().hex
        self._number = 0

    def carry(self, candidates: Iterable[Sequence[Part]]) -> Path:
        """Moves or copies all parts of the first candidate whose new names are free; returns the first part's new path.

        Of an OSError nothing is left: the parts that were moved already go back.
        """
        for parts in candidates:
            if any(os.path.lexists(part.new) for part in parts):
                continue
            for part in parts:
                _expect(part.old)
                part.new.parent.mkdir(parents=True, exist_ok=True)
            entry = self._begin(parts)
            try:
                self._carry(entry)
            except FileExistsError:
                continue  # taken since we looked
            self._mark(entry, DONE)
            return entry.new
        raise AssertionError("unreachable: candidates do not end")

    def trash(self, paths: Sequence[Path], send: Callable[[Path], None]) -> None:
        """Gives a picture and its companions to `send`, the picture first."""
        for path in paths:
            _expect(path)
        entry = self._begin([Part(path, path) for path in paths], trash=True)
        try:
            for path in paths:
                send(path)
        finally:
            self._mark(entry, DROPPED if os.path.lexists(paths[0]) else DONE)

    def undo(self, *, dry_run: bool = False) -> list[tuple[Entry, str]]:
        """Reverts the last run that has something to revert, last entry first: each entry, with why it failed or "".

        Pictures that are gone are left out. A run of which an entry failed can be undone again. dry_run: moves nothing.
        """
        refused: list[tuple[Entry, str]] = []
        for entries in reversed(self._runs().values()):
            refused += [(entry, _NOT_HERE) for entry in entries if not entry.home and os.path.lexists(entry.new)]
            reverting = _reversible([entry for entry in entries if entry.home])
            if reverting:
                return refused + [(entry, "" if dry_run else self._revert(entry)) for entry in reverting]
        return refused

    def repair(self, send: Callable[[Path], None]) -> None:
        """Finishes what a killed process began. What cannot be finished goes back or, if that fails, waits for the next time.

        send: takes the companions of a picture that went to the trash.
        """
        for entry in self._entries().values():
            if entry.state not in (STARTED, UNDOING) or not entry.home:
                continue
            with suppress(OSError, ImageRewardError):
                if entry.trash:
                    self._finish_trash(entry, send)
                elif entry.state == UNDOING:
                    self._finish(entry.backwards(), UNDONE, DONE)
                else:
                    self._finish(entry, DONE, DROPPED)

    def not_stored(self) -> list[tuple[Path, Path]]:
        """The moves of pictures, from where to where, since `mark_stored`."""
        moves: list[tuple[Path, Path]] = []
        entries: dict[tuple[str, int], Entry] = {}
        for row in self._rows():
            if _STORED in row:
                moves = []
            self._apply(row, entries)
            entry = entries.get((row.get("run", ""), row.get("n", 0)))
            if entry is not None and entry.moves and row.get("state") == DONE:
                moves.append((entry.old, entry.new))
            elif entry is not None and entry.moves and row.get("state") == UNDONE:
                moves.append((entry.new, entry.old))
        return moves

    def mark_stored(self) -> None:
        """Notes that the caller knows where all pictures are."""
        with suppress(OSError):  # a full disk: the next one tells the store once more
            self._note({_STORED: True})

    # -- doing -----------------------------------------------------------------------------------------------------------

    def _begin(self, parts: Sequence[Part], *, trash: bool = False) -> Entry:
        self._number += 1
        entry = Entry((self._run, self._number), tuple(parts), trash, was=_identities(parts))
        stored = [(self._stored(part.old), self._stored(part.new), part.copied) for part in parts]
        row: dict[str, Any] = {"run": self._run, "n": self._number, "parts": stored, "was": entry.was}
        if trash:
            row["trash"] = True
        if any(os.path.isabs(path) for old, new, _ in stored for path in (old, new)):
            row["home"] = [os.fspath(self.path.parent), self.path.parent.stat().st_ino]
        self._note(row, sync=True)
        return entry

    def _carry(self, entry: Entry) -> None:
        moved: list[Part] = []
        try:
            for part in entry.parts:
                self._carry_part(part)
                moved.append(part)
        except OSError:
            for part in reversed(moved):
                self._put_back(part)
            self._mark(entry, DROPPED)
            raise

    def _carry_part(self, part: Part) -> None:
        (copy_file if part.copied else move_file)(part.old, part.new, self._temporary(part.new))

    def _revert(self, entry: Entry) -> str:
        present = [part for part in entry.parts if os.path.lexists(part.new)]
        taken = [part.old for part in present if not part.copied and os.path.lexists(part.old)]
        if taken:
            return f"{taken[0]} is in the way"
        row = self._row(entry, UNDOING) | {"was": _identities(entry.backwards().parts)}
        back: list[Part] = []
        try:
            self._note(row, sync=True)
            for part in present:
                part.old.parent.mkdir(parents=True, exist_ok=True)
                self._put_back(part)
                back.append(part)
        except OSError as error:
            with suppress(OSError):
                for part in reversed(back):
                    if not os.path.lexists(part.new):
                        self._carry_part(part)
                self._mark(entry, DONE)
            return str(error)
        self._mark(entry, UNDONE)
        return ""

    def _put_back(self, part: Part) -> None:
        if part.copied and os.path.lexists(part.old):
            if filecmp.cmp(part.old, part.new, shallow=False):  # else somebody has changed the copy
                remove(part.new)
        else:
            move_file(part.new, part.old, self._temporary(part.old))

    # -- finishing what was interrupted ----------------------------------------------------------------------------------

    def _finish(self, entry: Entry, done: str, dropped: str) -> None:
        """Brings what is left of an entry to its new places; all of it back if the picture is not or cannot be there."""
        for part in entry.parts:
            with suppress(FileNotFoundError):
                remove(self._temporary(part.new))
        picture, companions = entry.parts[0], entry.parts[1:]
        with suppress(FileExistsError):
            self._finish_part(picture, entry.was[0], is_picture=True)
            if os.path.lexists(picture.new):
                for part, was in zip(companions, entry.was[1:], strict=True):
                    self._finish_part(part, was, undoing=done == UNDONE)
                self._mark(entry, done)
                return
        for part in entry.parts:
            if os.path.lexists(part.new) and not os.path.lexists(part.old):
                move_file(part.new, part.old, self._temporary(part.old))
        self._mark(entry, dropped)

    def _finish_part(self, part: Part, was: _Identity, *, is_picture: bool = False, undoing: bool = False) -> None:
        """Raises FileExistsError if another file has taken the new name."""
        if not os.path.lexists(part.old):
            return  # it is there already
        if part.copied and undoing:
            self._put_back(Part(part.new, part.old, copied=True))
        elif not os.path.lexists(part.new):
            # A companion follows its picture though somebody has written into it since.
            if part.copied or not is_picture or identity(part.old) == was:
                part.new.parent.mkdir(parents=True, exist_ok=True)
                self._carry_part(part)
        elif _is_placeholder(part):
            remove(part.new)
            self._carry_part(part)
        elif not part.copied and _is_half_moved(part, was):
            remove(part.old)
        elif identity(part.old) == was and not filecmp.cmp(part.old, part.new, shallow=False):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(part.new))

    def _finish_trash(self, entry: Entry, send: Callable[[Path], None]) -> None:
        if os.path.lexists(entry.old):
            self._mark(entry, DROPPED)
            return
        for part, was in zip(entry.parts, entry.was, strict=True):
            if identity(part.old) == was:
                send(part.old)
        self._mark(entry, DONE)

    # -- the file --------------------------------------------------------------------------------------------------------

    def _runs(self) -> dict[str, list[Entry]]:
        runs: dict[str, list[Entry]] = {}
        for entry in self._entries().values():
            if entry.moves and entry.state == DONE:
                runs.setdefault(entry.key[0], []).append(entry)
        return runs

    def _entries(self) -> dict[tuple[str, int], Entry]:
        entries: dict[tuple[str, int], Entry] = {}
        for row in self._rows():
            self._apply(row, entries)
        return entries

    def _apply(self, row: dict[str, Any], entries: dict[tuple[str, int], Entry]) -> None:
        """Takes one row into account; one that the journal cannot have written is passed over."""
        with suppress(KeyError, TypeError, ValueError):
            key = (str(row["run"]), int(row["n"]))
            if "parts" in row:
                parts = tuple(Part(self._path(old), self._path(new), bool(copied)) for old, new, copied in row["parts"])
                was = tuple(row["was"])
                outside = any(os.path.isabs(path) for old, new, _ in row["parts"] for path in (old, new))
                if parts and len(was) == len(parts):
                    home = not outside or self._is_home(*row["home"])
                    entries[key] = Entry(key, parts, bool(row.get("trash")), home, was=was)
            elif row["state"] in (DONE, DROPPED, UNDOING, UNDONE):
                was = tuple(row.get("was", entries[key].was))
                entries[key] = replace(entries[key], state=row["state"], was=was)

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    with suppress(ValueError, RecursionError):  # the last line of a run that was killed
                        row = json.loads(line)
                        if isinstance(row, dict):
                            yield row
        except FileNotFoundError:
            return
        except OSError as error:
            raise ImageRewardError(f"cannot read the journal {self.path}: {error.strerror or error}") from error

    def _mark(self, entry: Entry, state: str) -> None:
        """Not synchronised: after a power cut `repair` finds nothing left to do. A full disk does not make it a failure."""
        with suppress(OSError):
            self._note(self._row(entry, state))

    def _row(self, entry: Entry, state: str) -> dict[str, Any]:
        run, number = entry.key
        return {"run": run, "n": number, "state": state}

    def _note(self, row: dict[str, Any], *, sync: bool = False) -> None:
        self.wrote = True
        with open(self.path, "a+b") as file:
            line = json.dumps(row).encode() + b"\n"
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # after half a line of a killed process
            file.write(line)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def _stored(self, path: Path) -> str:
        folder = self.path.parent
        path = Path(os.path.realpath(path.parent)) / path.name
        return path.relative_to(folder).as_posix() if folder in path.parents else os.fspath(path)

    def _path(self, stored: str) -> Path:
        if os.path.isabs(stored):
            return Path(stored)
        inner = PurePosixPath(stored)
        if not inner.parts or ".." in inner.parts:
            raise ValueError(f"{stored} leads out of the folder")
        return self.path.parent / inner

    def _is_home(self, path: str, number: int) -> bool:
        """Whether this is the folder with this path and inode, perhaps renamed since, rather than a copy of it."""
        here = self.path.parent
        return Path(path) == here or (here.stat().st_ino == number and not os.path.exists(path))

    def _temporary(self, beside: Path) -> Path:
        """One name for all of this journal's copies, of which one grows at a time."""
        digest = hashlib.blake2b(os.fsencode(self.path), digest_size=4).hexdigest()
        return beside.with_name(f".ir-{digest}.tmp")


def identity(path: Path) -> _Identity:
    """What tells a file from another that was put at its place, even from a copy of it; [] if there is none."""
    try:
        stat = path.lstat()
    except OSError:
        return []
    return [stat.st_ino, stat.st_ctime_ns, stat.st_size]


def _identities(parts: Iterable[Part]) -> tuple[_Identity, ...]:
    return tuple(identity(part.old) for part in parts)


def _expect(path: Path) -> None:
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, "is no longer there", os.fspath(path))


def _is_placeholder(part: Part) -> bool:
    return part.new.lstat().st_size == 0 and part.old.lstat().st_size > 0


def _is_half_moved(part: Part, was: _Identity) -> bool:
    """Whether `new` is the file's second name, or a whole copy on another file system of a file that was not touched since."""
    if os.path.samefile(part.old, part.new):
        return True
    return identity(part.old) == was and filecmp.cmp(part.old, part.new, shallow=False)


def _reversible(entries: Sequence[Entry]) -> list[Entry]:
    """The entries to revert, last one first: the picture is there, its old place free once those before are reverted."""
    changed: dict[Path, bool] = {}
    found = []
    for entry in reversed(entries):
        there = {path: changed.get(path, os.path.lexists(path)) for path in (entry.old, entry.new)}
        if there[entry.new] and not there[entry.old]:
            found.append(entry)
            for part in entry.parts:
                changed |= {part.new: False, part.old: True}
    return found
