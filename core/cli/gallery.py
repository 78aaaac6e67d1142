"""`imagereward gallery`: browse scored folders in the browser, pick winners, act on files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import EXIT_OK, add_command
from ._help import Command, add_rare
from .scorer_options import port


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "gallery",
        help="a local page to browse folders by score, pick winners and act on files",
        example="imagereward gallery outputs",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="nothing outside them is shown or changed")
    parser.add_argument("--port", type=port, metavar="N", help="on 127.0.0.1 (default: a free one from 7860 on)")
    add_rare(
        parser, "--name", action="append", default=[], metavar="HOST", help="a name by which a proxy offers the page"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..errors import ImageRewardError
    from ..gallery.serve import serve

    for folder in args.folders:
        if not folder.is_dir():
            raise ImageRewardError(f"expected a folder, and {folder} is none")
    serve(args.folders, port=args.port, open_browser=not args.no_browser, names=args.name, on_open=_tell)
    return EXIT_OK


def _tell(address: str) -> None:
    print(f"gallery on {address}; Ctrl+C ends it", file=sys.stderr, flush=True)
