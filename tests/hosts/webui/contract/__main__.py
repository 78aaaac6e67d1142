"""What hosts lack of what the extension uses.

python -m hosts.webui.contract CHECKOUT...              what is missing or done without, host by host; 1 if something is missing
python -m hosts.webui.contract --table NAME=CHECKOUT... the table of docs/hosts.md
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from .checkout import Checkout
from .compare import Row, Verdict, compare

REPOSITORY = Path(__file__).resolve().parents[4]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", nargs="+", metavar="[NAME=]CHECKOUT")
    parser.add_argument("--table", action="store_true", help="as Markdown, a column a host")
    given = parser.parse_args()
    columns: dict[str, list[Row]] = {}
    for text in given.hosts:
        name, _, folder = text.rpartition("=")
        columns[name or folder] = compare(Checkout(Path(folder)), REPOSITORY)
    print(table(columns) if given.table else "\n".join(report(name, rows) for name, rows in columns.items()))
    return int(any(row.verdict is Verdict.MISSING for rows in columns.values() for row in rows))


def report(name: str, rows: list[Row]) -> str:
    lines = [f"{name}: {counts(rows)}"]
    lines += [
        f"  {row.verdict.value}: {row.label} ({row.why}), {row.place}" for row in rows if row.verdict is not Verdict.HAS
    ]
    return "\n".join(lines)


def counts(rows: list[Row]) -> str:
    return ", ".join(f"{sum(row.verdict is verdict for row in rows)} {verdict.value}" for verdict in Verdict)


def table(columns: dict[str, list[Row]]) -> str:
    """A row for each thing that a host lacks; hosts that lack the same share a column. An empty cell: the host has it."""
    shared: dict[tuple[Row, ...], list[str]] = {}
    for name, rows in columns.items():
        shared.setdefault(tuple(replace(row, why="") for row in rows), []).append(name)
    lines = [["", *(", ".join(names) for names in shared.values())], ["---"] * (1 + len(shared))]
    for cells in zip(*shared, strict=True):  # all hosts have rows of the same labels
        if any(row.verdict is not Verdict.HAS for row in cells):
            lines.append([f"`{cells[0].label}`", *(CELLS[row.verdict] for row in cells)])
    for verdict in Verdict:
        lines.append([f"*{verdict.value}*", *(str(sum(row.verdict is verdict for row in rows)) for rows in shared)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


CELLS = {Verdict.HAS: "", Verdict.COPES: "without", Verdict.MISSING: "**missing**"}


if __name__ == "__main__":
    sys.exit(main())
