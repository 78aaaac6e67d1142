"""SCORES: what one node says about a row of images, and the next one reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.errors import ImageRewardError
from ..core.files.console import counted

PLAIN_TITLE = "Reward"  # of scores that come as bare numbers, from a node of another pack
WITHOUT = "no score"
BYPASS = (
    "If an 'ImageReward Score' node before this one is bypassed or muted, no scores leave it: switch it on again (select it "
    "and press Ctrl+B for bypass, Ctrl+M for mute), or bypass this node too."
)


@dataclass(frozen=True)
class Scores:
    """One score an image, higher is better; NaN where an image has none. All sequences run parallel to the images."""

    title: str  # "ImageReward": the key written into files
    total: tuple[float, ...]
    components: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of a mixture, by title
    prompts: tuple[str, ...] = ()  # as scored; () if unknown
    notes: dict[int, str] = field(default_factory=dict)  # position -> what is odd about the image
    names: tuple[str, ...] = ()  # of the images, such as their files'; () if unknown

    def __len__(self) -> int:
        return len(self.total)

    def __str__(self) -> str:
        """What ComfyUI's own nodes show of SCORES."""
        return self.text()

    @property
    def best(self) -> float:
        """NaN if no image has a score."""
        return max((value for value in self.total if not math.isnan(value)), default=math.nan)

    @property
    def mean(self) -> float:
        """Of the finite scores: one infinite score would hide all others. NaN if there are none."""
        return sum(self._finite) / len(self._finite) if self._finite else math.nan

    @property
    def _finite(self) -> list[float]:
        return [value for value in self.total if math.isfinite(value)]

    def softmax(self) -> tuple[float, ...]:
        """exp(score) of each image over the sum of all, so that they add up to 1; 0 for an image without a score.

        An infinite score takes everything. All are 0 if no image has a score.
        """
        highest = self.best
        powers = [math.exp(value - highest) if value < highest else float(value == highest) for value in self.total]
        total = sum(powers)
        return tuple(power / total for power in powers) if total else tuple(powers)

    def name(self, i: int) -> str:
        """How a person tells the image from the others."""
        return self.names[i] if self.names else f"image {i}"

    def order(self) -> list[int]:
        """Positions, best first; images without a score come last."""
        return sorted(range(len(self)), key=lambda i: (math.isnan(self.total[i]), -self.total[i]))

    def take(self, positions: Sequence[int]) -> Scores:
        return Scores(
            self.title,
            tuple(self.total[i] for i in positions),
            {title: tuple(values[i] for i in positions) for title, values in self.components.items()},
            tuple(self.prompts[i] for i in positions) if self.prompts else (),
            {place: self.notes[i] for place, i in enumerate(positions) if i in self.notes},
            tuple(self.names[i] for i in positions) if self.names else (),
        )

    def named(self, names: Sequence[str]) -> Scores:
        """With a name for each image; without any, the scores as they are."""
        if not names:
            return self
        if len(names) != len(self):
            raise ImageRewardError(
                f"{counted(len(names), 'name')} for {counted(len(self), 'score')}: connect the names of these images, such as "
                "'names' of the node that loads them."
            )
        return replace(self, names=tuple(names))

    def text(self) -> str:
        """A line an image, in the order given, then best and mean."""
        lines = [self._line(i) for i in range(len(self))]
        return "\n".join([*lines, self.summary()])

    def _line(self, i: int) -> str:
        components = ", ".join(f"{title} {number(values[i])}" for title, values in self.components.items())
        line = f"{self.name(i)}: {self.title} {number(self.total[i])}" + (f" ({components})" if components else "")
        return f"{line}  [{self.notes[i]}]" if i in self.notes else line

    def summary(self) -> str:
        """Best and mean, and how many scores these leave out."""
        missing = sum(map(math.isnan, self.total))
        if missing == len(self):
            return "no image has a score" if missing else "no images"
        infinite = len(self) - missing - len(self._finite)
        left_out = [f"{missing} without a score"] * bool(missing) + [f"{infinite} infinite"] * bool(infinite)
        mean = f"mean {number(self.mean)}" if self._finite else "no mean"
        return f"best {number(self.best)}, {mean}" + (f" (left out: {', '.join(left_out)})" if left_out else "")


def number(value: float) -> str:
    """A score as people read it: "0.5812", "inf", "no score"."""
    return WITHOUT if math.isnan(value) else f"{value:.4f}"


def join(elements: Sequence[Any]) -> Scores:
    """A list node's `scores` input -> one Scores: SCORES values one after the other, or bare numbers."""
    if elements and all(isinstance(element, Scores) for element in elements):
        return elements[0] if len(elements) == 1 else _concatenate(elements)
    if elements and all(isinstance(element, (int, float)) and not isinstance(element, bool) for element in elements):
        return Scores(PLAIN_TITLE, tuple(float(element) for element in elements))
    found = sorted({"nothing" if element is None else type(element).__name__ for element in elements})
    raise ImageRewardError(
        "Expected scores from an ImageReward node (SCORES) or a list of numbers (FLOAT), got "
        f"{', '.join(found) or 'nothing'}. {BYPASS}"
    )


def _concatenate(rows: Sequence[Scores]) -> Scores:
    titles = dict.fromkeys(row.title for row in rows)
    if len(titles) > 1:
        raise ImageRewardError(
            f"Scores of different kinds can't be compared: {', '.join(titles)}. Score all images with one reward model."
        )
    starts = [sum(len(row) for row in rows[:n]) for n in range(len(rows))]
    shared_components = [title for title in rows[0].components if all(title in row.components for row in rows)]
    return Scores(
        rows[0].title,
        tuple(value for row in rows for value in row.total),
        {title: tuple(value for row in rows for value in row.components[title]) for title in shared_components},
        tuple(prompt for row in rows for prompt in row.prompts) if all(row.prompts for row in rows) else (),
        {start + i: note for start, row in zip(starts, rows, strict=True) for i, note in row.notes.items()},
        tuple(name for row in rows for name in row.names) if all(row.names for row in rows) else (),
    )
