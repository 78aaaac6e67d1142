"""Many images scored by several scorers: each image is decoded once, what is scored already is not scored again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import BadImage
from ..pictures.opening import open_picture
from ..scorers.base import Scorer
from ..scoring.score import score_images
from .rankings import ImageSource
from .score_log import ScoreLog, key_of

OnProgress = Callable[[int, int], None]
CHUNK = 32  # images held in memory at once
_DECODERS = 4


@dataclass
class Scored:
    """Scores of N images by scorer."""

    scores: dict[str, np.ndarray]  # each (N,) float64, NaN where the image could not be read
    errors: dict[str, str] = field(default_factory=dict)  # image -> why it could not be read
    seconds: dict[str, float] = field(default_factory=dict)  # per image newly scored, without decoding; NaN if none was


def open_source(image: ImageSource) -> Image.Image:
    """The decoded PIL image. Raises BadImage."""
    if isinstance(image, Path):
        return open_picture(image).image
    try:
        picture: Image.Image = image.load()
        return picture
    except Exception as error:  # whatever a dataset's decoder raises means that there is no picture
        raise BadImage(f"cannot read {image}: {error}") from error


def score_all(
    items: Sequence[tuple[ImageSource, str]],
    scorers: Mapping[str, Callable[[], Scorer]],
    logs: Mapping[str, ScoreLog],
    *,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Scored:
    """items: (image, prompt). scorers: name -> what loads it, called only if something is left to score.

    on_progress(done, total) counts items; what it raises stops the work, and the logs keep what is done.
    """
    keys = [key_of(image, prompt) for image, prompt in items]
    left = [i for i, key in enumerate(keys) if any(key not in logs[name] for name in scorers)]
    load = {name: lru_cache(maxsize=1)(make) for name, make in scorers.items()}
    clocks = {name: _Clock() for name in scorers}
    errors: dict[str, str] = {}
    done = len(items) - len(left)
    for start in range(0, len(left), CHUNK):
        chunk = left[start : start + CHUNK]
        images = _decode({i: items[i][0] for i in chunk}, errors)
        for name in scorers:
            todo = [i for i in images if keys[i] not in logs[name]]
            if todo:
                scorer = load[name]()
                with clocks[name].measuring(len(todo)):
                    total = score_images(
                        scorer, [images[i] for i in todo], [items[i][1] for i in todo], batch_size=batch_size
                    ).total
                logs[name].add(zip((keys[i] for i in todo), total.tolist(), strict=True))
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, len(items))
    return Scored(
        scores={name: np.array([logs[name].get(key) for key in keys], dtype=np.float64) for name in scorers},
        errors=errors,
        seconds={name: clocks[name].per_item for name in scorers},
    )


def _decode(sources: Mapping[int, ImageSource], errors: dict[str, str]) -> dict[int, Image.Image]:
    """The images that can be read, by the same keys; the others' reasons go to `errors`."""

    def attempt(image: ImageSource) -> Image.Image | BadImage:
        try:
            return open_source(image)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(_DECODERS) as pool:
        opened = dict(zip(sources, pool.map(attempt, sources.values()), strict=True))
    errors |= {str(sources[i]): str(error) for i, error in opened.items() if isinstance(error, BadImage)}
    return {i: image for i, image in opened.items() if isinstance(image, Image.Image)}


@dataclass
class _Clock:
    seconds: float = 0.0
    items: int = 0

    @contextmanager
    def measuring(self, items: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.items += items

    @property
    def per_item(self) -> float:
        return self.seconds / self.items if self.items else np.nan
