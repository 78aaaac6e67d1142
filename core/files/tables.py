"""Rows of results as CSV, for spreadsheets, and as JSONL, which loses nothing."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO

from .atomic import replacing

# What a spreadsheet would run as a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(
    rows: Iterable[Mapping[str, Any]],
    file: str | os.PathLike[str] | TextIO,
    *,
    columns: Sequence[str] | None = None,
) -> None:
    """Writes rows with a header line; the columns are all keys in the order in which they first appear.

    `columns`: given, the rows are written as they come and need not fit into memory; a key that is no column is an error.

    `file`: a path, written as UTF-8 and replaced as a whole once complete, or an open text file (best with
    `newline=""`). A file begins with a byte order mark, without which Excel shows "é" as "Ã©" (in Python:
    `encoding="utf-8-sig"`). Line breaks, commas and quotes in a cell are quoted as RFC 4180 has it. A *text* that begins
    with = + - @, a tab or a carriage return gets an apostrophe in front, so that a spreadsheet does not run a prompt as a
    formula; numbers are left alone. Use JSONL where the text must come back to the letter.
    """
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
    with _text_file(file, "utf-8-sig") as out:
        # Every text in quotes: with minimal quoting a lone carriage return would be written bare and break the row.
        writer = csv.DictWriter(out, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def write_jsonl(rows: Iterable[Mapping[str, Any]], file: str | os.PathLike[str] | TextIO) -> None:
    """Writes one JSON object a line (https://jsonlines.org); NaN and infinity, which JSON lacks, become null.

    `file`: as for `write_csv`. Paths become text; tensors and arrays become numbers or lists.
    """
    with _text_file(file) as out:
        for row in rows:
            out.write(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n")


def write_json(rows: Iterable[Mapping[str, Any]], file: str | os.PathLike[str] | TextIO) -> None:
    """Writes one JSON list of objects; `file` and values as for `write_jsonl`."""
    text = json.dumps([_plain(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(text + "\n", file)


def write_text(text: str, file: str | os.PathLike[str] | TextIO) -> None:
    """Writes a text; `file` as for `write_csv`."""
    with _text_file(file) as out:
        out.write(text)


@contextmanager
def _text_file(file: str | os.PathLike[str] | TextIO, encoding: str = "utf-8") -> Iterator[TextIO]:
    if not isinstance(file, (str, os.PathLike)):
        yield file
        return
    with replacing(file) as raw:
        # backslashreplace: a file name that is no valid unicode must not cost the whole table
        out = TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", newline="")
        yield out
        out.flush()
        out.detach()


def _cell(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _plain(value: Any) -> Any:
    """The value in terms of JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    return str(value)
