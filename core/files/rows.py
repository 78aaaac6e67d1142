"""Rows of a file, whatever kind of table it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError

TEXT_NAMES = ("text", "prompt", "caption")
"""Under one of these names a row has its prompt."""
PROMPT_FILES = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")


def read_rows(path: Path) -> list[Any]:
    """The rows of a JSON list, a JSON-lines file, a CSV or a TSV. Raises ImageRewardError."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ImageRewardError(f"no such file: {path}; expected JSON, JSONL, CSV or TSV")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if suffix in (".csv", ".tsv"):
                return list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
            if suffix == ".jsonl":
                return [json.loads(line) for line in file if line.strip()]
            rows = json.load(file)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ImageRewardError(f"cannot read {path} as {suffix or 'JSON'}: {error}") from error
    if not isinstance(rows, list):
        raise ImageRewardError(f"expected a list of rows in {path}, got {type(rows).__name__}")
    return rows


def read_prompt_rows(path: Path, columns: Sequence[str] = TEXT_NAMES) -> list[Any]:
    """What holds prompts in a file: lines of a TXT, blank ones too but for the last, or rows; of Parquet `columns` alone."""
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".parquet"):
        return read_rows(path)
    if not path.is_file():
        raise ImageRewardError(f"no such file: {path}; expected {', '.join(PROMPT_FILES)}")
    if suffix == ".parquet":
        return _parquet(path, columns)
    try:
        return list(path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise ImageRewardError(f"cannot read {path} as text: {error}; save it as UTF-8") from error


def first_of(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The row's value under the first of these names that it has one for; None if it has none."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImageRewardError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        return list(file.read(columns=[name for name in columns if name in file.schema_arrow.names]).to_pylist())
    except (OSError, ValueError) as error:
        raise ImageRewardError(f"cannot read {path} as Parquet: {error}") from error
