"""What evaluation and benchmark both show and save: tables, charts with intervals, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files.atomic import replace_text
from ..pages.charts import Series, bar_chart
from ..pages.drawing import Drawing
from .agreement import Estimate

CHART_WIDTH = 520  # pixels


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


def interval_chart(title: str, names: Sequence[str], estimates: Sequence[Estimate], decimals: int = 4) -> Drawing:
    """A bar for each name, with the interval of its estimate."""
    intervals = [(one.low, one.high) for one in estimates]
    series = Series(title, [one.value for one in estimates], intervals)
    return bar_chart(title, names, [series], width=CHART_WIDTH, decimals=decimals)


def write_json(value: Any, path: Path) -> None:
    """Indented UTF-8 JSON, whole or not at all; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(_plain(value), indent=4, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
