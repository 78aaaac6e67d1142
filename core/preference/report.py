"""Rows in, tables and JSON out; what is written is whole or not there at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ImageRewardError(f"cannot read {path} as {suffix or 'JSON'}: {error}") from error
    if not isinstance(rows, list):
        raise ImageRewardError(f"expected a list of rows in {path}, got {type(rows).__name__}")
    return rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table: the first column to the left, the others to the right. Empty columns are left out."""
    used = [c for c in range(len(header)) if c == 0 or any(row[c] for row in rows)]
    cells = [[str(line[c]) for c in used] for line in (header, *rows)]
    widths = [max(3, *(len(line[c]) for line in cells)) for c in range(len(used))]
    lines = ["| " + " | ".join(_padded(cell, widths[c], c) for c, cell in enumerate(line)) + " |" for line in cells]
    rule = "|" + "|".join("-" * (w + 2) if c == 0 else "-" * (w + 1) + ":" for c, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _padded(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def write_json(value: Any, path: Path) -> None:
    """Indented UTF-8 JSON through a temporary file; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".incomplete")
    temporary.write_text(json.dumps(_plain(value), indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
