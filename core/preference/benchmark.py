"""Which text-to-image model makes the better pictures: mean scores over the same prompts (Table 1 of arXiv 2304.05977).

Means and files are those of the reference (THUDM/ImageReward, test-benchmark.py): the mean over a prompt's images, then
over prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ImageRewardError
from ..files.atomic import replace_text
from ..files.console import counted
from ..files.rows import read_rows
from ..pages.drawing import Drawing
from ..pages.kit import write_page
from ..scorers.loading import load_scorer
from .agreement import Estimate, bootstrap
from .evaluate import Load, log_file, safe_name
from .paper import published_score
from .report import interval_chart, markdown_table, write_json
from .score_log import ScoreLog, scorer_identity
from .scoring import OnProgress, score_all

DEFAULT_PATTERN = "<model>/<id>_<n>.png"
_PLACES = {"model": r"(?P<model>[^/\\]+)", "id": r"(?P<id>.+)", "n": r"(?P<n>\d+)"}


class Prompt(NamedTuple):
    id: str
    text: str


class Generation(NamedTuple):
    """One image of the benchmark."""

    model: str
    prompt: Prompt
    path: Path


@dataclass
class ModelScore:
    """What one scorer says of one model."""

    model: str
    mean: Estimate
    per_prompt: list[float]  # mean score by prompt, NaN where the model has no image
    rewards: list[list[float]]  # every score by prompt
    published: float | None


@dataclass
class Benchmark:
    """Models by scorer, best first."""

    results: dict[str, list[ModelScore]]
    prompts: list[Prompt]
    errors: dict[str, str]
    gaps: dict[str, int]  # model -> how many prompts it has no image for

    def win_rates(self, scorer: str) -> dict[str, dict[str, float]]:
        """rates[a][b]: the share of prompts for which a's mean score is above b's; equal ones count half."""
        models = {result.model: np.array(result.per_prompt) for result in self.results[scorer]}
        return {a: {b: _win_rate(models[a], models[b]) for b in models if b != a} for a in models}

    def markdown(self) -> str:
        return "\n".join(
            f"## {name}\n\n{markdown_table(*self.means(name))}\n\n"
            f"Share of prompts won by the model of the row:\n\n{markdown_table(*self.wins(name))}\n"
            for name in self.results
        )

    def means(self, scorer: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows: the models by their mean score."""
        rows = []
        for place, result in enumerate(self.results[scorer], 1):
            mean = result.mean
            published = "" if result.published is None else f"{result.published:.4f}"
            images = sum(map(len, result.rewards))
            interval = "" if np.isnan(mean.low) else f"[{mean.low:.4f}, {mean.high:.4f}]"
            rows.append([str(place), result.model, f"{mean.value:.4f}", interval, published, str(images)])
        return ["Rank", "Model", "Mean score", "95% interval", "Paper", "Images"], rows

    def wins(self, scorer: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows: how often the model of the row beats that of the column."""
        rates = self.win_rates(scorer)
        return ["", *rates], [[a, *("-" if a == b else f"{100 * rates[a][b]:.1f}%" for b in rates)] for a in rates]

    def chart(self, scorer: str) -> Drawing:
        """Mean scores with their intervals, a bar a model."""
        results = self.results[scorer]
        title = f"Mean {scorer} score of {counted(len(self.prompts), 'prompt')}"
        return interval_chart(title, [result.model for result in results], [result.mean for result in results])

    def save(self, folder: Path) -> list[Path]:
        """benchmark.html and .md, a chart (PNG) for each scorer, and the reference's JSON files; returns page and charts."""
        folder.mkdir(parents=True, exist_ok=True)
        made = [write_page(folder / "benchmark.html", "preference/benchmark.html", benchmark=self)]
        replace_text(folder / "benchmark.md", self.markdown())
        for scorer, results in self.results.items():
            name = safe_name(scorer)
            for result in results:
                file = folder / name / f"{name}-benchmark-{safe_name(result.model)}-result.json"
                write_json(self._per_prompt(result), file)
            write_json(
                {result.model: result.mean.value for result in results}, folder / f"{name}-benchmark-results.json"
            )
            write_json(self.win_rates(scorer), folder / f"{name}-benchmark-win-rates.json")
            made.append(folder / f"{name}-benchmark.png")
            self.chart(scorer).save(made[-1], scale=2)
        return made

    def _per_prompt(self, result: ModelScore) -> list[dict[str, Any]]:
        rows = zip(self.prompts, result.per_prompt, result.rewards, strict=True)
        return [{"id": p.id, "prompt": p.text, "mean_score": mean, "rewards": rewards} for p, mean, rewards in rows]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a benchmark.

    Args:
        path: rows with id and prompt as JSON, JSON lines, CSV or TSV.

    Returns:
        The prompts in the order of the rows.

    Raises:
        ImageRewardError: the file cannot be read, or a row lacks one of the two.
    """
    rows = read_rows(path)
    if not rows or not all(isinstance(row, Mapping) and "id" in row and "prompt" in row for row in rows):
        raise ImageRewardError(f"expected rows with id and prompt in {path}")
    return [Prompt(str(row["id"]), str(row["prompt"])) for row in rows]


def find_generations(pattern: str, prompts: Sequence[Prompt], models: Sequence[str] = ()) -> list[Generation]:
    """The images that models made for the prompts.

    Args:
        pattern: such as "DIR/<model>/<id>_<n>.png" ("{model}/{id}_{n}.png" says the same); a folder alone stands for
            "<model>/<id>_<n>.png" in it.
        prompts: see `read_prompts`.
        models: only these, in this order; none means every model.

    Returns:
        The images by model, then by prompt, then by n.

    Raises:
        ImageRewardError: there are none, a model has none, or the pattern lacks a placeholder.
    """
    root, tail = _split_pattern(pattern)
    by_id = {prompt.id: prompt for prompt in prompts}
    expression = re.compile(_expression(tail))
    found = []
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and match["id"] in by_id and (not models or match["model"] in models):
            found.append((int(match["n"]), Generation(match["model"], by_id[match["id"]], path)))
    if not found:
        raise ImageRewardError(f"no image of these prompts is at {root / tail}; expected {DEFAULT_PATTERN} in a folder")
    order = {model: i for i, model in enumerate(models or sorted({g.model for _, g in found}))}
    absent = [model for model in models if all(g.model != model for _, g in found)]
    if absent:
        raise ImageRewardError(f"no image of the model {absent[0]!r} is at {root / tail}")
    place = {prompt.id: i for i, prompt in enumerate(prompts)}
    found.sort(key=lambda item: (order[item[1].model], place[item[1].prompt.id], item[0]))
    return [generation for _, generation in found]


def _split_pattern(pattern: str) -> tuple[Path, str]:
    """The folder before the first placeholder, and what follows."""
    pattern = re.sub(r"\{(model|id|n)\}", r"<\1>", pattern)
    if "<" not in pattern:
        return Path(pattern), DEFAULT_PATTERN
    missing = [name for name in _PLACES if f"<{name}>" not in pattern]
    if missing:
        raise ImageRewardError(f"the pattern {pattern} lacks <{missing[0]}>; expected something like {DEFAULT_PATTERN}")
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if "<" in part)
    return Path(*parts[:first]), "/".join(parts[first:])


def _expression(tail: str) -> str:
    pieces = re.split(r"<(model|id|n)>", tail)
    return "".join(_PLACES[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))


def benchmark_models(
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    scorers: Sequence[str],
    *,
    load: Load = load_scorer,
    variant: str = "",
    output: Path | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Benchmark:
    """Scores every generation and ranks the models.

    Args:
        prompts: see `read_prompts`.
        generations: see `find_generations`.
        scorers: what `load` takes: names, files, Hub repositories.
        load: what loads a scorer; called only if something is left to score.
        variant: what sets the scores apart besides the scorer, such as its dtype.
        output: a folder in which scores are kept as they come, so that a later call goes on from them.
        batch_size: images at once; None takes 64 on a GPU, 8 on a CPU.
        on_progress: called with (done, total) images; what it raises stops the work.

    Returns:
        The models of each scorer, best first.

    Raises:
        ImageRewardError: no image can be read.
    """
    items = [(generation.path, generation.prompt.text) for generation in generations]
    logs = {name: ScoreLog(log_file(output, name), scorer_identity(name, variant)) for name in scorers}
    makers = {name: partial(load, name) for name in scorers}
    scored = score_all(items, makers, logs, batch_size=batch_size, on_progress=on_progress)
    results = {name: _rank_models(name, prompts, generations, values) for name, values in scored.scores.items()}
    if all(np.isnan(result.mean.value) for ranked in results.values() for result in ranked):
        raise ImageRewardError(f"no image can be read; the first error: {next(iter(scored.errors.values()), 'none')}")
    some = next(iter(results.values()))
    gaps = {result.model: sum(not rewards for rewards in result.rewards) for result in some}
    return Benchmark(results, list(prompts), scored.errors, {model: n for model, n in gaps.items() if n})


def _rank_models(
    scorer: str, prompts: Sequence[Prompt], generations: Sequence[Generation], scores: np.ndarray
) -> list[ModelScore]:
    rewards: dict[str, dict[str, list[float]]] = {}
    for generation, score in zip(generations, scores.tolist(), strict=True):
        of_prompt = rewards.setdefault(generation.model, {prompt.id: [] for prompt in prompts})
        if not np.isnan(score):
            of_prompt[generation.prompt.id].append(score)
    results = [_model_score(scorer, model, list(by_prompt.values())) for model, by_prompt in rewards.items()]
    return sorted(results, key=lambda result: (np.isnan(result.mean.value), -result.mean.value))


def _model_score(scorer: str, model: str, rewards: list[list[float]]) -> ModelScore:
    per_prompt = np.array([np.mean(values) if values else np.nan for values in rewards])
    known = per_prompt[~np.isnan(per_prompt)]
    mean = bootstrap((known,), lambda values: np.mean(values, axis=-1)) if len(known) else Estimate(*[np.nan] * 3)
    published = published_score(scorer, model, map(len, rewards))
    return ModelScore(model, mean, per_prompt.tolist(), rewards, published)


def _win_rate(a: np.ndarray, b: np.ndarray) -> float:
    both = ~(np.isnan(a) | np.isnan(b))
    return float(((a > b) + 0.5 * (a == b))[both].mean()) if both.any() else np.nan
