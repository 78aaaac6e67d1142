"""The `imagereward` command: one module of this folder a subcommand."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from ._help import Command

EXIT_OK = 0
EXIT_PARTIAL = 1  # it ran, but something could not be read, or nothing passed the limit
EXIT_USAGE = 2  # the call itself is wrong
EXIT_WEIGHTS = 3  # weights are missing, damaged or not to be had
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; errors go to stderr in one message, results to stdout, and the exit code tells which."""
    from ..errors import DownloadFailed, ImageRewardError, UnknownCheckpoint, WeightsNotFound

    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except (WeightsNotFound, DownloadFailed, UnknownCheckpoint) as error:
        return _complain(error, EXIT_WEIGHTS)
    except ImageRewardError as error:
        return _complain(error, EXIT_USAGE)
    except KeyboardInterrupt:
        return _complain("stopped", EXIT_INTERRUPTED)
    except BrokenPipeError:  # `imagereward score ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def make_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; importing them costs no torch."""
    parser = argparse.ArgumentParser(
        prog="imagereward",
        description='example: imagereward score "a red fox in snow" *.png\n\nJudge generated images as people would.',
        epilog="Each command has a page of its own: imagereward COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Command)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name.startswith("_"):  # importing __main__ would run it
            continue
        command = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(command, "add_parser"):
            command.add_parser(subparsers)
    return parser


def add_command(subparsers: argparse._SubParsersAction[Command], name: str, *, help: str, example: str) -> Command:
    """A subcommand whose help begins with an example."""
    command = subparsers.add_parser(name, help=help, description=help)
    command.example = example
    return command


def _complain(error: object, code: int) -> int:
    print(f"imagereward: {error}", file=sys.stderr)
    return code
