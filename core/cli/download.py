"""`imagereward download`: fetch a scorer's weights now instead of at its first use."""

from __future__ import annotations

import argparse

from . import EXIT_OK, add_command
from ._help import Command
from .scorer_options import announce_download


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers, "download", help="download the weights of a scorer", example="imagereward download imagereward"
    )
    parser.add_argument("name", help="a name of `imagereward scorers`")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..errors import ImageRewardError
    from ..scorers.registry import scorer_infos
    from ..weights.download import fetch_weight
    from ..weights.transfer import forget_unreachable

    infos = scorer_infos()
    if args.name not in infos:
        raise ImageRewardError(f"no scorer is named {args.name!r}; the scorers are {', '.join(infos)}")
    if not infos[args.name].weights:
        print(f"{args.name} needs no weights")
    forget_unreachable()
    for weight in infos[args.name].weights:
        print(fetch_weight(weight, announce_download))
    return EXIT_OK
