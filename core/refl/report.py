"""The report of a run: one self-contained HTML page with curves, pictures before and after, and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from ..files.console import counted
from ..pages.cards import Frame, frame
from ..pages.charts import line_chart
from ..pages.drawing import Drawing
from ..pages.kit import write_page
from .config import ReflConfig
from .guard import ENDS, Evaluation, Guard
from .result import ReflResult

CHART_WIDTH, CHART_HEIGHT = 500, 220
THUMBNAIL = 320
REWARD_INK, HELD_OUT_INK, LOSS_INK, DIVERSITY_INK = 0, 1, 2, 3


class Strength(NamedTuple):
    """A row of the table: the fixed pictures at one strength of the LoRA."""

    strength: float
    scores: Evaluation
    diversity: float | None  # as a share of the untuned model's
    note: str
    chosen: bool


class Pair(NamedTuple):
    """A prompt of the fixed pictures, before the tuning and after, from the same noise."""

    prompt: str
    before: Frame
    after: Frame


def write_report(path: str | Path, name: str, config: ReflConfig, result: ReflResult) -> Path:
    """Writes the page of a run, whole or not at all.

    Args:
        path: the page.
        name: the run's name, its title.
        config: its settings.
        result: what `ReflTrainer.train` returned.

    Returns:
        The page's path.
    """
    return write_page(
        path,
        "refl/report.html",
        title=f"{name}: ReFL",
        note=_summary(config, result),
        charts=_charts(config, result),
        strengths=_strengths(config, result),
        held_out=list(result.evaluations[0].held_out) if result.evaluations else [],
        guarded=config.guard,
        pairs=_pairs(result),
        settings=_settings(config),
    )


def _summary(config: ReflConfig, result: ReflResult) -> str:
    how = ENDS[result.ended]
    parts = [f"{config.model}, tuned ({config.tune}) for {config.reward}: {counted(result.updates, 'update')}, {how}."]
    if result.record.evaluation_guidance is not None:
        parts.append(f"The fixed pictures are drawn{result.record.at_which_guidance}.")
    if result.best is not None:
        parts.append(f"Best checkpoint: the weights after {counted(result.best.update, 'update')}.")
        kept = Guard(config.patience, config.tolerance, result.evaluations).relative_diversity(result.best)
        if kept is not None:
            parts.append(f"Its pictures of one caption differ {kept:.0%} as much as the untuned model's.")
    if result.verdict:
        parts.append(f"{result.verdict[0].upper()}{result.verdict[1:]}.")
    if result.recommended_strength is not None:
        parts.append(f"Recommended strength {result.recommended_strength:.1f}: {result.reason}.")
    else:
        parts.append(f"No strength is recommended: {result.reason}.")
    return " ".join(parts)


def _charts(config: ReflConfig, result: ReflResult) -> Iterator[Drawing]:
    updates = [record for record in result.records if not record["skipped"]]
    evaluations = result.evaluations
    charts = [
        ("Reward of the training pictures", [(r["update"], r["reward"]) for r in updates], REWARD_INK),
        ("Reward of the fixed pictures", [(e.update, e.mean_reward) for e in evaluations], REWARD_INK),
        *(
            (
                f"Held-out score ({title}) of the fixed pictures",
                [(e.update, e.means_held_out[title]) for e in evaluations],
                HELD_OUT_INK,
            )
            for title in (evaluations[0].held_out if evaluations else ())
        ),
        (
            "Diversity of one caption's pictures",
            [(e.update, e.mean_diversity) for e in evaluations if e.mean_diversity is not None],
            DIVERSITY_INK,
        ),
        ("Loss", [(r["update"], r["loss"]) for r in updates], LOSS_INK),
    ]
    size = {"width": CHART_WIDTH, "height": CHART_HEIGHT}
    for title, points, ink in charts:
        if points:
            yield line_chart(title, {title: points}, across="updates", first_ink=ink, **size)


def _strengths(config: ReflConfig, result: ReflResult) -> list[Strength]:
    """The fixed pictures at each strength; "has fallen" by the guard's own rule."""
    if not result.sweep:
        return []
    guard = Guard(config.patience, config.tolerance, result.evaluations)
    rows = [Strength(0.0, guard.untuned, guard.relative_diversity(guard.untuned), "untuned", chosen=False)]
    for each in result.sweep:
        chosen = each.strength == result.recommended_strength
        notes = ["recommended"] * chosen + [f"{title} has fallen" for title in guard.fallen(each)]
        rows.append(Strength(each.strength, each, guard.relative_diversity(each), ", ".join(notes), chosen))
    return rows


def _pairs(result: ReflResult) -> list[Pair]:
    if result.before is None or result.after is None:
        return []
    pictures = zip(result.prompts, result.before, result.after, strict=False)
    return [Pair(prompt, _frame(before), _frame(after)) for prompt, before, after in pictures]


def _frame(pixels: Tensor) -> Frame:
    """pixels: (3, H, W) uint8."""
    return frame(Image.fromarray(pixels.permute(1, 2, 0).numpy()), THUMBNAIL)  # CHW -> HWC


def _settings(config: ReflConfig) -> dict[str, str]:
    values = config.plain()
    for key in ("prompts", "evaluation_prompts"):
        if isinstance(values[key], list):
            values[key] = counted(len(values[key]), "prompt")
    return {key: _setting(value) for key, value in values.items()}


def _setting(value: object) -> str:
    return "–" if value in ("", None) else f"{value[0]} to {value[1]}" if isinstance(value, list) else str(value)
