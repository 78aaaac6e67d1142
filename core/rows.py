"""Rows of a file, whatever kind of table it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .errors import ImageRewardError


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
