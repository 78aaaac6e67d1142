"""Libraries of prompts: text, and the reward that its images are known to earn, if it is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ImageRewardError
from ..files.rows import TEXT_NAMES, first_of, read_prompt_rows

# `overall_rating` is ImageRewardDB's human rating of an image, 1 to 7.
REWARD_NAMES = ("reward", "score", "mean_score", "overall_rating")


class Entry(NamedTuple):
    """One prompt; the reward is NaN where none is known, the mean where the library has several."""

    text: str
    reward: float = math.nan


def read_library(path: Path) -> list[Entry]:
    """The prompts of a file, each once.

    Args:
        path: a TXT (one a line), JSON (strings or rows), JSONL, CSV, TSV or Parquet file. A row has its prompt under text,
            prompt or caption, and may have a reward, score, mean_score or overall_rating.

    Returns:
        The prompts in the order of first appearance; rewards of equal prompts are averaged.

    Raises:
        ImageRewardError: the file cannot be read, holds no prompts, or a row has none, which the message names.
    """
    # The text and reward columns alone of a Parquet: ImageRewardDB's files hold much more.
    rows = read_prompt_rows(path, (*TEXT_NAMES, *REWARD_NAMES))
    entries = distinct(_entry(row, number, path) for number, row in enumerate(rows, 1))
    if not entries:
        raise ImageRewardError(f"{path} holds no prompts")
    return entries


def distinct(entries: Iterable[Entry]) -> list[Entry]:
    """Each prompt once, in the order of first appearance; capitals and white space make no difference. Rewards are averaged."""
    texts: dict[str, str] = {}
    rewards: dict[str, list[float]] = {}
    for entry in entries:
        key = " ".join(entry.text.casefold().split())
        if key:
            texts.setdefault(key, entry.text)
            known = rewards.setdefault(key, [])
            if not math.isnan(entry.reward):
                known.append(entry.reward)
    return [
        Entry(text, sum(rewards[key]) / len(rewards[key]) if rewards[key] else math.nan) for key, text in texts.items()
    ]


def _entry(row: Any, number: int, path: Path) -> Entry:
    if isinstance(row, str):
        return Entry(row)
    text = first_of(row, TEXT_NAMES) if isinstance(row, Mapping) else None
    if not isinstance(text, str):
        raise ImageRewardError(f"row {number} of {path} has no prompt; expected text under {', '.join(TEXT_NAMES)}")
    reward = first_of(row, REWARD_NAMES)
    try:
        return Entry(text, math.nan if reward in (None, "") else float(reward))
    except (TypeError, ValueError) as error:
        raise ImageRewardError(f"row {number} of {path}: expected a number as the reward, got {reward!r}") from error
