"""The pictures as a table, best first."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..files.tables import write_csv, write_jsonl
from .outcome import Outcome, Say
from .ranking import Ranked

_KNOWN = ("negative", "model", "loras", "program", "prompt_from", "uncertain", "width", "height")
_COLUMNS = ("rank", "score", "percentile", "file", "prompt", *_KNOWN)


def list_csv(ranked: Ranked, path: Path, *, dry_run: bool = False, say: Say) -> Outcome:
    def write(rows: Iterator[dict[str, Any]]) -> None:
        first = list(islice(rows, 1))  # has every column that the others have
        columns = dict.fromkeys([*_COLUMNS, *(name for row in first for name in row)])
        write_csv(chain(first, rows), path, columns=list(columns))

    return _list(ranked, path, write, dry_run, say)


def list_jsonl(ranked: Ranked, path: Path, *, dry_run: bool = False, say: Say) -> Outcome:
    return _list(ranked, path, lambda rows: write_jsonl(rows, path), dry_run, say)


def _list(
    ranked: Ranked, path: Path, write: Callable[[Iterator[dict[str, Any]]], None], dry_run: bool, say: Say
) -> Outcome:
    outcome = Outcome()

    def counted() -> Iterator[dict[str, Any]]:
        for row in _rows(ranked):
            outcome.changed += 1
            yield row

    try:
        if dry_run:
            deque(counted(), maxlen=0)
        else:
            write(counted())
    except OSError as error:
        outcome.changed = 0
        outcome.fail(path, error)
    else:
        say(f"list of {outcome.changed} pictures: {path}")
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
