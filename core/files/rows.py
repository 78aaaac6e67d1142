"""Rows of a file, whatever kind of table it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError, UnreadableText
from .parsing import parse_json
from .text import decode_text

TEXT_NAMES = ("text", "prompt", "caption")
"""Under one of these names a row has its prompt."""
PROMPT_FILES = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")


def read_rows(path: Path) -> list[Any]:
    """The rows of a JSON list, a JSON-lines file, a CSV or a TSV; encodings as in `text`. Raises ImageRewardError."""
    suffix = path.suffix.lower()
    text = _text(path)
    if suffix == ".jsonl":
        return [_json(line, f"{path}, line {n}") for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if suffix in (".csv", ".tsv"):
        try:
            return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ","))
        except csv.Error as error:
            raise ImageRewardError(f"cannot read {path} as {suffix}: {error}") from error
    rows = _json(text, str(path))
    if not isinstance(rows, list):
        raise ImageRewardError(f"expected a list of rows in {path}, got {type(rows).__name__}")
    return rows


def _json(text: str, place: str) -> Any:
    try:
        return parse_json(text, place, constants=True)  # pandas and Python write NaN
    except UnreadableText as error:
        raise ImageRewardError(f"{error}; it begins with {text.strip()[:60]!r}") from error


def _text(path: Path) -> str:
    """The text of a table, which may be larger than other texts that people write."""
    if not path.is_file():
        raise ImageRewardError(f"no such file: {path}; expected {', '.join(PROMPT_FILES)}")
    try:
        return decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise ImageRewardError(f"cannot read {path}: {error.strerror or error}") from error


def read_prompt_rows(path: Path, columns: Sequence[str] = TEXT_NAMES) -> list[Any]:
    """What holds prompts in a file: lines of a TXT, blank ones too but for the last, or rows; of Parquet `columns` alone."""
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".parquet"):
        return read_rows(path)
    if suffix == ".txt":
        return list(_text(path).rstrip().splitlines())
    if not path.is_file():
        raise ImageRewardError(f"no such file: {path}; expected {', '.join(PROMPT_FILES)}")
    return _parquet(path, columns)


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
