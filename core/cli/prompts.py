"""`imagereward prompts`: prompts of a library that are like a topic."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.console import one_line
from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command
from ._output import Output, add_output_options
from .scorer_options import finite, positive

if TYPE_CHECKING:
    from ..prompts.library import Suggestion


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "prompts",
        help="find the prompts of a library that are most similar to a topic",
        example='imagereward prompts "a landscape, detailed" -n 5 --library prompts.json',
    )
    parser.epilog = (
        "The library's embeddings are kept beside it and used again.\n"
        "exit codes: 0 found; 1 nothing was found for a topic; 2 wrong use; 3 no weights"
    )
    parser.add_argument("topics", nargs="+", metavar="TOPIC", help="what the prompts should be about")
    parser.add_argument("-n", type=positive, default=5, metavar="N", help="prompts a topic (default 5)")
    parser.add_argument(
        "--library",
        required=True,
        type=Path,
        metavar="FILE",
        help="prompts as TXT, JSON, JSONL, CSV or Parquet (text, prompt or caption; reward, if known)",
    )
    parser.add_argument("--min-reward", type=finite, metavar="X", help="only prompts with a known reward of at least X")
    parser.add_argument(
        "--distinct",
        type=finite,
        default=0.97,
        metavar="X",
        help="highest cosine between two suggestions (default 0.97)",
    )
    parser.add_argument(
        "--embedder",
        default="clip",
        metavar="NAME",
        help="a scorer with a CLIP text tower (default clip), or st:MODEL of sentence-transformers",
    )
    parser.add_argument(
        "--search",
        choices=("exact", "faiss"),
        default="exact",
        help="faiss: for more than a million prompts; may miss a neighbour (pip install faiss-cpu)",
    )
    parser.add_argument("--device", metavar="DEVICE", help="cuda, mps, cpu (default: the fastest there is)")
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..prompts.embedders import load_embedder
    from ..prompts.entries import read_library
    from ..prompts.library import PromptLibrary

    output = Output.of(args)
    read_library(args.library)  # what is wrong with it is said before anything is loaded
    embedder = load_embedder(args.embedder, device=args.device)
    with Progress("embed", "prompt") as progress:
        library = PromptLibrary(args.library, embedder, search=args.search, on_progress=progress.show)
    found = library.suggest(args.topics, args.n, min_reward=args.min_reward, distinct=args.distinct)
    rows = [{"topic": topic, **s._asdict()} for topic, group in zip(args.topics, found, strict=True) for s in group]
    written = output.write(rows, _table(args.topics, found))
    return EXIT_OK if all(found) and written else EXIT_PARTIAL


def _table(topics: list[str], found: list[list[Suggestion]]) -> str:
    lines = []
    for topic, group in zip(topics, found, strict=True):
        if len(topics) > 1:
            lines.append(f"# {one_line(topic)}")
        for s in group:
            reward = "" if math.isnan(s.reward) else f"  reward {s.reward:.4f}"
            lines.append(f"{s.similarity:.4f}{reward}  {one_line(s.text)}")
    return "".join(f"{line}\n" for line in lines)
