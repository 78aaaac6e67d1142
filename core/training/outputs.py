"""What a run writes while it goes on: a file that cannot be written must not end hours of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

from ..files.atomic import remove

TRIES = 3  # numbered names, each of which may be held by the same program


class OutputFile:
    """A result that is written again and again. Where another program holds its place, a numbered name beside it serves.

    written: where the newest one is; None before the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: Path | None = None
        self._beside: Path | None = None  # the numbered file that is ours to replace

    def write(self, write: Callable[[Path], object]) -> Path:
        """Calls `write` with a path and returns that path. Raises the OSError of the proper place if no place will do."""
        try:
            write(self.path)
        except OSError:
            self.written = self._write_beside(write)
            if self.written is None:
                raise
        else:
            self.written = self.path
            self._forget_beside()
        return self.written

    def _write_beside(self, write: Callable[[Path], object]) -> Path | None:
        for path in islice(self._names(), TRIES):
            with suppress(OSError):
                write(path)
                self._beside = path
                return path
        return None

    def _names(self) -> Iterator[Path]:
        if self._beside is not None:
            yield self._beside
        for number in count(2):
            path = self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")
            if not path.exists():
                yield path

    def _forget_beside(self) -> None:
        if self._beside is not None:
            with suppress(OSError):
                remove(self._beside)
            self._beside = None


class Saver:
    """Makes the writes of a run; one that fails is reported, and tried again by whoever saves the next time."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._failing: set[str] = set()

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Whether `write` raised no OSError. what: for the message, as in "the checkpoint"; a failure is reported once."""
        try:
            write()
        except OSError as error:
            if what not in self._failing:
                self._report(f"{what} could not be written ({error}); the run goes on and tries again at the next save")
            self._failing.add(what)
            return False
        if what in self._failing:
            self._failing.discard(what)
            self._report(f"{what} is written again")
        return True
