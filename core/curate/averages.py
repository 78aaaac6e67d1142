"""Means of scores by checkpoint, LoRA or prompt, with the intervals that say how much they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import count, groupby
from operator import itemgetter

# Two-sided 95% quantiles of Student's t for 1 .. 30 degrees of freedom; the normal's beyond.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass
class Average:
    """A running mean and variance (Welford 1962), so that a million scores take no memory."""

    name: str
    count: int = 0
    mean: float = 0.0
    best: float = -math.inf
    _squares: float = field(default=0.0, repr=False)

    def add(self, score: float) -> None:
        self.count += 1
        distance = score - self.mean
        self.mean += distance / self.count
        self._squares += distance * (score - self.mean)
        self.best = max(self.best, score)

    @property
    def half_width(self) -> float:
        """Half of the mean's 95% interval (Student's t); NaN for a single score."""
        if self.count < 2:
            return math.nan
        t = _T95[self.count - 2] if self.count - 1 <= len(_T95) else 1.96
        return t * math.sqrt(self._squares / (self.count - 1) / self.count)


class Averages:
    """Means by name; a name is added as it is met, and all are kept."""

    def __init__(self) -> None:
        self._by_name: dict[str, Average] = {}

    def add(self, names: Iterable[str], score: float) -> None:
        for name in names:
            if name not in self._by_name:
                self._by_name[name] = Average(name)
            self._by_name[name].add(score)

    def best(self, most: int) -> Best:
        return _best(self._by_name.values(), most)


@dataclass(frozen=True)
class Best:
    """The highest means, best first, and how many there are in all."""

    rows: list[Average]
    total: int


def best_of_sorted(scores: Iterable[tuple[str, float]], most: int) -> Best:
    """The best means of (name, score) in the order of the names: a million names take no more memory than `most`."""
    return _best((_average(name, group) for name, group in groupby(scores, key=itemgetter(0))), most)


def _average(name: str, scores: Iterable[tuple[str, float]]) -> Average:
    average = Average(name)
    for _, score in scores:
        average.add(score)
    return average


def _best(averages: Iterable[Average], most: int) -> Best:
    numbers = count()
    counted = (average for average, _ in zip(averages, numbers, strict=False))  # takes a number for each, and no more
    return Best(nsmallest(most, counted, key=lambda average: (-average.mean, average.name)), next(numbers))
