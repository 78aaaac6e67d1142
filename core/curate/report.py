"""`imagereward report`: one HTML page of a scored folder that needs no server and fetches nothing.

Contact sheet, histogram, groups by prompt, means by checkpoint and LoRA; a search field and a threshold that work in the
page. The cards are written one by one and the prompts averaged one by one, so memory takes 8 bytes a picture.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from ..errors import ImageRewardError
from ..files.console import counted
from ..pages.cards import Card, Frame, frame, link_to
from ..pages.charts import histogram
from ..pages.kit import number, write_page
from .averages import Average, Averages, Best, best_of_sorted
from .ranking import Ranking
from .records import Picture, ScorerRecord, lora_names, search_text
from .store import Store

MOST_ROWS = 200  # of a table
THUMBNAIL = 256  # pixels of the longer side


def write_report(store: Store, scorer: ScorerRecord, path: Path, *, top: int = 0, linked: bool = False) -> int:
    """Writes one HTML page of a scored folder.

    Args:
        store: see `open_to_read`.
        scorer: the scorer whose scores are shown.
        path: the page; its folder is made.
        top: only the best so many become cards (0: all); tables and histogram count every picture.
        linked: the cards show the files themselves instead of embedded thumbnails, for folders too large to embed (a
            thumbnail takes about 10 KB).

    Returns:
        The number of pictures on the page.

    Raises:
        ImageRewardError: the scorer has scored no picture yet.
    """
    with Ranking(store, scorer) as ranking:
        if not len(ranking):
            raise ImageRewardError(f"no picture was scored by {scorer.title} yet; run: imagereward curate DIR")
        scores = array("d", (score for (score,) in ranking.columns("score")))
        shown = min(top or len(ranking), len(ranking))
        cards = _Cards(NormalDist(scorer.mean, scorer.std), Path(os.path.realpath(path.parent)), linked)
        write_page(
            path,
            "curate/report.html",
            title=f"{scorer.title} report",
            note=_summary(scores),
            histogram=histogram("Scores", scores, width=520),
            tables=_tables(ranking),
            threshold=_threshold(scores),
            cards=map(cards.card, range(1, shown + 1), islice(ranking, shown)),
        )
    return shown


@dataclass(frozen=True)
class _Cards:
    typical: NormalDist  # of the scores of typical images
    folder: Path  # of the page
    linked: bool

    def card(self, rank: int, picture: Picture) -> Card:
        assert picture.score is not None
        name = picture.path.name
        return Card(
            self._frame(picture),
            name,
            rank,
            picture.score,
            100 * self.typical.cdf(picture.score),
            picture.prompt or "",
            " · ".join(filter(None, (picture.model, *picture.loras))),
            words=search_text(name, picture.prompt, picture.model, picture.loras),
        )

    def _frame(self, picture: Picture) -> Frame:
        if not self.linked:
            return frame(picture.path, THUMBNAIL, self.folder)
        link = link_to(picture.path, self.folder)
        return Frame(link, picture.width, picture.height, link)


def _summary(scores: Sequence[float]) -> str:
    mean, middle = sum(scores) / len(scores), scores[len(scores) // 2]
    return f"{counted(len(scores), 'picture')}, mean {number(mean)}, median {number(middle)}, best {number(scores[0])}"


class Table(NamedTuple):
    """Means by checkpoint, LoRA or prompt."""

    title: str
    best: Best
    opened: bool = True

    @property
    def left_out(self) -> int:
        return self.best.total - len(self.best.rows)

    @staticmethod
    def interval(average: Average) -> str:
        """The mean's 95% interval."""
        if math.isnan(average.half_width):
            return "–"
        return f"{number(average.mean - average.half_width)} … {number(average.mean + average.half_width)}"


def _tables(ranking: Ranking) -> Iterator[Table]:
    models, loras = Averages(), Averages()
    for model, names, score in ranking.columns("model, loras, score"):
        models.add([model] if model else [], score)
        loras.add(lora_names(names), score)
    prompts = (row for row in ranking.columns("prompt, score", order="prompt, rowid") if row[0])
    yield Table("Checkpoints", models.best(MOST_ROWS))
    yield Table("LoRAs", loras.best(MOST_ROWS))
    yield Table("Prompts", best_of_sorted(prompts, MOST_ROWS), opened=False)


def _threshold(scores: Sequence[float]) -> dict[str, float]:
    """The ends of the slider lie a little outside the scores, so that at the lower one every picture passes."""
    low, high = scores[-1], scores[0]
    margin = max((high - low) / 1000, 1e-6)
    return {"low": low - margin, "high": high + margin, "step": (high - low + 2 * margin) / 500}
