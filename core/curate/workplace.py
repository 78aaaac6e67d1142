"""A folder to work in: its store and its journal, for one process at a time, with what a killed one left put in order.

Readers (`open_to_read`) do not wait for the one that works, and see what the last finished run left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ImageRewardError
from ..files.atomic import remove, rename, temporary_beside
from ..files.journal import Journal
from ..files.lock import locked
from ..files.moving import copy_file, trash
from ..files.names import numbered
from .outcome import Outcome, Say, unfailing
from .store import Store, StoreDamaged

FILE_NAME = ".imagereward.sqlite3"
WAIT_SECONDS = 30.0
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Workplace:
    """What one process has of a folder while it works there; see `open_workplace`."""

    store: Store  # scores
    journal: Journal  # moves
    dry_run: bool  # nothing in the folder is changed

    def undo(self, say: Say = lambda line: None) -> Outcome:
        """Reverts the moves and renames of the last call that made any, whoever scored."""
        outcome, say = Outcome(), unfailing(say)
        for entry, reason in self.journal.undo(dry_run=self.dry_run):
            if reason:
                outcome.fail(entry.new, reason)
                continue
            self.store.moved(entry.new, entry.old)
            say(f"back to {entry.old}")
            outcome.changed += 1
        self.store.commit()
        return outcome


@contextmanager
def open_workplace(
    root: Path,
    chosen: Path | None = None,
    *,
    dry_run: bool = False,
    wait: float = WAIT_SECONDS,
    say: Say = lambda line: None,
) -> Iterator[Workplace]:
    """Opens the store of a folder as the only process that changes anything there; a context manager.

    A store that is damaged or of another version is moved aside and made anew: it holds what scoring can find again. One
    that was chosen is left alone.

    Args:
        root: the folder of images.
        chosen: the store's file, if it is to lie elsewhere; None takes a hidden file in `root`.
        dry_run: works on a copy, waits for no other process and writes nothing into the folder.
        wait: seconds to wait for another process.
        say: called with a line about what is waited for or moved aside.

    Returns:
        The store and the journal, inside the block.

    Raises:
        FolderInUse: another process is still at work after `wait` seconds.
        ImageRewardError: the store cannot be used.
    """
    say = unfailing(say)
    if dry_run:
        path = chosen or find_store(root) or root / FILE_NAME
        with _damage_names_the_original(path), _private_copy(path) as store:
            yield Workplace(store, journal_beside(path), dry_run)
        return
    path = chosen or default_store(root)
    with (
        locked(path, wait=wait, on_wait=lambda: say(f"waiting for another process that works on {root}")),
        _damaged_is_moved_aside(path, chosen),
        _opened(path, chosen, say) as store,
    ):
        journal = journal_beside(path)
        _put_in_order(store, journal)
        yield Workplace(store, journal, dry_run)
        store.commit()
        if journal.wrote:
            journal.mark_stored()


def open_to_read(root: Path, chosen: Path | None = None) -> Store:
    """The store of a folder that was scored before.

    Args:
        root: the folder of images.
        chosen: the store's file, if it lies elsewhere.

    Returns:
        The store, to be closed by the caller (it is a context manager).

    Raises:
        ImageRewardError: there is no store, or it cannot be used.
    """
    path = chosen or find_store(root)
    if path is None or not path.is_file():
        raise ImageRewardError(f"{root} has no scores yet; run: imagereward curate {root}")
    try:
        return Store(path)
    except StoreDamaged as error:
        raise StoreDamaged(f"{error}. {_CHOOSE if chosen else f'Score anew: imagereward curate {root}'}") from error


_CHOOSE = "Choose another file with --store"


def find_store(root: Path) -> Path | None:
    """The store that was written last, if there is one."""
    found = [path for path in (root / FILE_NAME, _in_cache(root)) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def default_store(root: Path) -> Path:
    """Beside the images, where it moves along with them; in the user's cache where that folder cannot be written."""
    if _takes_files(root):
        return root / FILE_NAME
    cached = _in_cache(root)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageRewardError(
            f"{root} cannot be written, and neither can {cached.parent} ({error.strerror}). Choose a place with --store"
        ) from error
    return cached


def journal_beside(store: Path) -> Journal:
    return Journal(store.with_suffix(".undo.jsonl"))


def _takes_files(folder: Path) -> bool:
    """By trying: what os.access says of a folder is right on no Windows and no network share."""
    probe = temporary_beside(folder / FILE_NAME)
    try:
        probe.open("xb").close()
        remove(probe)
    except OSError as error:
        return error.errno not in _READ_ONLY  # a full disk is no reason to look for another place
    return True


def _in_cache(root: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagereward"
    return cache / f"{hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=8).hexdigest()}.sqlite3"


@contextmanager
def _opened(path: Path, chosen: Path | None, say: Say) -> Iterator[Store]:
    try:
        store = Store(path)
    except StoreDamaged as error:
        if chosen:
            raise
        say(f"{error}; moved aside to {_move_aside(path)}, everything is scored anew")
        store = Store(path)
    with store:
        yield store


@contextmanager
def _damaged_is_moved_aside(path: Path, chosen: Path | None) -> Iterator[None]:
    """What lost its order deep inside is found in the middle of the work."""
    try:
        yield
    except StoreDamaged as error:
        if chosen:
            raise ImageRewardError(f"{error}. {_CHOOSE}.") from error
        raise ImageRewardError(f"{error}; moved aside to {_move_aside(path)}. Run the command again.") from error


@contextmanager
def _damage_names_the_original(path: Path) -> Iterator[None]:
    """A copy with damage deep inside means nothing to the user."""
    try:
        yield
    except StoreDamaged as error:
        raise ImageRewardError(
            f"{path} is damaged or not a store. Run the command without --dry-run: it scores everything anew"
        ) from error


def _move_aside(path: Path) -> Path:
    for aside in numbered(path.with_name(f"{path.name}.damaged")):
        if not os.path.lexists(aside):
            break
    for end in ("", "-journal"):  # half a transaction goes with it
        if os.path.lexists(f"{path}{end}"):
            rename(f"{path}{end}", f"{aside}{end}")
    return aside


def _put_in_order(store: Store, journal: Journal) -> None:
    """Finishes what a killed process began, and tells the store of the moves that it does not know."""
    journal.repair(lambda path: trash()(path))
    moves = journal.not_stored()
    for old, new in moves:
        if not store.known([new]):
            store.moved(old, new)
    if moves:
        store.commit()
        journal.mark_stored()


@contextmanager
def _private_copy(path: Path) -> Iterator[Store]:
    """A store of its own that knows what the one at `path` knows."""
    with TemporaryDirectory(prefix="imagereward-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / FILE_NAME
        if path.is_file():
            _copy_database(path, copy)
        try:
            store = Store(copy, path.parent)
        except StoreDamaged:
            remove(copy)  # the real run moves it aside
            store = Store(copy, path.parent)
        with store:
            yield store


def _copy_database(path: Path, copy: Path) -> None:
    try:
        uri = f"{Path(os.path.abspath(path)).as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.Error:
        # Half a transaction of a killed process lies beside it, and opening it would take that back; or it is damaged.
        with suppress(FileNotFoundError):
            remove(copy)
        for end in ("", "-journal"):
            if os.path.isfile(f"{path}{end}"):
                copy_file(Path(f"{path}{end}"), Path(f"{copy}{end}"), temporary_beside(copy))
