"""What came of an action, and how it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

Say = Callable[[str], None]
MOST_FAILED = 100  # that are named


@dataclass
class Outcome:
    """How many files an action changed, and which it could not: the first of them, and how many in all."""

    changed: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    failures: int = 0

    def fail(self, path: Path, reason: str | Exception) -> None:
        self.failures += 1
        if len(self.failed) < MOST_FAILED:
            self.failed.append((path, reason if isinstance(reason, str) else _reason(path, reason)))


def unfailing(say: Say) -> Say:
    """`say`, whose failure cannot end an action half way: a closed pipe, a full disk, a character nobody can print."""

    def tell(line: str) -> None:
        with suppress(Exception):
            say(line)

    return tell


def _reason(path: Path, error: Exception) -> str:
    """The system's own words, and the file they are about if it is another one."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    about = [name for name in (error.filename2, error.filename) if name and os.fspath(name) != os.fspath(path)]
    return f"{error.strerror}: {about[0]}" if about else error.strerror
