"""`imagereward score`: a table of images, best first."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.console import counted, one_line
from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, add_command
from ._help import Command
from ._output import Output, add_output_options
from .scorer_options import add_scorer_options, finite, load, positive

if TYPE_CHECKING:
    from ..scorers.base import Scorer
    from ..scoring.score import ImageScores
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
        "exit codes: 0 scored; 1 an image could not be scored, a result not be written, or none reached --min-score; "
        "2 wrong use, or nothing to score; 3 no weights"
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="[PROMPT] IMAGE...",
        help="a prompt, then images, folders, patterns, or JSONL / CSV lists of path and prompt. Without a prompt each "
        "image's own is taken: what a WebUI, ComfyUI or another program wrote into it, or a .txt beside it",
    )
    parser.add_argument("--demo", action="store_true", help="score sample pictures made on the spot; needs no weights")
    parser.add_argument("--prompt", metavar="TEXT", help="the prompt, so that every other argument is an image")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line, as many as images")
    parser.add_argument("--strict-prompts", action="store_true", help="leave unscored where the prompt is uncertain")
    parser.add_argument("--top", type=positive, metavar="N", help="only the best N")
    parser.add_argument("--min-score", type=finite, metavar="X", help="only scores of at least X")
    parser.add_argument(
        "--long-prompts",
        choices=("cut", "mean", "min"),
        default="cut",
        help="a prompt too long to read at once: cut it, as the reference does, or score it in windows",
    )
    add_output_options(parser)
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
    prompt_from: str = ""
    uncertain: str = ""

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"rank": self.rank, "score": self.score, "percentile": self.percentile}
        read = {"prompt": self.prompt, "prompt_from": self.prompt_from, "uncertain": self.uncertain}
        return shown | {"file": str(self.path)} | read | self.parts


def run(args: argparse.Namespace) -> int:
    from ..files.writable import expect_writable
    from ..scoring.score import score_images

    if args.demo:
        _prepare_demo(args)
    output = Output.of(args)
    if args.html is not None:
        expect_writable(args.html)
    items = _items(args)
    if not items:
        print("imagereward: no images given; try `imagereward score --demo`", file=sys.stderr)
        return EXIT_USAGE
    scorer, items = _prepare(items, args)
    failed, chosen = [item for item in items if item.error], [item for item in items if not item.error]
    if scorer is None or not chosen:
        _tell(failed)
        return EXIT_USAGE
    with Progress(scorer.info.title, "image", len(chosen)) as progress:
        scores = score_images(
            scorer,
            [item.path for item in chosen],
            [item.prompt for item in chosen],
            batch_size=args.batch_size,
            skip_broken=True,
            strict_prompts=args.strict_prompts,
            on_progress=progress.show,
        )
    chosen = [
        replace(item, prompt=prompt, prompt_from=origin.where, uncertain=origin.uncertain)
        for item, prompt, origin in zip(chosen, scores.prompts, scores.origins, strict=True)
    ]
    rows = _rows(chosen, scores, args.top or 0, args.min_score)
    written = output.write([row.as_dict() for row in rows], _table(rows))
    failed += [replace(chosen[position], error=reason) for position, reason in scores.errors.items()]
    _tell(failed)
    for item in chosen:
        if item.uncertain:
            print(f"imagereward: the prompt of {one_line(item.path)} is uncertain: {item.uncertain}", file=sys.stderr)
    if args.html is not None:
        written = _write_sheet(rows, args.html, scores) and written
    return EXIT_OK if rows and written and not failed else EXIT_PARTIAL


def _prepare_demo(args: argparse.Namespace) -> None:
    from ..demo.pictures import write_demo

    folder = DEMO_FOLDER / "images"
    args.inputs = [str(path) for path in write_demo(folder)]
    args.scorer = "technical"
    args.html = args.html or DEMO_FOLDER / "index.html"
    print(f"sample images made in {folder}; the `technical` scorer needs no download", file=sys.stderr)


def _items(args: argparse.Namespace) -> list[Item]:
    from .inputs import doubtful, gather, split_prompt

    if args.prompt is not None:
        return gather(args.inputs, args.prompt)
    if doubtful(args.inputs):
        first = one_line(args.inputs[0])
        print(
            f"imagereward: {first!r} is a file or folder here and is read as one; to score for the prompt {first!r}, "
            f"give --prompt {shlex.quote(first)}",
            file=sys.stderr,
        )
    prompt, inputs = split_prompt(args.inputs)
    return gather(inputs, prompt)


def _prepare(items: list[Item], args: argparse.Namespace) -> tuple[Scorer | None, list[Item]]:
    """The scorer, and the items with the prompts that were given for them; None if no file is there for it."""
    listed = None if args.prompts is None else _read_prompts(args.prompts, len(items))
    if all(item.error for item in items):
        return None, items
    scorer = load(args)
    if hasattr(scorer, "long_prompts"):
        scorer.long_prompts = args.long_prompts
    if listed is not None:
        items = [replace(item, prompt=prompt) for item, prompt in zip(items, listed, strict=True)]
    return scorer, items


def _read_prompts(path: Path, count: int) -> list[str]:
    """A prompt a line, one for each of `count` images."""
    from ..errors import ImageRewardError
    from ..files.text import read_text

    lines = read_text(path).removesuffix("\n").split("\n")
    if len(lines) != count:
        raise ImageRewardError(
            f"expected a prompt a line for {counted(count, 'image')}, {path} has {counted(len(lines), 'line')}"
        )
    return lines


def _rows(items: list[Item], scores: ImageScores, top: int, min_score: float | None) -> list[Row]:
    from ..scoring.selection import rank

    total = scores.total.tolist()
    rows: list[Row] = []
    for i in rank(total):
        if math.isnan(total[i]) or (min_score is not None and total[i] < min_score):
            continue
        parts = {title: float(values[i]) for title, values in scores.components.items() if title != scores.info.title}
        percentile = scores.info.percentile(total[i])
        item = items[i]
        read = (item.prompt_from, item.uncertain)
        rows.append(Row(len(rows) + 1, total[i], percentile, item.path, item.prompt or "", parts, *read))
    return rows[:top] if top else rows


def _table(rows: list[Row]) -> str:
    titles = list(rows[0].parts) if rows else []
    titles = titles if len(titles) <= SHOWN_PARTS else []  # the other formats and --html have them all
    header = f"{'rank':>4}  {'score':>8}  {'percentile':>10}" + "".join(f"  {t:>{max(8, len(t))}}" for t in titles)
    lines = [f"{header}  file"]
    for row in rows:
        shown = {title: row.parts[title] for title in titles}
        parts = "".join(f"  {value:>{max(8, len(title))}.4f}" for title, value in shown.items())
        lines.append(f"{row.rank:>4}  {row.score:>8.4f}  {row.percentile:>9.1f}%{parts}  {one_line(row.path)}")
    return "\n".join(lines) + "\n"


def _tell(failed: list[Item]) -> None:
    for item in failed:
        print(f"imagereward: not scored: {one_line(item.path)}: {item.error}", file=sys.stderr)


def _write_sheet(rows: list[Row], path: Path, scores: ImageScores) -> bool:
    from ..errors import ImageRewardError
    from ..pages.contact_sheet import SheetRow, write_contact_sheet

    sheet = [SheetRow(row.path, row.score, row.percentile, row.prompt, row.parts) for row in rows]
    try:
        write_contact_sheet(sheet, path, title=f"{scores.info.title} scores")
    except (OSError, ImageRewardError) as error:
        print(f"imagereward: the contact sheet could not be written: {error}", file=sys.stderr)
        return False
    print(f"contact sheet: {one_line(path)}", file=sys.stderr)
    return True
