"""`imagereward evaluate`: how far scorers agree with people."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command
from .scorer_options import add_scorers_options, load


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "evaluate",
        help="measure how far scorers agree with human rankings or comparisons of images",
        example="imagereward evaluate --data test.json --images test_images --scorers imagereward,clip",
    )
    parser.epilog = (
        "Scores are kept in --output as they come; the same call again goes on from there.\n"
        "exit codes: 0 evaluated; 1 some images were missing or unreadable; 2 wrong use; 3 no weights"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE|hub:REPO",
        help="id, prompt, generations, ranking (JSON), or prompt, better, worse (JSON, JSONL, CSV)",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the file names start from")
    parser.add_argument("--output", type=Path, default=Path("evaluation"), metavar="DIR", help="default: evaluation")
    add_scorers_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..files.writable import expect_writable_folder
    from ..preference.evaluate import evaluate_scorers
    from ..preference.reading import read_rankings

    rankings = read_rankings(args.data, args.images)
    expect_writable_folder(args.output)
    with Progress("evaluate", "image") as progress:
        evaluation = evaluate_scorers(
            rankings,
            args.scorers,
            load=lambda name: load(args, name),
            variant=args.dtype or "",
            output=args.output,
            batch_size=args.batch_size,
            on_progress=progress.show,
        )
    print(evaluation.markdown())
    evaluation.save(args.output)
    print(f"saved in {args.output}: evaluation.html", file=sys.stderr)
    for image, reason in evaluation.errors.items():
        print(f"imagereward: not scored: {image}: {reason}", file=sys.stderr)
    return EXIT_PARTIAL if evaluation.errors or evaluation.missing else EXIT_OK
