"""What can be done with scored pictures: label, list, move, copy, rename, trash. Each can be tried out first."""

from __future__ import annotations

import filecmp
import importlib
import json
import os
import re
import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path
from statistics import NormalDist
from typing import Any

from ..errors import ImageRewardError
from ..files.atomic import replacing
from ..files.journal import Journal, copy_file, numbered
from ..files.tables import write_csv, write_jsonl
from ..pictures.label import label_file
from ..pictures.scan import SUFFIXES, Entry
from ..scorers.mix import TITLE as MIXTURE
from .ranking import ranked
from .store import Judge, Picture, Store, content_hash

RENAME_FIELDS = ("score", "percentile", "rank", "name", "folder", "prompt", "scorer", "model")
_COLUMNS = ("rank", "score", "percentile", "file", "prompt", "negative", "model", "loras", "program", "width", "height")
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_LONGEST_NAME = 200  # of 255 bytes most file systems give, some for the ending and a number
_COMMIT_EVERY = 200
MOST_FAILED = 100  # that are named


@dataclass
class Outcome:
    """How many files an action changed, and which it could not: the first of them, and how many in all."""

    changed: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    failures: int = 0

    def fail(self, path: Path, reason: str) -> None:
        self.failures += 1
        if len(self.failed) < MOST_FAILED:
            self.failed.append((path, reason))


@dataclass
class Actions:
    """The actions on the pictures that `judge` scored in the last run below `root`, best first.

    say: takes a line for each thing done, or with dry_run for each that would be done. Pictures without score are never
    touched. A file that cannot be changed is listed in the outcome, and the others go on.
    """

    store: Store
    judge: Judge
    root: Path
    journal: Journal
    dry_run: bool = False
    say: Callable[[str], None] = lambda line: None

    def pictures(self) -> Iterator[Picture]:
        return ranked(self.store, self.judge, Path(os.path.realpath(self.root)))

    def csv(self, path: Path) -> Outcome:
        def write(rows: Iterator[dict[str, Any]]) -> None:
            first = list(islice(rows, 1))  # has every column that the others have
            columns = dict.fromkeys([*_COLUMNS, *(name for row in first for name in row)])
            write_csv(chain(first, rows), path, columns=list(columns))

        return self._table(path, write)

    def jsonl(self, path: Path) -> Outcome:
        return self._table(path, lambda rows: write_jsonl(rows, path))

    def label(self, judges: Iterable[Judge] = (), decimals: int = 4) -> Outcome:
        """Writes the scores into the files: those of this judge, a mixture's with its members', and of the others given."""
        others = [judge for judge in judges if judge.key != self.judge.key]
        is_mixture = self.judge.title == MIXTURE

        def write(picture: Picture) -> bool:
            assert picture.score is not None
            members = picture.parts if is_mixture else {}
            scores = {self.judge.title: picture.score, **members} | self._scores_of(picture, others)
            labels = json.dumps({title: round(score, decimals) for title, score in scores.items()})
            if picture.labels == labels:
                return False
            if self.dry_run:
                return True
            changed = label_file(picture.path, scores, decimals)
            entry = Entry.of(picture.path)
            self.store.relabelled(picture, entry, content_hash(picture.path.read_bytes()), labels)
            return changed

        return self._each(self.pictures(), "label" if self.dry_run else "", write)

    def sidecar(self) -> Outcome:
        """Writes `cat.png.score.json` beside each picture."""

        def write(picture: Picture) -> bool:
            target = picture.path.with_name(f"{picture.path.name}.score.json")
            shown = {"file": picture.path.name, "prompt": picture.prompt, self.judge.title: picture.score} | dict(
                picture.parts
            )
            text = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
            if target.is_file() and target.read_text(encoding="utf-8", errors="replace") == text:
                return False
            if not self.dry_run:
                with replacing(target) as file:
                    file.write(text.encode("utf-8", "replace"))
            return True

        return self._each(self.pictures(), "sidecar for" if self.dry_run else "", write)

    def copy_best(self, most: int, folder: Path) -> Outcome:
        """Copies the best into a folder; one that is there already is not copied again."""
        if most < 1:
            raise ImageRewardError(f"expected a number of pictures to copy, at least 1, got {most}")

        def copy(picture: Picture) -> bool:
            for target in numbered(folder / picture.path.name):
                if not os.path.lexists(target):
                    break
                if target.is_file() and filecmp.cmp(picture.path, target, shallow=False):
                    return False
            if not self.dry_run:
                folder.mkdir(parents=True, exist_ok=True)
                copy_file(picture.path, target)
            return True

        return self._each(islice(self.pictures(), most), f"copy to {folder}:", copy)

    def move_below(self, threshold: float, folder: Path) -> Outcome:
        """Moves pictures that score less into a folder; a text file of the same name goes along."""
        there = Path(os.path.realpath(folder))

        def move(picture: Picture) -> bool:
            if picture.path.parent == there:  # moved before
                return False
            if not self.dry_run:
                self._move(picture.path, folder / picture.path.name)
            return True

        return self._each(self._below(threshold), f"move to {folder}:", move)

    def rename(self, template: str) -> Outcome:
        """Renames every picture: "{score:+.2f}_{name}". `name` is the one it had before any renaming."""
        check_template(template)
        ranks = count(1)

        def rename(picture: Picture) -> bool:
            new = picture.path.with_name(self.new_name(template, picture, next(ranks)))
            if new == picture.path or re.fullmatch(re.escape(new.stem) + r" \(\d+\)", picture.path.stem):
                return False
            if not self.dry_run:
                self._move(picture.path, new)
            else:
                self.say(f"rename {picture.path} to {new.name}")
            return True

        return self._each(self.pictures(), "" if self.dry_run else "rename", rename)

    def new_name(self, template: str, picture: Picture, rank: int) -> str:
        first = Path(picture.first_name or picture.path.name)
        values = {
            "score": picture.score,
            "percentile": self._percentile(picture),
            "rank": rank,
            "name": first.stem,
            "folder": picture.path.parent.name,
            "prompt": (picture.prompt or "")[:80],
            "scorer": self.judge.title,
            "model": picture.model,
        }
        name = _UNSAFE.sub("_", template.format(**values)).strip(" .") or first.stem
        name = name.removesuffix(picture.path.suffix)
        return name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore") + picture.path.suffix

    def delete_below(self, threshold: float) -> Outcome:
        """Moves pictures that score less to the system's trash, from which they can be had back."""
        send = trash()

        def delete(picture: Picture) -> bool:
            if not self.dry_run:
                send(os.fspath(picture.path))
                self.store.forget(picture.path)
            return True

        return self._each(self._below(threshold), "trash", delete)

    # ------------------------------------------------------------------------------------------------------------------

    def _each(self, pictures: Iterable[Picture], doing: str, act: Callable[[Picture], bool]) -> Outcome:
        outcome, root = Outcome(), Path(os.path.realpath(self.root))
        for picture in pictures:
            try:
                if root not in Path(os.path.realpath(picture.path)).parents:
                    raise ImageRewardError(f"it has become a link that leads out of {root}; left alone")
                if act(picture):
                    outcome.changed += 1
                    if doing:
                        self.say(f"{doing} {picture.path}")
            except (OSError, ImageRewardError) as error:
                outcome.fail(picture.path, str(error))
            if outcome.changed % _COMMIT_EVERY == 0:
                self.store.commit()
        self.store.commit()
        return outcome

    def _below(self, threshold: float) -> Iterator[Picture]:
        return (picture for picture in self.pictures() if picture.score is not None and picture.score < threshold)

    def _move(self, old: Path, new: Path) -> None:
        target = self.journal.move(old, new)
        self.store.moved(old, target)
        text = old.with_suffix(".txt")
        if text.is_file() and not _other_owner(text, old):
            self.journal.move(text, target.with_suffix(".txt"))

    def _table(self, path: Path, write: Callable[[Iterator[dict[str, Any]]], None]) -> Outcome:
        outcome = Outcome()

        def counted() -> Iterator[dict[str, Any]]:
            for row in self._rows():
                outcome.changed += 1
                yield row

        try:
            if self.dry_run:
                deque(counted(), maxlen=0)
            else:
                write(counted())
            self.say(f"list of {outcome.changed} pictures: {path}")
        except OSError as error:
            outcome.fail(path, str(error))
        return outcome

    def _rows(self) -> Iterator[dict[str, Any]]:
        for rank, picture in enumerate(self.pictures(), start=1):
            known = {name: getattr(picture, name) for name in _COLUMNS[5:]} | {"loras": ", ".join(picture.loras)}
            yield {
                "rank": rank,
                "score": picture.score,
                "percentile": self._percentile(picture),
                "file": os.fspath(picture.path),
                "prompt": picture.prompt,
                **known,
                **picture.parts,
            }

    def _percentile(self, picture: Picture) -> float:
        assert picture.score is not None
        return round(100 * NormalDist(self.judge.mean, self.judge.std).cdf(picture.score), 2)

    def _scores_of(self, picture: Picture, judges: Iterable[Judge]) -> dict[str, float]:
        found = {judge.title: self.store.score_of(picture, judge) for judge in judges}
        return {title: score for title, score in found.items() if score is not None}


def journal_of(store: Store) -> Journal:
    """The journal beside the store, with the end of a move that was cut short."""
    journal = Journal(store.path.with_suffix(".undo.jsonl"))
    journal.repair()
    return journal


def undo(store: Store, *, dry_run: bool = False, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Reverts the moves and renames of the last call that made any, whoever scored."""
    outcome = Outcome()
    for move, reason in journal_of(store).undo(dry_run=dry_run):
        if reason:
            outcome.fail(move.new, reason)
            continue
        if not dry_run:
            store.moved(move.new, move.old)
        say(f"back to {move.old}")
        outcome.changed += 1
    store.commit()
    return outcome


def check_template(template: str) -> None:
    """Raises ImageRewardError for a template with a field that does not exist or a format that does not fit it."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        unknown = [name for name in fields if name not in RENAME_FIELDS]
        if not fields or unknown:
            raise ValueError(f"unknown field {unknown[0]!r}" if unknown else "it holds no field")
        template.format(
            **{name: 0.5 if name in ("score", "percentile") else 1 if name == "rank" else "x" for name in RENAME_FIELDS}
        )
    except (ValueError, TypeError) as error:
        raise ImageRewardError(
            f"cannot rename to {template!r} ({error}); the fields are {', '.join(RENAME_FIELDS)}, as in "
            '"{score:+.2f}_{name}"'
        ) from error


def _other_owner(text: Path, picture: Path) -> bool:
    """Whether another picture of the same name claims the text file."""
    return any(text.with_suffix(suffix) != picture and text.with_suffix(suffix).exists() for suffix in SUFFIXES)


def trash() -> Callable[[str], None]:
    try:
        return importlib.import_module("send2trash").send2trash
    except ImportError as error:
        raise ImageRewardError(
            "files go to the system's trash alone, and that needs a package: pip install send2trash"
        ) from error
