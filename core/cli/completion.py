"""`imagereward completion`: what a shell needs to complete the command."""

from __future__ import annotations

import argparse

from . import EXIT_OK, add_command, make_parser
from ._help import Command

SHELLS = ("bash", "zsh", "tcsh")


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "completion",
        help="print the completion script of a shell",
        example="imagereward completion bash >> ~/.bashrc",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..errors import ImageRewardError

    try:
        import shtab
    except ImportError:
        raise ImageRewardError("completion scripts are made by shtab: pip install shtab") from None
    print(shtab.complete(make_parser(), shell=args.shell))
    return EXIT_OK
