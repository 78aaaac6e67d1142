"""From files to scores: threads read, hash, decode and resize while the device judges, so that neither waits for the other
longer than it must.

    scan -> is it known? -> todo -> N readers -> ready -> batches on the device -> store

Both queues are bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from torch import Tensor

from ..errors import BadImage
from ..pictures.opening import open_image
from ..pictures.pixels import to_pixels
from ..pictures.prompt_in_file import Origin, find_origin, read_sidecar
from ..pictures.resize import resize_crop
from ..pictures.scan import Entry, scan
from ..scorers.base import Scorer
from ..scoring.rate import default_batch_size, judge
from .records import Judge, Picture, content_hash
from .store import Store

OnProgress = Callable[[int, int], None]
_CHUNK = 500
_COMMIT_SECONDS = 1.0
_MOST_FULL_SIZE = 32  # pictures waiting where the scorer sees them in full size


@dataclass
class Summary:
    """What a pass over the files came to, in files."""

    found: int = 0
    unchanged: int = 0  # nothing to do: known, and scored by everyone asked
    scored: int = 0
    without_prompt: list[Path] = field(default_factory=list)  # the first of them; `no_prompt` counts all
    no_prompt: int = 0
    broken: int = 0
    run: int = 0

    def __str__(self) -> str:
        text = f"{self.scored} scored, {self.unchanged} unchanged"
        text += f", {self.no_prompt} without a prompt" if self.no_prompt else ""
        return text + (f", {self.broken} not readable" if self.broken else "")


@dataclass
class _Ready:
    """A picture that was read, and what its missing judges are to see."""

    picture: Picture
    pixels: dict[int | None, Tensor] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)  # positions of judges


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
    on_progress: OnProgress | None = None,
) -> Summary:
    """Scores every image below `root` that the store does not know yet.

    scorers: (key in the store, scorer). prompt: for files that bring none. without: folders to leave out. tidy: see `scan`.
    on_progress(done, found so far); an exception from it, or an interrupt, ends the run, and the next one goes on there.
    A file that cannot be read is recorded with its reason and not read again until it changes.
    """
    return _Pass(root, scorers, store, prompt, workers, batch_size, without, tidy, on_progress).run()


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
        on_progress: OnProgress | None,
    ) -> None:
        self.root, self.store, self.prompt, self.without, self.tidy = root, store, prompt, without, tidy
        self.scorers = [scorer for _, scorer in scorers]
        self.judges = [Judge.of(key, scorer.info) for key, scorer in scorers]
        self.on_progress = on_progress or (lambda done, found: None)
        self.workers = workers or min(16, (os.cpu_count() or 1) + 1)
        self.batch_size = batch_size or max(default_batch_size(scorer) for scorer in self.scorers)
        full_size = any(scorer.input_size is None for scorer in self.scorers)
        waiting = 2 * self.batch_size
        self.todo: queue.Queue[tuple[Entry, Picture | None] | None] = queue.Queue(4 * self.workers)
        self.ready: queue.Queue[_Ready | BaseException | None] = queue.Queue(
            max(self.batch_size, min(waiting, _MOST_FULL_SIZE)) if full_size else waiting
        )
        self.stopping = threading.Event()
        self.summary = Summary()
        self.done = 0

    def run(self) -> Summary:
        for one in self.judges:
            self.store.add_judge(one)
        self.summary.run = self.store.begin_run()
        threads = [threading.Thread(target=self._feed, daemon=True)]
        threads += [threading.Thread(target=self._read_on, daemon=True) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            self._judge_all()
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join()
            self.store.commit()
        self.store.finish_run(self.summary.run)
        return self.summary

    # -- scan --------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            entries = scan(self.root, self.without, tidy=self.tidy)
            while chunk := list(islice(entries, _CHUNK)):
                if self.stopping.is_set():
                    return
                self.summary.found += len(chunk)
                for item in self._unknown(chunk):
                    self._put(self.todo, item)
        except BaseException as error:
            self._put(self.ready, error)
        finally:
            for _ in range(self.workers):
                self._put(self.todo, None)

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
        if (
            picture.program in ("", "text file")
            and self._prompt(read_sidecar(picture.path) or Origin()) != picture.prompt
        ):
            return False
        return not self._missing(picture)

    def _missing(self, picture: Picture) -> list[int]:
        return [
            i
            for i, one in enumerate(self.judges)
            if (picture.prompt is not None or not one.reads_prompt)
            and not self.store.has_score(picture.hash, one, picture.prompt)
        ]

    def _prompt(self, origin: Origin) -> str | None:
        return origin.plain or self.prompt

    # -- read --------------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        try:
            while not self.stopping.is_set():
                item = self._get(self.todo)
                if item is None:
                    return
                self._put(self.ready, self._read(*item))
        except BaseException as error:
            self._put(self.ready, error)
        finally:
            self._put(self.ready, None)  # one reader less

    def _read(self, entry: Entry, before: Picture | None) -> _Ready:
        picture = Picture(*entry, first_name=before.first_name if before else "")
        try:
            data = entry.path.read_bytes()
            picture = replace(picture, hash=content_hash(data))
            image = open_image(entry.path, data)
            origin = find_origin(entry.path, image)
            picture = replace(
                picture,
                prompt=self._prompt(origin),
                negative=origin.negative,
                model=origin.model,
                loras=origin.loras,
                program=origin.program if origin.plain else "",
                width=image.width,
                height=image.height,
            )
            missing = self._missing(picture)
            sizes = {self.scorers[i].input_size for i in missing}
            return _Ready(picture, {size: _pixels(image, size) for size in sizes}, missing)
        except (BadImage, OSError, MemoryError) as error:
            return _Ready(replace(picture, error=str(error) or type(error).__name__))
        except Exception as error:  # a decoder's own mishap with a damaged file must not end the run
            return _Ready(replace(picture, error=f"{type(error).__name__}: {error}"))

    # -- judge -------------------------------------------------------------------------------------------------------

    def _judge_all(self) -> None:
        committed = time.monotonic()
        for batch in self._batches():
            for i in range(len(self.judges)):
                self._judge_batch(i, [one for one in batch if i in one.missing])
            self.store.put((one.picture for one in batch), self.summary.run)
            self.summary.scored += sum(bool(one.missing) for one in batch)
            self.summary.broken += sum(bool(one.picture.error) for one in batch)
            for one in batch:
                self._count_prompt(one.picture)
            self.done += len(batch)
            if time.monotonic() - committed > _COMMIT_SECONDS:
                self.store.commit()
                committed = time.monotonic()
            self.on_progress(self.done + self.summary.unchanged, self.summary.found)
        self.on_progress(self.summary.found, self.summary.found)

    def _judge_batch(self, position: int, batch: list[_Ready]) -> None:
        if not batch:
            return
        scorer, one = self.scorers[position], self.judges[position]
        pixels = [item.pixels[scorer.input_size] for item in batch]
        ratings = judge(scorer, pixels, [item.picture.prompt or "" for item in batch], batch_size=len(batch))
        rows = []
        for i, item in enumerate(batch):
            score = float(ratings.total[i])
            parts = {title: float(values[i]) for title, values in ratings.parts.items() if title != one.title}
            rows.append((item.picture.hash, item.picture.prompt, score if math.isfinite(score) else None, parts))
        self.store.put_scores(one, rows)

    def _batches(self) -> Iterator[list[_Ready]]:
        """As many pictures as are ready, up to the batch size: a slow disk gives small batches, never an idle device."""
        ended = 0
        while ended < self.workers:
            batch: list[_Ready] = []
            item = self.ready.get()
            while True:
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    ended += 1
                else:
                    batch.append(item)
                if len(batch) == self.batch_size or ended == self.workers:
                    break
                try:
                    item = self.ready.get_nowait()
                except queue.Empty:
                    break
            if batch:
                yield batch

    def _count_prompt(self, picture: Picture) -> None:
        if picture.prompt is None and not picture.error:
            self.summary.no_prompt += 1
            if len(self.summary.without_prompt) < 20:
                self.summary.without_prompt.append(picture.path)

    # -- queues that let go when the run stops ---------------------------------------------------------------------------

    def _put(self, place: queue.Queue, item: object) -> None:  # type: ignore[type-arg]
        while not self.stopping.is_set():
            with suppress(queue.Full):
                place.put(item, timeout=0.1)
                return

    def _get(self, place: queue.Queue[tuple[Entry, Picture | None] | None]) -> tuple[Entry, Picture | None] | None:
        while not self.stopping.is_set():
            with suppress(queue.Empty):
                return place.get(timeout=0.1)
        return None


def _pixels(image: object, size: int | None) -> Tensor:
    """(3, S, S) uint8 as the scorer would resize it itself, or (3, H, W) for one that sees any size."""
    pixels = to_pixels(image, size)
    return pixels if size is None else resize_crop(pixels[None], size)[0]
