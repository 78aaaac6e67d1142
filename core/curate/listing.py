"""The pictures as a table, best first."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from ..files.console import counted
from ..files.tables import write_csv, write_jsonl
from .outcome import Outcome, Say
from .ranking import Ranked

_KNOWN = ("negative", "model", "loras", "program", "prompt_from", "uncertain", "width", "height")
_COLUMNS = ("rank", "score", "percentile", "file", "prompt", *_KNOWN)


def list_csv(ranked: Ranked, target: Path | TextIO, *, dry_run: bool = False, say: Say) -> Outcome:
    """Writes the pictures as CSV into a file or an open text stream; `say` takes a line about it."""

    def write(rows: Iterator[dict[str, Any]]) -> None:
        first = list(islice(rows, 1))  # has every column that the others have
        columns = dict.fromkeys([*_COLUMNS, *(name for row in first for name in row)])
        write_csv(chain(first, rows), target, columns=list(columns))

    return _list(ranked, target, write, dry_run, say)


def list_jsonl(ranked: Ranked, target: Path | TextIO, *, dry_run: bool = False, say: Say) -> Outcome:
    """`list_csv` as JSON lines."""
    return _list(ranked, target, lambda rows: write_jsonl(rows, target), dry_run, say)


def _list(
    ranked: Ranked, target: Path | TextIO, write: Callable[[Iterator[dict[str, Any]]], None], dry_run: bool, say: Say
) -> Outcome:
    outcome = Outcome()
    path = target if isinstance(target, Path) else Path("standard output")

    def rows() -> Iterator[dict[str, Any]]:
        for row in _rows(ranked):
            outcome.changed += 1
            yield row

    try:
        if dry_run:
            deque(rows(), maxlen=0)
        else:
            write(rows())
    except OSError as error:
        outcome.changed = 0
        outcome.fail(path, error)
    else:
        say(f"list of {counted(outcome.changed, 'picture')}: {path}")
    return outcome


def _rows(ranked: Ranked) -> Iterator[dict[str, Any]]:
    for rank, picture in enumerate(ranked, start=1):
        known = {name: getattr(picture, name) for name in _KNOWN} | {"loras": ", ".join(picture.loras)}
        yield {
            "rank": rank,
            "score": picture.score,
            "percentile": ranked.percentile(picture),
            "file": os.fspath(picture.path),
            "prompt": picture.prompt,
            **known,
            **picture.parts,
        }
