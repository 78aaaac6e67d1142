"""`imagereward scorers`: the list of scorers, what is downloaded, under which licence."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..files.console import one_line
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command
from ._output import Output, add_output_options

if TYPE_CHECKING:
    from ..scorers.base import ScorerInfo


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "scorers",
        help="list the scorers, their licences and what is downloaded",
        example="imagereward scorers",
    )
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..scorers.registry import scorer_infos

    output = Output.of(args)
    rows = [_row(info) for info in scorer_infos().values()]
    return EXIT_OK if output.write(rows, _table(rows)) else EXIT_PARTIAL


def _row(info: ScorerInfo) -> dict[str, Any]:
    from ..weights.locate import find_weight

    found = [find_weight(weight) is not None for weight in info.weights]
    return {
        "name": info.name,
        "bytes": sum(weight.size for weight in info.weights),
        "here": "built in" if not found else "yes" if all(found) else "partly" if any(found) else "no",
        "mean": info.mean,
        "std": info.std,
        "estimated": info.estimated,
        "licence": info.licence,
        "measures": info.measures,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    from ..scorers.registry import scorer_infos
    from ..weights.locate import download_folder

    lines = [f"{'name':<12} {'size':>8}  {'here':<10} {'typical':<18} {'licence':<12} measures"]
    for row in rows:
        size = f"{row['bytes'] / 1e9:.2f} GB" if row["bytes"] else "-"
        typical = f"{'about ' if row['estimated'] else ''}{row['mean']:g} ± {row['std']:g}"
        lines.append(
            f"{row['name']:<12} {size:>8}  {row['here']:<10} {typical:<18} {row['licence']:<12} {row['measures']}"
        )
    lines += [
        "",
        "typical scores are mean ± standard deviation; with 'about' they are estimates, and so are percentiles and the",
        "z-scores of `normalise`, which are made of them:",
    ]
    lines += [f"  {', '.join(names)}: {reason}" for reason, names in _by_reason(scorer_infos().values()).items()]
    lines += ["", f"downloads go to {one_line(download_folder())}", ""]
    return "\n".join(lines)


def _by_reason(infos: Iterable[ScorerInfo]) -> dict[str, list[str]]:
    """Where typical scores come from -> the scorers whose."""
    names: dict[str, list[str]] = {}
    for info in infos:
        names.setdefault(info.typical, []).append(info.name)
    return names
