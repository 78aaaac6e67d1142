"""The scores that a file already carries."""

from __future__ import annotations

from ..pictures.label import read_label
from ..scorers.registry import known_titles

_FOREIGN = ("aesthetic_score",)  # other programs' scores that people sort by


def written_scores(text: str) -> dict[str, float]:
    """The scores by title in a parameters text: those of this package's scorers and mixtures, and `aesthetic_score`.

    Args:
        text: what `read_parameters` returns.

    Returns:
        Score by title. A title may have a number behind ("ImageReward 2": a mixture of two checkpoints of a kind).
    """
    return read_label(text, [*_FOREIGN, *known_titles()], numbered=True)
