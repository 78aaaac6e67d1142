"""Rankings from where people keep them: a file, or a dataset of the Hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..files.rows import read_rows
from .hub_data import read_hub_rankings
from .rankings import Ranking

LAYOUTS = "rows with id, prompt, generations, ranking (1 = best), or with prompt, better, worse"


def read_rankings(source: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> list[Ranking]:
    """Rankings from a file, or from a dataset of the Hub.

    Args:
        source: a JSON, JSONL, CSV or TSV file, or "hub:owner/name" (see `hub_data`).
        images: the folder that relative file names start from; None takes the folder of the file itself.

    Returns:
        The rankings in the order of the rows.

    Raises:
        ImageRewardError: the file cannot be read, is empty, or a row is not of a known layout, which the message names.
    """
    if os.fspath(source).startswith("hub:"):
        return read_hub_rankings(os.fspath(source)[len("hub:") :])
    path = Path(source)
    folder = Path(images) if images is not None else path.parent
    rankings = [_ranking(row, folder, number, path) for number, row in enumerate(read_rows(path), 1)]
    if not rankings:
        raise ImageRewardError(f"{path} is empty; expected {LAYOUTS}")
    return rankings


def _ranking(row: Any, folder: Path, number: int, path: Path) -> Ranking:
    where = f"row {number} of {path}"
    if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str):
        raise ImageRewardError(f"{where} has no prompt; expected {LAYOUTS}")
    identity = str(row.get("id", number))
    if row.get("better") and row.get("worse"):
        files, ranks = [row["better"], row["worse"]], [1.0, 1.0 if _truth(row.get("tie")) else 2.0]
    elif isinstance(row.get("generations"), list) and isinstance(row.get("ranking"), list):
        files, ranks = row["generations"], row["ranking"]
    else:
        raise ImageRewardError(f"{where} has neither generations and ranking nor better and worse; expected {LAYOUTS}")
    if not all(map(_is_rank, ranks)) or not all(isinstance(file, str) for file in files):
        raise ImageRewardError(
            f"{where}: expected file names and numbers as ranks, got {files!r:.200} and {ranks!r:.200}"
        )
    return Ranking(identity, row["prompt"], tuple(folder / file for file in files), tuple(map(float, ranks)))


def _is_rank(rank: object) -> bool:
    return isinstance(rank, (int, float)) and not isinstance(rank, bool) and abs(rank) < 1e9  # NaN is not


def _truth(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "true", "yes") if value is not None else False
