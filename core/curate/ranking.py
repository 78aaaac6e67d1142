"""The pictures of a store in the order of their scores."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from .records import Picture, ScorerRecord
from .store import FILE_COLUMNS, PAGE, Store, marks

_NUMBERS = itertools.count(1)


class Ranking:
    """The pictures of a run that a scorer scored, best first; ties by path. Ranks count from 1.

    run: without one, what the last finished run left and what one that is going on has added.

    A copy in SQLite's own temporary file, so that memory stays bounded, and the order stays as it is while files are moved
    and labelled. `close` gives the disk space back.
    """

    def __init__(self, store: Store, scorer: ScorerRecord, run: int | None = None) -> None:
        self.scorer = scorer
        self._store = store
        self._table = f"temp.ranking_{next(_NUMBERS)}"
        columns = ", ".join(f"f.{name} AS {name}" for name in FILE_COLUMNS)
        store.query(
            f"""CREATE TABLE {self._table} AS SELECT {columns}, s.score AS score, s.parts AS parts FROM files f
                JOIN scores s ON s.hash = f.hash AND s.scorer = ?
                AND s.prompt_key = {"f.prompt_key" if scorer.reads_prompt else "x''"}
                WHERE f.run >= ? AND f.error = '' AND s.score IS NOT NULL ORDER BY s.score DESC, f.path""",
            (scorer.key, store.last_run() if run is None else run),
        )
        self._count = int(store.query(f"SELECT COALESCE(MAX(rowid), 0) FROM {self._table}")[0][0])

    def close(self) -> None:
        self._store.query(f"DROP TABLE IF EXISTS {self._table}")

    def __enter__(self) -> Ranking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Picture]:
        for first in range(1, len(self) + 1, PAGE):
            yield from self.at(range(first, first + PAGE))

    def at(self, ranks: Sequence[int]) -> list[Picture]:
        """The pictures of at most 500 ranks, best first."""
        names = ", ".join(FILE_COLUMNS)
        query = f"SELECT {names}, score, parts FROM {self._table} WHERE rowid IN ({marks(len(ranks))}) ORDER BY rowid"
        return [self._store.picture(row) for row in self._store.query(query, ranks)]

    def score(self, rank: int) -> float:
        return float(self._store.query(f"SELECT score FROM {self._table} WHERE rowid = ?", (rank,))[0][0])

    def passing(self, least: float) -> int:
        """How many score at least so much: those of the first so many ranks."""
        return bisect_left(range(1, len(self) + 1), True, key=lambda rank: self.score(rank) < least)

    def paths(self) -> Iterator[tuple[int, str]]:
        """Rank and absolute path of every picture. To be read in one go."""
        for rank, path in self.columns("rowid, path"):
            yield rank, self._store.absolute(path)

    def columns(self, names: str, order: str = "rowid") -> Iterator[Any]:
        """Some columns of every picture, as the store has them; `rowid` is the rank. To be read in one go."""
        return self._store.stream(f"SELECT {names} FROM {self._table} ORDER BY {order}")


@dataclass(frozen=True)
class Ranked:
    """The pictures below a folder that a scorer scored in a run, best first: each time in the order of that moment."""

    store: Store
    scorer: ScorerRecord
    root: Path
    run: int | None = None  # see Ranking
    takes: Callable[[Path], bool] = lambda path: True  # leaves the others out

    def __iter__(self) -> Iterator[Picture]:
        root = Path(os.path.realpath(self.root))
        with Ranking(self.store, self.scorer, self.run) as ranking:
            yield from (picture for picture in ranking if root in picture.path.parents and self.takes(picture.path))

    def below(self, threshold: float) -> Iterator[Picture]:
        return (picture for picture in self if picture.score is not None and picture.score < threshold)

    def percentile(self, picture: Picture) -> float:
        """Of typical images, the share in percent that scores less."""
        assert picture.score is not None
        return round(100 * NormalDist(self.scorer.mean, self.scorer.std).cdf(picture.score), 2)
