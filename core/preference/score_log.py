"""Scores on disk as they come, so that an evaluation that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import UnreadableText
from ..files.atomic import append_text, replace_text
from ..files.parsing import parse_json
from ..weights.identity import spec_identity
from .rankings import ImageSource

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """What a score belongs to; `stamp` changes with the image file."""

    image: str
    stamp: str
    prompt: str


def key_of(image: ImageSource, prompt: str) -> Key:
    if not isinstance(image, Path):
        return Key(str(image), "", prompt)
    try:
        stat = image.stat()
    except OSError:
        return Key(str(image), "missing", prompt)
    return Key(str(image), f"{stat.st_size}:{stat.st_mtime_ns}", prompt)


def scorer_identity(spec: str, variant: str = "") -> str:
    """Which scorer: its name, or its file with size and time, so that a checkpoint made anew is not taken for the old one.

    variant: whatever else sets its scores apart, such as the dtype.
    """
    return f"{spec_identity(spec)} {variant}".strip()


class ScoreLog:
    """One scorer's scores in a JSON-lines file: the scorer first, then a line for each score. No file: memory alone."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path = path
        self.identity = identity
        self._scores: dict[Key, float] = {}
        self._unwritten: list[tuple[Key, float]] = []
        self._torn = False
        if path is not None:
            self._open(path)

    def __contains__(self, key: Key) -> bool:
        return key in self._scores

    def get(self, key: Key) -> float:
        """The score, NaN if there is none."""
        return self._scores.get(key, math.nan)

    def add(self, scored: Iterable[tuple[Key, float]]) -> None:
        """Keeps and writes scores; a line is whole or, if the machine dies while writing, ignored the next time.

        What cannot be written now stays in memory and is written with the next scores.
        """
        fresh = list(scored)
        self._scores.update(fresh)
        if self.path is None or not fresh:
            return
        self._unwritten += fresh
        lines = (json.dumps([*key, score], ensure_ascii=False) + "\n" for key, score in self._unwritten)
        try:
            append_text(self.path, "".join(("\n" if self._torn else "", *lines)))
        except OSError as error:
            if not self._torn:
                log.warning("scores are kept in memory alone for now: %s", error)
            self._torn = True  # half a line may be there
        else:
            self._unwritten, self._torn = [], False

    def _open(self, path: Path) -> None:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n") if path.is_file() else []
        if lines and _parsed(lines[0]) == {"scorer": self.identity}:
            for line in lines[1:]:
                row = _parsed(line)
                if isinstance(row, list) and [type(value) for value in row] == [str, str, str, float]:
                    self._scores[Key(*row[:3])] = row[3]
        # Written anew: another scorer's scores go, and so does half a line at the end.
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"scorer": self.identity}, *([*key, score] for key, score in self._scores.items())]
        replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _parsed(line: str) -> object:
    try:
        return parse_json(line, "a line", constants=True)
    except UnreadableText:
        return None
