"""From files to scores: threads read, hash, decode and resize while the device scores, so that neither waits for the other
longer than it must.

    scan -> is it known? -> N readers -> batches on the device -> store

What is read ahead is bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import BadImage, ImageUnavailable
from ..pictures.opening import open_picture
from ..pictures.pixels import to_pixels
from ..pictures.prompt_in_file import Origin, find_origin, read_sidecar
from ..pictures.reading import read_batches
from ..pictures.scan import Entry, scan
from ..scorers.base import Scorer
from ..scorers.registry import scorer_infos
from ..scoring.score import default_batch_size, score_images
from ..scoring.written import matching_scores
from .records import Picture, ScorerRecord
from .store import Store

OnProgress = Callable[[int, int], None]
_CHUNK = 500
_COMMIT_SECONDS = 1.0
_LISTED = 20  # files that a summary names
_UNSCORED_BATCH = 8  # pictures at once where no scorer says how many
_MOST_FULL_SIZE = 32  # pictures waiting where the scorer sees them in full size


@dataclass
class Summary:
    """What a pass over the files came to, in files."""

    found: int = 0
    unchanged: int = 0  # nothing to do: known, and scored by everyone asked
    scored: int = 0
    taken: int = 0  # had a score in the file
    without_prompt: list[Path] = field(default_factory=list)  # the first of them; `no_prompt` counts all
    no_prompt: int = 0
    uncertain_prompts: list[tuple[Path, str]] = field(default_factory=list)  # the first of them, and why
    uncertain: int = 0
    broken: int = 0
    not_read: list[tuple[Path, str]] = field(
        default_factory=list
    )  # the first of them, and why; `unavailable` counts all
    unavailable: int = 0  # could not be read this time, which says nothing of what is in them
    run: int = 0

    def __str__(self) -> str:
        text = f"{self.scored} scored, {self.unchanged} unchanged"
        text += f", {self.taken} with a score in the file" if self.taken else ""
        text += f", {self.no_prompt} without a prompt" if self.no_prompt else ""
        text += f", {self.uncertain} of an uncertain prompt" if self.uncertain else ""
        text += f", {self.broken} not readable" if self.broken else ""
        return text + (f", {self.unavailable} not read this time" if self.unavailable else "")


@dataclass
class _Ready:
    """A picture that was read, and what its missing scorers are to see."""

    picture: Picture
    pixels: dict[int | None, Tensor] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)  # positions of scorers
    written: dict[ScorerRecord, float] = field(default_factory=dict)  # scores to take out of the file
    unavailable: str = ""  # why the file could not be read this time; nothing of it is stored then


def score_files(
    root: Path,
    scorers: Sequence[tuple[str, Scorer]],
    store: Store,
    *,
    prompt: str | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    without: Collection[Path] = (),
    tidy: bool = True,
    strict: bool = False,
    trust: bool = False,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Scores every image below `root` that the store does not know yet.

    A file that is damaged is recorded with its reason and not read again until it changes; one that cannot be read now is
    counted and left for the next run.

    Args:
        root: the folder.
        scorers: (key in the store, scorer) pairs; see `store_key`. None at all for what `trust` does alone.
        store: where scores are kept; see `open_workplace`.
        prompt: for files that bring none.
        workers: threads that read files; None takes one a core, plus one.
        batch_size: images at once; None takes 64 on a GPU, 8 on a CPU.
        without: folders to leave out.
        tidy: see `scan`.
        strict: a prompt that is uncertain is none.
        trust: scores that stand in the files count, of whichever scorer of the registry; see `matching_scores`.
        on_progress: called with (done, found so far); an exception from it, or an interrupt, ends the run, and the next one
            goes on there.

    Returns:
        How many files were found, scored, left out and not readable.
    """
    return _Pass(root, scorers, store, prompt, workers, batch_size, without, tidy, strict, trust, on_progress).run()


class _Pass:
    def __init__(
        self,
        root: Path,
        scorers: Sequence[tuple[str, Scorer]],
        store: Store,
        prompt: str | None,
        workers: int | None,
        batch_size: int | None,
        without: Collection[Path],
        tidy: bool,
        strict: bool,
        trust: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self.root, self.store, self.prompt, self.without, self.tidy = root, store, prompt, without, tidy
        self.strict, self.trust = strict, trust
        self.scorers = [scorer for _, scorer in scorers]
        self.records = [ScorerRecord.of(key, scorer.info) for key, scorer in scorers]
        self.reads_prompts = any(one.reads_prompt for one in self.records)
        self.on_progress = on_progress or (lambda done, found: None)
        self.workers = workers
        self.batch_size = batch_size or max(map(default_batch_size, self.scorers), default=_UNSCORED_BATCH)
        full_size = any(scorer.input_size is None for scorer in self.scorers)
        self.waiting = 2 * self.batch_size
        if full_size:
            self.waiting = max(self.batch_size, min(self.waiting, _MOST_FULL_SIZE))
        self.summary = Summary()
        self.done = 0

    def run(self) -> Summary:
        for one in self.records:
            self.store.add_scorer(one)
        self.summary.run = self.store.begin_run()
        try:
            self._score_all()
        finally:
            self.store.commit()
        self.store.finish_run(self.summary.run)
        return self.summary

    # -- scan --------------------------------------------------------------------------------------------------------

    def _to_read(self) -> Iterator[tuple[Entry, Picture | None]]:
        entries = scan(self.root, self.without, tidy=self.tidy)
        while chunk := list(islice(entries, _CHUNK)):
            self.summary.found += len(chunk)
            yield from self._unknown(chunk)

    def _unknown(self, entries: list[Entry]) -> Iterator[tuple[Entry, Picture | None]]:
        """Those of a chunk that must be read; the others are marked as met."""
        known = self.store.known([entry.path for entry in entries])
        met = []
        for entry in entries:
            picture = known.get(entry.path)
            if picture is None or not picture.unchanged(entry) or not self._complete(picture):
                yield entry, picture
                continue
            met.append(entry.path)
            self.summary.unchanged += 1
            self.summary.broken += bool(picture.error)
            self._count_prompt(picture)
        self.store.met(met, self.summary.run)

    def _complete(self, picture: Picture) -> bool:
        if picture.error:
            return True
        if self.trust and not picture.labels:
            return False
        if picture.uncertain and picture.program and self.strict != (picture.prompt is None):
            return False  # another run was more, or less, strict
        if (
            picture.program in ("", "text file")
            and self._prompt(read_sidecar(picture.path) or Origin()) != picture.prompt
        ):
            return False
        return not self._missing(picture)

    def _missing(self, picture: Picture) -> list[int]:
        return [
            i
            for i, one in enumerate(self.records)
            if (picture.prompt is not None or not one.reads_prompt)
            and not self.store.has_score(picture.hash, one, picture.prompt)
        ]

    def _prompt(self, origin: Origin) -> str | None:
        if self.strict and origin.uncertain and origin.plain:
            return None
        return origin.plain or self.prompt

    # -- read --------------------------------------------------------------------------------------------------------

    def _read(self, item: tuple[Entry, Picture | None]) -> _Ready:
        entry, before = item
        picture = Picture(*entry)
        if before is not None:
            labels = before.labels if before.unchanged(entry) else ""
            picture = replace(picture, first_name=before.first_name, labels=labels)
        try:
            file = open_picture(entry.path)
            origin = find_origin(entry.path, file.image)
            picture = replace(
                picture,
                hash=file.hash,
                prompt=self._prompt(origin),
                negative=origin.negative,
                model=origin.model,
                loras=origin.loras,
                program=origin.program if origin.plain else "",
                prompt_from=origin.where,
                uncertain=origin.uncertain,
                width=file.width,
                height=file.height,
            )
            written: dict[ScorerRecord, float] = {}
            if self.trust:
                picture, written = self._written(picture, file.image)
            taken = {one.key for one in written}
            missing = [i for i in self._missing(picture) if self.records[i].key not in taken]
            sizes = {self.scorers[i].input_size for i in missing}
            return _Ready(picture, {size: to_pixels(file, size) for size in sizes}, missing, written)
        except ImageUnavailable as error:
            return _Ready(picture, unavailable=str(error))
        except BadImage as error:
            return _Ready(replace(picture, error=str(error)))

    def _written(self, picture: Picture, image: Image.Image) -> tuple[Picture, dict[ScorerRecord, float]]:
        """The picture as one whose file was looked into, and what the file says that the store does not."""
        infos = scorer_infos()
        scores = {ScorerRecord.of(name, infos[name]): score for name, score in matching_scores(image).items()}
        labels = picture.labels or json.dumps({one.title: score for one, score in scores.items()})
        lacking = {
            one: score
            for one, score in scores.items()
            if (picture.prompt is not None or not one.reads_prompt)
            and not self.store.has_score(picture.hash, one, picture.prompt)
        }
        return replace(picture, labels=labels), lacking

    # -- score -------------------------------------------------------------------------------------------------------

    def _score_all(self) -> None:
        committed = time.monotonic()
        reading = read_batches(self._to_read(), self._read, self.batch_size, waiting=self.waiting, workers=self.workers)
        with closing(reading) as batches:
            for batch in batches:
                self._take(batch)
                if time.monotonic() - committed > _COMMIT_SECONDS:
                    self.store.commit()
                    committed = time.monotonic()
                self.on_progress(self.done + self.summary.unchanged, self.summary.found)
        self.on_progress(self.summary.found, self.summary.found)

    def _take(self, batch: list[_Ready]) -> None:
        read = [one for one in batch if not one.unavailable]
        self._take_written(read)
        for i in range(len(self.records)):
            self._score_batch(i, [one for one in read if i in one.missing])
        self.store.put((one.picture for one in read), self.summary.run)
        self.summary.taken += sum(bool(one.written) for one in read)
        self.summary.scored += sum(bool(one.missing) for one in read)
        self.summary.broken += sum(bool(one.picture.error) for one in read)
        self.summary.unavailable += len(batch) - len(read)
        for one in batch:
            if not one.unavailable:
                self._count_prompt(one.picture)
            elif len(self.summary.not_read) < _LISTED:
                self.summary.not_read.append((one.picture.path, one.unavailable))
        self.done += len(batch)

    def _take_written(self, batch: list[_Ready]) -> None:
        for record in {record for one in batch for record in one.written}:
            rows = [(one.picture, one.written[record]) for one in batch if record in one.written]
            self.store.add_scorer(record)
            self.store.put_scores(record, [(picture.hash, picture.prompt, score, {}) for picture, score in rows])

    def _score_batch(self, position: int, batch: list[_Ready]) -> None:
        if not batch:
            return
        scorer, one = self.scorers[position], self.records[position]
        pixels = [item.pixels[scorer.input_size] for item in batch]
        scores = score_images(scorer, pixels, [item.picture.prompt or "" for item in batch], batch_size=len(batch))
        rows = []
        for i, item in enumerate(batch):
            score = float(scores.total[i])
            parts = {title: float(values[i]) for title, values in scores.components.items() if title != one.title}
            rows.append((item.picture.hash, item.picture.prompt, score if math.isfinite(score) else None, parts))
        self.store.put_scores(one, rows)

    def _count_prompt(self, picture: Picture) -> None:
        if picture.prompt is None and not picture.error and self.reads_prompts:
            self.summary.no_prompt += 1
            if len(self.summary.without_prompt) < _LISTED:
                self.summary.without_prompt.append(picture.path)
        if picture.uncertain:
            self.summary.uncertain += 1
            if len(self.summary.uncertain_prompts) < _LISTED:
                self.summary.uncertain_prompts.append((picture.path, picture.uncertain))
