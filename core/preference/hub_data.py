"""Human preferences from a dataset of the Hub, read with the `datasets` library (an extra); images decode on access."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ImageRewardError, extra_needed
from .rankings import Ranking

# Column names in use: ImageRewardDB's `*_pair` and group configurations, HPD, Pick-a-Pic, plain ones.
_BETTER = ("better", "img_better", "chosen")
_WORSE = ("worse", "img_worse", "rejected")
_GROUP = ("prompt_id", "id", "prompt")


@dataclass(frozen=True)
class Cell:
    """The picture in one cell of a table of that column alone; decoded when loaded, again each time."""

    name: str
    table: Any
    row: int
    column: str

    def load(self) -> Image.Image:
        picture: Image.Image = self.table[self.row][self.column]
        picture.load()
        return picture

    def __str__(self) -> str:
        return f"{self.name}[{self.row}].{self.column}"

    def __hash__(self) -> int:
        return hash((self.name, self.row, self.column))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and str(self) == str(other)


def read_hub_rankings(reference: str) -> list[Ranking]:
    """ "owner/name", "owner/name:split" or "owner/name/configuration:split" -> rankings; the split is `train` by default.

    In place of the name, a folder that `datasets` reads (Parquet, or images with a metadata file) does as well. Scripts of a
    dataset are never run.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImageRewardError(
            f"reading a dataset of the Hub needs the datasets library: {extra_needed('train')}"
        ) from error
    name, configuration, split = _parsed(reference)
    # From 4.0 on the library runs no scripts and does not know the option any more.
    options = {"trust_remote_code": False} if "trust_remote_code" in inspect.signature(load_dataset).parameters else {}
    try:
        table = load_dataset(name, configuration, split=split, **options)
    except Exception as error:  # it raises the errors of a dozen packages
        raise ImageRewardError(f"the dataset {reference} cannot be read: {error}") from error
    return table_rankings(table, reference)


def _parsed(reference: str) -> tuple[str, str | None, str]:
    """(repository or folder, configuration, split)."""
    name, colon, split = reference.rpartition(":")
    if not colon or Path(reference).is_dir():
        name, split = reference, ""
    if Path(name).is_dir():
        return name, None, split or "train"
    parts = name.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:]) or None, split or "train"


def table_rankings(table: Any, name: str) -> list[Ranking]:
    """Rankings from a table with one comparison a row (`prompt, better, worse`) or one image a row (`prompt, image, rank`)."""
    columns = list(table.column_names)
    better, worse = _one_of(_BETTER, columns), _one_of(_WORSE, columns)
    if "prompt" in columns and better and worse:
        texts, first, second = (table.select_columns([column]) for column in ("prompt", better, worse))
        return [
            Ranking(
                str(i), texts[i]["prompt"], (Cell(name, first, i, better), Cell(name, second, i, worse)), (1.0, 2.0)
            )
            for i in range(len(table))
        ]
    if {"prompt", "image", "rank"} <= set(columns):
        return _grouped(table, name, _one_of(_GROUP, columns) or "prompt")
    raise ImageRewardError(
        f"expected the columns prompt, better, worse or prompt, image, rank in {name}, got {', '.join(columns)}"
    )


def _grouped(table: Any, name: str, group: str) -> list[Ranking]:
    light = table.select_columns(sorted({group, "prompt", "rank"}))  # no picture is decoded for this
    pictures = table.select_columns(["image"])
    members: dict[str, list[int]] = defaultdict(list)
    rows = [light[i] for i in range(len(light))]
    for i, row in enumerate(rows):
        members[str(row[group])].append(i)
    return [
        Ranking(
            identity,
            rows[chosen[0]]["prompt"],
            tuple(Cell(name, pictures, i, "image") for i in chosen),
            tuple(float(rows[i]["rank"]) for i in chosen),
        )
        for identity, chosen in members.items()
        if len(chosen) > 1
    ]


def _one_of(names: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)
