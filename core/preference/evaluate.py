"""Which scorer agrees best with people: preference accuracy and its companions, for several scorers on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageRewardError
from ..files.atomic import replace_text
from ..files.console import counted
from ..pages.drawing import Drawing
from ..pages.kit import write_page
from ..scorers.base import Scorer
from ..scorers.loading import load_scorer
from ..scoring.selection import rank
from .agreement import Agreement, Estimate, agreement
from .paper import published_accuracy
from .rankings import ImageSource, Ranking, present
from .report import interval_chart, markdown_table, write_json
from .score_log import ScoreLog, scorer_identity
from .scoring import OnProgress, score_all

Load = Callable[[str], Scorer]
HEADER = ["Scorer", "Preference accuracy", "Paper", "Mean per prompt", "Best image", "Spearman", "Kendall", "s/image"]


@dataclass
class Evaluation:
    """The agreement of each scorer, and what it rests on."""

    agreements: dict[str, Agreement]
    seconds: dict[str, float]  # per image, without decoding; NaN where every score came from an earlier run
    scores: dict[str, list[list[float]]]  # by scorer: for each ranking the scores of its images
    rankings: list[Ranking]  # that were evaluated: the images that could be read
    missing: list[str]
    errors: dict[str, str]  # image -> why it could not be read

    def markdown(self) -> str:
        """A table, a row a scorer; percentages with their 95% bootstrap interval over prompts."""
        left_out = f"\n\n{self.left_out()}" if self.missing or self.errors else ""
        return f"{markdown_table(*self.table())}\n\n{self.basis()}{left_out}\n"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows, a row a scorer."""
        return HEADER, [self._row(name, result) for name, result in self.agreements.items()]

    def basis(self) -> str:
        """What the numbers rest on."""
        some = next(iter(self.agreements.values()))
        images = sum(len(ranking.images) for ranking in self.rankings)
        return (
            f"{counted(some.prompts, 'prompt')}, {counted(images, 'image')}, {counted(some.pairs, 'pair')} that people ordered "
            f"({counted(some.human_ties, 'human tie')} skipped; equal scores count as wrong). "
            "In brackets: 95% bootstrap interval."
        )

    def left_out(self) -> str:
        return f"Left out: {len(self.missing)} missing and {len(self.errors)} unreadable images."

    def _row(self, name: str, result: Agreement) -> list[str]:
        published = published_accuracy(name, result.prompts, result.pairs)
        seconds = self.seconds[name]
        return [
            name,
            _percent(result.accuracy),
            "" if published is None else f"{100 * published:.2f}%",
            _percent(result.accuracy_per_prompt),
            _percent(result.best),
            _number(result.spearman),
            _number(result.kendall),
            "" if math.isnan(seconds) else f"{seconds:.3f}",
        ]

    def chart(self) -> Drawing:
        """Preference accuracy in percent, a bar a scorer; half of the pairs are what chance gets."""
        percent = [Estimate(*(100 * value for value in one.accuracy)) for one in self.agreements.values()]
        return interval_chart("Preference accuracy in % (chance: 50)", list(self.agreements), percent, decimals=2)

    def as_json(self) -> dict[str, Any]:
        return {
            "scorers": {
                name: {
                    **{k: v._asdict() if isinstance(v, Estimate) else v for k, v in result._asdict().items()},
                    "published_accuracy": published_accuracy(name, result.prompts, result.pairs),
                    "seconds_per_image": self.seconds[name],
                }
                for name, result in self.agreements.items()
            },
            "missing": self.missing,
            "errors": self.errors,
        }

    def save(self, folder: Path) -> None:
        """evaluation.html, .md and .json, and `test_<scorer>.json` with each prompt's rewards in the reference's layout."""
        folder.mkdir(parents=True, exist_ok=True)
        write_page(folder / "evaluation.html", "preference/evaluation.html", evaluation=self)
        replace_text(folder / "evaluation.md", self.markdown())
        write_json(self.as_json(), folder / "evaluation.json")
        for name, scores in self.scores.items():
            rows = [
                {"id": r.id, "prompt": r.prompt, "ranking": places(s), "rewards": s}
                for r, s in zip(self.rankings, scores, strict=True)
            ]
            write_json(rows, folder / f"test_{safe_name(name)}.json")


def evaluate_scorers(
    rankings: Sequence[Ranking],
    scorers: Sequence[str],
    *,
    load: Load = load_scorer,
    variant: str = "",
    output: Path | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Scores every image of `rankings` with every scorer and compares with the human order.

    Args:
        rankings: see `read_rankings`. Missing and unreadable images are listed and left out.
        scorers: what `load` takes: names, files, Hub repositories.
        load: what loads a scorer; called only if something is left to score.
        variant: what sets the scores apart besides the scorer, such as its dtype.
        output: a folder in which scores are kept as they come, so that a later call goes on from them.
        batch_size: images at once; None takes 64 on a GPU, 8 on a CPU.
        on_progress: called with (done, total) images; what it raises stops the work.

    Returns:
        The agreement of each scorer with people, and what it rests on.

    Raises:
        ImageRewardError: no prompt has two images that can be compared.
    """
    there = present(rankings)
    items = [(image, ranking.prompt) for ranking in there.rankings for image in ranking.images]
    if not items:
        raise ImageRewardError(
            f"no prompt has two images that exist ({counted(len(there.missing), 'file')} missing, the first is "
            f"{there.missing[0] if there.missing else 'none'}); is --images the folder that their names start from?"
        )
    logs = {name: ScoreLog(log_file(output, name), scorer_identity(name, variant)) for name in scorers}
    makers = {name: partial(load, name) for name in scorers}
    scored = score_all(items, makers, logs, batch_size=batch_size, on_progress=on_progress)
    readable = ~np.isnan(np.stack(list(scored.scores.values()))).any(0)
    kept = _split(there.rankings, items, readable)
    values = {name: [s[positions].tolist() for _, positions in kept] for name, s in scored.scores.items()}
    evaluated = [ranking for ranking, _ in kept]
    if not evaluated:
        raise ImageRewardError(f"no prompt has two images that can be read; the first error: {_first(scored.errors)}")
    ranks = [ranking.ranks for ranking in evaluated]
    return Evaluation(
        agreements={name: agreement(ranks, scores) for name, scores in values.items()},
        seconds=scored.seconds,
        scores=values,
        rankings=evaluated,
        missing=there.missing,
        errors=scored.errors,
    )


def places(scores: Sequence[float]) -> list[int]:
    """The place of each image, 1 = highest score, as the reference's `inference_rank` returns them."""
    placed = [0] * len(scores)
    for place, position in enumerate(rank(scores), 1):
        placed[position] = place
    return placed


def _split(
    rankings: Sequence[Ranking], items: Sequence[tuple[ImageSource, str]], readable: np.ndarray
) -> list[tuple[Ranking, list[int]]]:
    """Rankings of what could be read, with the positions of their images in `items`; fewer than two images: left out."""
    kept = []
    start = 0
    for ranking in rankings:
        positions = range(start, start + len(ranking.images))
        stay = [i for i in positions if readable[i]]
        if len(stay) > 1:
            images, ranks = tuple(items[i][0] for i in stay), tuple(ranking.ranks[i - start] for i in stay)
            kept.append((Ranking(ranking.id, ranking.prompt, images, ranks), stay))
        start = positions.stop
    return kept


def log_file(output: Path | None, scorer: str) -> Path | None:
    return None if output is None else output / f"scores-{safe_name(scorer)}.jsonl"


def safe_name(spec: str) -> str:
    """A scorer's name, path or repository as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in spec).strip("-.") or "scorer"


def _first(errors: dict[str, str]) -> str:
    return next(iter(errors.values()), "none")


def _percent(e: Estimate) -> str:
    return f"{100 * e.value:.2f}%" + ("" if math.isnan(e.low) else f" [{100 * e.low:.1f}, {100 * e.high:.1f}]")


def _number(e: Estimate) -> str:
    if math.isnan(e.value):
        return ""
    return f"{e.value:.3f}" + ("" if math.isnan(e.low) else f" [{e.low:.2f}, {e.high:.2f}]")
