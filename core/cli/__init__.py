"""The `imagereward` command: one module of this folder a subcommand, and the boundary around them all.

Nothing leaves `main` as a traceback, and nothing that is printed can fail or give orders to a terminal.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

from ._help import Command, Parser

EXIT_OK = 0
EXIT_PARTIAL = 1  # it ran, but something could not be read, scored or written, or nothing passed
EXIT_USAGE = 2  # the call cannot be run: an option, a file or a folder is not what it has to be
EXIT_WEIGHTS = 3  # weights are missing, damaged or could not be downloaded
EXIT_FAILED = 4  # the system refused (disk full, out of memory), or this program has an error
EXIT_INTERRUPTED = 130

_OF_A_PATH = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_CURES = {
    errno.ENOSPC: "free some room there, or choose another disk",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "check its permissions, and whether another program holds it open",
    errno.EPERM: "check its permissions, and whether another program holds it open",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand: results go to stdout, each problem to stderr as a sentence, and the exit code tells which kind.

    Raises SystemExit as argparse does, for help and for options that do not exist.
    """
    from ..files.console import consoles

    with consoles() as (out, _):
        code = _run(argv)
        out.flush()
        if out.failure is not None and not out.reader_left:
            code = _complain(f"the output could not be written: {out.failure.strerror}", code or EXIT_PARTIAL)
    return code


def _run(argv: Sequence[str] | None) -> int:
    from ..errors import DownloadFailed, ImageRewardError, UnknownCheckpoint, WeightsNotFound

    debug = os.environ.get("IMAGEREWARD_DEBUG", "0") not in ("", "0")
    try:
        parser = make_parser()
        args = parser.parse_args(argv)
        debug = debug or args.debug
        if args.run is None:
            parser.print_help()
            return EXIT_USAGE
        return int(args.run(args))
    except KeyboardInterrupt:
        return _complain("stopped", EXIT_INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, (WeightsNotFound, DownloadFailed, UnknownCheckpoint)):
            return _complain(error, EXIT_WEIGHTS)
        if isinstance(error, ImageRewardError):
            return _complain(error, EXIT_USAGE)
        if isinstance(error, OSError):
            return _complain(_of_system(error), EXIT_USAGE if isinstance(error, _OF_A_PATH) else EXIT_FAILED)
        if isinstance(error, MemoryError):
            return _complain("out of memory; close other programs, or take a smaller --batch-size", EXIT_FAILED)
        return _complain(_of_us(error), EXIT_FAILED)


def make_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; importing them costs no torch."""
    from .. import __version__

    parser = Parser(
        prog="imagereward",
        description='example: imagereward score "a red fox in snow" *.png\n\n'
        "Score generated images with human-preference models.",
        epilog="Each command has a page of its own: imagereward COMMAND --help\n"
        "exit codes: 0 done; 1 a part could not be read, scored or written, or nothing passed; 2 wrong use; 3 no weights;\n"
        "4 the system refused (disk full, out of memory), or an error of this program; 130 stopped by Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"imagereward {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (or IMAGEREWARD_DEBUG=1)")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Command)
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


def _of_system(error: OSError) -> str:
    """The file, the system's words, and what may help."""
    names = " and ".join(os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes)))
    words = error.strerror or str(error) or type(error).__name__
    cure = _CURES.get(error.errno or 0)
    return (f"{names}: " if names else "") + words + (f"; {cure}" if cure else "")


def _of_us(error: Exception) -> str:
    """One line about an error that nobody foresaw: what, and where."""
    words = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words}{place}; --debug shows the traceback, which a report of this error needs"


def _complain(error: object, code: int) -> int:
    print(f"imagereward: {error}", file=sys.stderr)
    return code
