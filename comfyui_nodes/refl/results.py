"""What the node keeps of a run, so that another file name alone does not train again, and what it shows and says of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ...core.files.console import counted
from ...core.pages.charts import line_chart
from ...core.refl.result import ReflResult

GAP = 8  # pixels between the pictures
Made = TypeVar("Made")


class Memo(Generic[Made]):
    """Remembers one result, and what it was made of: objects, compared by identity, and values, compared by equality.

    The objects are not kept alive, but for those that cannot be referred to weakly (lists, such as a CONDITIONING).
    """

    def __init__(self) -> None:
        self._objects: list[Callable[[], Any]] = []
        self._values: Hashable = None
        self._made: Made | None = None

    def get(self, objects: Sequence[Any], values: Hashable) -> Made | None:
        same = len(objects) == len(self._objects) and all(
            one is kept() for one, kept in zip(objects, self._objects, strict=True)
        )
        return self._made if same and values == self._values else None

    def put(self, objects: Sequence[Any], values: Hashable, made: Made) -> None:
        self._objects = [_reference(one) for one in objects]
        self._values, self._made = values, made


def _reference(thing: Any) -> Callable[[], Any]:
    """A call that gives the object; of one that is gone, something that no other object is."""
    try:
        kept = weakref.ref(thing)
    except TypeError:
        return lambda: thing
    gone = object()
    return lambda: gone if (found := kept()) is None else found


def reward_curve(result: ReflResult) -> Image.Image:
    """Changes since the untuned model, as the scorers have ranges of their own."""
    untuned = result.evaluations[0]
    rewards = [(float(one["update"]), float(one["reward"]) - untuned.mean_reward) for one in result.records]
    fixed = [(float(one.update), one.mean_reward - untuned.mean_reward) for one in result.evaluations]
    lines = {"in training": rewards, "fixed pictures": fixed}
    for title, before in untuned.means_held_out.items():
        lines[f"fixed pictures, held out: {title}"] = [
            (float(one.update), one.means_held_out[title] - before) for one in result.evaluations
        ]
    return line_chart(f"{result.record.reward} since the untuned model", lines, across="updates").image()


def before_and_after(result: ReflResult) -> Tensor:
    """(N, H, 2 W + gap, 3) float32 in 0..1: each picture untuned on the left, tuned on the right."""
    assert result.before is not None  # with a guard, without which the node does not train
    assert result.after is not None
    before, after = (pictures.float() / 255 for pictures in (result.before, result.after))
    gap = torch.ones(*before.shape[:3], GAP)
    return torch.cat([before, gap, after], dim=3).permute(0, 2, 3, 1).contiguous()  # BCHW -> BHWC


def summary(result: ReflResult, file: str) -> str:
    first, best = result.evaluations[0], result.best
    assert best is not None  # as above
    strength = result.recommended_strength
    reason = f"{result.reason}; {result.verdict}" if result.verdict else result.reason
    advice = reason if strength is None else f"recommended strength {strength:.1f} ({reason})"
    before, after = first.means_held_out, best.means_held_out
    others = [f"held out {title} {mean:+.4f} -> {after[title]:+.4f}" for title, mean in before.items()]
    if first.mean_diversity is not None:
        others.append(f"diversity {first.mean_diversity:.4f} -> {best.mean_diversity:.4f}")
    rewards = f"reward {first.mean_reward:+.4f} -> {best.mean_reward:+.4f}"
    where = f"on fixed pictures{result.record.at_which_guidance}"
    return (
        f"{file}: {counted(len(result.records), 'update')}, kept that after {best.update}; {where}: "
        f"{', '.join([rewards, *others])}; {advice}"
    )
