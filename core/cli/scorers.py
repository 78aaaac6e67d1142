"""`imagereward scorers`: who can judge, what is downloaded, under which licence."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import EXIT_OK, add_command
from ._help import Command

if TYPE_CHECKING:
    from ..scorers.base import ScorerInfo


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "scorers",
        help="list the scorers, their licences and what is downloaded",
        example="imagereward scorers",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..scorers.registry import scorer_infos
    from ..weights.locate import download_folder, find_weight

    print(f"{'name':<12} {'size':>8}  {'here':<10} {'typical':<18} {'licence':<12} judges")
    for info in scorer_infos().values():
        size = sum(weight.size for weight in info.weights)
        found = [find_weight(weight) is not None for weight in info.weights]
        here = "built in" if not found else "yes" if all(found) else "partly" if any(found) else "no"
        shown = f"{size / 1e9:.2f} GB" if size else "-"
        typical = f"{'about ' if info.estimated else ''}{info.mean:g} ± {info.std:g}"
        print(f"{info.name:<12} {shown:>8}  {here:<10} {typical:<18} {info.licence:<12} {info.judges}")
    print(
        "\ntypical scores are mean ± standard deviation; with 'about' they are estimates, and so are percentiles and the"
    )
    print("z-scores of `normalise`, which are made of them:")
    for reason, names in _by_reason(scorer_infos().values()).items():
        print(f"  {', '.join(names)}: {reason}")
    print(f"\ndownloads go to {download_folder()}")
    return EXIT_OK


def _by_reason(infos: Iterable[ScorerInfo]) -> dict[str, list[str]]:
    """Where typical scores come from -> the scorers whose."""
    names: dict[str, list[str]] = {}
    for info in infos:
        names.setdefault(info.typical, []).append(info.name)
    return names
