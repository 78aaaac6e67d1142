"""`imagereward benchmark`: which text-to-image model makes the better pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files.console import counted
from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command
from .scorer_options import add_scorers_options, load, names


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "benchmark",
        help="rank text-to-image models by the scores of what they made of the same prompts",
        example="imagereward benchmark --prompts benchmark-prompts.json --images 'generations/<model>/<id>_<n>.png'",
    )
    parser.epilog = (
        "Scores are kept in --output as they come; the same call again goes on from there.\n"
        "exit codes: 0 every prompt scored; 1 images are missing or unreadable; 2 wrong use; 3 no weights"
    )
    parser.add_argument("--prompts", required=True, type=Path, metavar="FILE", help="rows with id and prompt")
    parser.add_argument(
        "--images",
        required=True,
        metavar="PATTERN",
        help="a folder, or a pattern with <model>, <id> and <n> (or {model}, {id}, {n}); quote it in a shell",
    )
    parser.add_argument(
        "--models", type=names, default=[], metavar="A,B,...", help="only these (default: all there are)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmark"), metavar="DIR", help="default: benchmark")
    add_scorers_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..files.writable import expect_writable_folder
    from ..preference.benchmark import benchmark_models, find_generations, read_prompts

    prompts = read_prompts(args.prompts)
    generations = find_generations(args.images, prompts, args.models)
    expect_writable_folder(args.output)
    with Progress("benchmark", "image", len(generations)) as progress:
        result = benchmark_models(
            prompts,
            generations,
            args.scorers,
            load=lambda name: load(args, name),
            variant=args.dtype or "",
            output=args.output,
            batch_size=args.batch_size,
            on_progress=progress.show,
        )
    print(result.markdown())
    made = result.save(args.output)
    print(f"saved in {args.output}: {', '.join(path.name for path in made)}", file=sys.stderr)
    for image, reason in result.errors.items():
        print(f"imagereward: not scored: {image}: {reason}", file=sys.stderr)
    for model, count in result.gaps.items():
        print(f"imagereward: {model} has no image for {count} of {counted(len(prompts), 'prompt')}", file=sys.stderr)
    return EXIT_PARTIAL if result.errors or result.gaps else EXIT_OK
