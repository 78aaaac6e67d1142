"""`imagereward report`: the scores of a folder as one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import EXIT_OK, add_command
from ._help import Command
from .curate import add_store_option
from .scorer_options import positive

if TYPE_CHECKING:
    from ..curate.records import ScorerRecord
    from ..curate.store import Store


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "report",
        help="one HTML page of a folder that `curate` scored: pictures, histogram, averages by checkpoint and LoRA",
        example="imagereward report outputs --output report.html",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that `imagereward curate` has scored")
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="(default report.html)"
    )
    parser.add_argument("--scorer", metavar="NAME", help="whose scores (default: whoever scored most pictures)")
    parser.add_argument(
        "--top", type=positive, default=0, metavar="N", help="cards for the best N alone; tables count all"
    )
    parser.add_argument("--link", action="store_true", help="show the files themselves instead of embedded thumbnails")
    add_store_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..curate.report import write_report
    from ..curate.workplace import open_to_read
    from ..errors import ImageRewardError
    from ..files.console import counted
    from ..files.writable import expect_writable

    if not args.folder.is_dir():
        raise ImageRewardError(f"expected a folder, and {args.folder} is none")
    with open_to_read(args.folder, args.store) as store:
        record = chosen_scorer(store, args.scorer)
        expect_writable(args.output)
        count = write_report(store, record, args.output, top=args.top, linked=args.link)
    print(f"{counted(count, 'picture')}: {args.output}", file=sys.stderr)
    return EXIT_OK


def chosen_scorer(store: Store, name: str | None) -> ScorerRecord:
    from ..errors import ImageRewardError

    records = store.scorers()
    if not records:
        raise ImageRewardError(f"{store.path} has no scores yet; run: imagereward curate DIR")
    found = [record for record in records if name is None or name.lower() in (record.key.lower(), record.title.lower())]
    if not found:
        known = ", ".join(record.key for record in records)
        raise ImageRewardError(f"expected a scorer that scored this folder ({known}), got {name}")
    return found[0]
