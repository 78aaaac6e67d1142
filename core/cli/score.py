"""`imagereward score`: a table of images, best first."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, add_command
from ._help import Command
from .scorer_options import add_scorer_options, load, positive, progress_bar

if TYPE_CHECKING:
    from ..scoring.rate import Ratings
    from .inputs import Item

DEMO_FOLDER = Path("imagereward-demo")
SHOWN_PARTS = 4  # more columns would push the file names off the screen


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "score",
        help="score images for a prompt and print them best first",
        example='imagereward score "a red fox in snow" *.png',
    )
    parser.epilog = (
        "exit codes: 0 scored; 1 an image could not be read, or none reached --min-score; 2 wrong use; 3 no weights"
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="[PROMPT] IMAGE...",
        help="a prompt, then images, folders, patterns, or JSONL / CSV lists of path and prompt. Without a prompt each "
        "image's own is taken: what a WebUI, ComfyUI or another program wrote into it, or a .txt beside it",
    )
    parser.add_argument("--demo", action="store_true", help="score sample pictures made on the spot; needs no weights")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line, as many as images")
    parser.add_argument("--top", type=positive, metavar="N", help="only the best N")
    parser.add_argument("--min-score", type=float, metavar="X", help="only scores of at least X")
    parser.add_argument(
        "--long-prompts",
        choices=("cut", "mean", "min"),
        default="cut",
        help="a prompt too long to read at once: cut it, as the reference does, or judge it in windows",
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="as JSON, on stdout or into FILE")
    parser.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="as CSV, on stdout or into FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also a contact sheet to look at")
    add_scorer_options(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    rank: int
    score: float
    percentile: float
    path: Path
    prompt: str
    parts: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"rank": self.rank, "score": self.score, "percentile": self.percentile}
        return shown | {"file": str(self.path), "prompt": self.prompt} | self.parts


def run(args: argparse.Namespace) -> int:
    from ..scoring.rate import judge

    if args.demo:
        _prepare_demo(args)
    items = _items(args)
    if not items:
        print("imagereward: no images given; try `imagereward score --demo`", file=sys.stderr)
        return EXIT_USAGE
    scorer = load(args)
    if hasattr(scorer, "long_prompts"):
        scorer.long_prompts = args.long_prompts
    prompts = _prompts(items, args.prompts, needed=scorer.info.reads_prompt)
    ratings = judge(
        scorer,
        [item.path for item in items],
        prompts,
        batch_size=args.batch_size,
        skip_broken=True,
        on_progress=progress_bar(len(items), scorer.info.title),
    )
    rows = _rows(items, prompts, ratings, args.top or 0, args.min_score)
    _print(rows, args)
    for position, reason in ratings.errors.items():
        print(f"imagereward: not scored: {items[position].path}: {reason}", file=sys.stderr)
    if args.html is not None:
        _write_sheet(rows, args.html, ratings)
    return EXIT_PARTIAL if ratings.errors or not rows else EXIT_OK


def _prepare_demo(args: argparse.Namespace) -> None:
    from ..demo.pictures import write_demo

    folder = DEMO_FOLDER / "images"
    args.inputs = [str(path) for path in write_demo(folder)]
    args.scorer = "technical"
    args.html = args.html or DEMO_FOLDER / "index.html"
    print(f"sample images made in {folder}; the `technical` scorer needs no download", file=sys.stderr)


def _items(args: argparse.Namespace) -> list[Item]:
    from .inputs import gather, split_prompt

    prompt, inputs = split_prompt(args.inputs)
    return gather(inputs, prompt)


def _prompts(items: list[Item], listed: Path | None, *, needed: bool) -> list[str]:
    """One prompt an image: from the list, the call, or the image itself."""
    from ..errors import ImageRewardError
    from .inputs import own_prompt

    if listed is not None:
        lines = listed.read_text(encoding="utf-8").splitlines()
        if len(lines) != len(items):
            raise ImageRewardError(f"expected a prompt a line for {len(items)} images, {listed} has {len(lines)} lines")
        return lines
    prompts = []
    for item in items:
        prompt = item.prompt if item.prompt is not None else own_prompt(item.path)
        if prompt is None and needed:
            raise ImageRewardError(
                f'no prompt for {item.path}: give one first (imagereward score "a prompt" IMAGE...), or --prompts FILE'
            )
        prompts.append(prompt or "")
    return prompts


def _rows(items: list[Item], prompts: list[str], ratings: Ratings, top: int, min_score: float | None) -> list[Row]:
    from ..scoring.selection import rank

    scores = ratings.total.tolist()
    rows: list[Row] = []
    for i in rank(scores):
        if math.isnan(scores[i]) or (min_score is not None and scores[i] < min_score):
            continue
        parts = {title: float(values[i]) for title, values in ratings.parts.items() if title != ratings.info.title}
        percentile = ratings.info.percentile(scores[i])
        rows.append(Row(len(rows) + 1, scores[i], percentile, items[i].path, prompts[i], parts))
    return rows[:top] if top else rows


def _print(rows: list[Row], args: argparse.Namespace) -> None:
    from ..files.tables import write_csv

    if args.json is not None:
        text = json.dumps([row.as_dict() for row in rows], indent=2, ensure_ascii=False)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n", encoding="utf-8")
    if args.csv is not None:
        write_csv([row.as_dict() for row in rows], sys.stdout if args.csv == "-" else args.csv)
    if "-" not in (args.json, args.csv):
        _print_table(rows)


def _print_table(rows: list[Row]) -> None:
    titles = list(rows[0].parts) if rows else []
    titles = titles if len(titles) <= SHOWN_PARTS else []  # --json, --csv and --html have them all
    header = f"{'rank':>4}  {'score':>8}  {'percentile':>10}" + "".join(f"  {t:>{max(8, len(t))}}" for t in titles)
    print(f"{header}  file")
    for row in rows:
        shown = {title: row.parts[title] for title in titles}
        parts = "".join(f"  {value:>{max(8, len(title))}.4f}" for title, value in shown.items())
        print(f"{row.rank:>4}  {row.score:>8.4f}  {row.percentile:>9.1f}%{parts}  {row.path}")


def _write_sheet(rows: list[Row], path: Path, ratings: Ratings) -> None:
    from ..pages.contact_sheet import SheetRow, write_contact_sheet

    sheet = [SheetRow(row.path, row.score, row.percentile, row.prompt, row.parts) for row in rows]
    write_contact_sheet(sheet, path, title=f"{ratings.info.title} scores")
    print(f"contact sheet: {path}", file=sys.stderr)
