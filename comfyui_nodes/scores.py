"""SCORES: what one node says about a row of images, and the next one reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ImageRewardError

PLAIN_TITLE = "Reward"  # of scores that come as bare numbers, from a node of another pack


@dataclass(frozen=True)
class Scores:
    """One score an image, higher is better; NaN where an image has none. All sequences run parallel to the images."""

    title: str  # "ImageReward": the key written into files
    total: tuple[float, ...]
    components: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of a mixture, by title
    prompts: tuple[str, ...] = ()  # as scored; () if unknown
    notes: dict[int, str] = field(default_factory=dict)  # position -> what is odd about the image

    def __len__(self) -> int:
        return len(self.total)

    @property
    def best(self) -> float:
        return max(self._numbers, default=math.nan)

    @property
    def mean(self) -> float:
        return sum(self._numbers) / len(self._numbers) if self._numbers else math.nan

    @property
    def _numbers(self) -> list[float]:
        return [value for value in self.total if not math.isnan(value)]

    def take(self, positions: Sequence[int]) -> Scores:
        return Scores(
            self.title,
            tuple(self.total[i] for i in positions),
            {title: tuple(values[i] for i in positions) for title, values in self.components.items()},
            tuple(self.prompts[i] for i in positions) if self.prompts else (),
            {place: self.notes[i] for place, i in enumerate(positions) if i in self.notes},
        )

    def text(self) -> str:
        """A line an image, in the order given, then best and mean."""
        lines = [self._line(i) for i in range(len(self))]
        return "\n".join([*lines, f"best {self.best:.4f}, mean {self.mean:.4f}"])

    def _line(self, i: int) -> str:
        components = ", ".join(f"{title} {values[i]:.4f}" for title, values in self.components.items())
        line = f"image {i}: {self.title} {self.total[i]:.4f}" + (f" ({components})" if components else "")
        return f"{line}  [{self.notes[i]}]" if i in self.notes else line


def join(elements: Sequence[Any]) -> Scores:
    """A list node's `scores` input -> one Scores: SCORES values one after the other, or bare numbers."""
    if elements and all(isinstance(element, Scores) for element in elements):
        return elements[0] if len(elements) == 1 else _concatenate(elements)
    if elements and all(isinstance(element, (int, float)) and not isinstance(element, bool) for element in elements):
        return Scores(PLAIN_TITLE, tuple(float(element) for element in elements))
    found = sorted({type(element).__name__ for element in elements})
    raise ImageRewardError(
        f"Expected scores from an ImageReward node (SCORES) or a list of numbers (FLOAT), got {', '.join(found) or 'none'}."
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
    )
