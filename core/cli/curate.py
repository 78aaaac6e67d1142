"""`imagereward curate`: score a folder once, then label, list, move, copy, rename or trash by score."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..files.console import counted, one_line
from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command
from .scorer_options import add_scorers_options, finite, load, positive

if TYPE_CHECKING:
    from ..curate.outcome import Outcome
    from ..curate.pipeline import Summary
    from ..curate.records import ScorerRecord
    from ..curate.store import Store
    from ..curate.workplace import Workplace

LISTED = 20
STDOUT = Path("-")
_LOCAL = (
    "label",
    "csv",
    "jsonl",
    "sidecar",
    "copy_best",
    "move_below",
    "delete_below",
    "rename",
    "undo",
    "dry_run",
    "strict_prompts",
    "store",
)


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "curate",
        help="score all images below a folder and sort them: labels, lists, moves, copies, names",
        example="imagereward curate outputs --label --copy-best 10 best --move-below -1 weak --dry-run",
    )
    parser.epilog = (
        "exit codes: 0 done; 1 a file could not be read, scored or changed; 2 wrong use, or another process works on the "
        "folder; 3 no weights"
    )
    parser.add_argument("source", metavar="DIR", help="the pictures in it and below, of every format that can be read")
    parser.add_argument("--prompt", help="for files that bring none in their metadata or in a .txt beside them")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="files read at once (default: one a core, plus one)"
    )
    parser.add_argument("--strict-prompts", action="store_true", help="leave unscored where the prompt is uncertain")
    add_store_option(parser)
    actions = parser.add_argument_group("actions, by the first scorer; each can be tried with --dry-run")
    actions.add_argument("--label", action="store_true", help="write the scores into the files; pixels stay untouched")
    actions.add_argument("--csv", type=Path, metavar="FILE", help="a table, best first; - is standard output")
    actions.add_argument("--jsonl", type=Path, metavar="FILE", help="the same as JSON lines")
    actions.add_argument("--sidecar", action="store_true", help="a NAME.score.json beside each file")
    actions.add_argument("--copy-best", nargs=2, metavar=("N", "DIR"), help="copy the best N")
    actions.add_argument("--move-below", nargs=2, metavar=("X", "DIR"), help="move files that score less than X")
    actions.add_argument(
        "--delete-below", type=finite, metavar="X", help="to the system's trash (pip install send2trash)"
    )
    actions.add_argument("--rename", metavar="TEMPLATE", help='such as "{score:+.2f}_{name}"')
    actions.add_argument("--dry-run", action="store_true", help="say what the actions would do, and do nothing")
    actions.add_argument("--undo", action="store_true", help="revert the last moves and renames; score nothing")
    cluster = parser.add_argument_group("many machines")
    cluster.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: score with Ray Data, no actions"
    )
    cluster.add_argument("--parquet", metavar="DIR", help="with --engine ray: where the results go")
    add_scorers_options(parser)
    parser.set_defaults(run=run)


def add_store_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, metavar="FILE", help="where scores are kept (default: a hidden file in DIR)"
    )


def run(args: argparse.Namespace) -> int:
    from ..curate.templates import check_template
    from ..curate.workplace import open_workplace
    from ..errors import ImageRewardError

    if args.engine == "ray":
        return _run_on_ray(args)
    if args.parquet:
        raise ImageRewardError(
            "--parquet takes what --engine ray finds; for a table of these scores give --csv or --jsonl"
        )
    args.folder = Path(args.source)
    if not args.folder.is_dir():
        raise ImageRewardError(f"expected a folder, and {args.folder} is none")
    if args.csv == args.jsonl == STDOUT:
        raise ImageRewardError("--csv - and --jsonl - both take standard output: give one of them a file")
    if args.rename is not None:
        check_template(args.rename)
    copying = _pair(args.copy_best, positive, "--copy-best 10 DIR")
    moving = _pair(args.move_below, finite, "--move-below 0.5 DIR")
    if args.delete_below is not None:
        _require_trash()
    with open_workplace(args.folder, args.store, dry_run=args.dry_run, say=_say_aside) as place:
        if args.undo:
            return _undo(place)
        targets = [folder for _, folder in filter(None, (copying, moving))]
        summary, records = _score(args, place.store, targets)
        _tell(summary)
        failed = [outcome for outcome in _act(args, place, summary.run, records, copying, moving) if outcome.failed]
    return EXIT_PARTIAL if failed or summary.broken or summary.unavailable or not summary.found else EXIT_OK


def _run_on_ray(args: argparse.Namespace) -> int:
    from ..curate.ray_engine import score_with_ray
    from ..errors import ImageRewardError

    if not args.parquet or len(args.scorers) != 1:
        raise ImageRewardError("--engine ray takes one scorer and needs --parquet DIR for its results")
    given = {name: getattr(args, name) for name in _LOCAL}
    unused = [
        f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None and value is not False
    ]
    if unused:
        raise ImageRewardError(f"--engine ray keeps no store and does nothing to files: leave out {', '.join(unused)}")
    score_with_ray(
        [args.source],
        args.parquet,
        scorer=args.scorers[0],
        prompt=args.prompt,
        workers=args.workers or 2,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size or 32,
    )
    return EXIT_OK


def _score(args: argparse.Namespace, store: Store, targets: list[Path]) -> tuple[Summary, list[ScorerRecord]]:
    from ..curate.pipeline import score_files
    from ..curate.records import ScorerRecord, store_key

    loaded = [(name, load(args, name)) for name in args.scorers]
    scorers = [(store_key(name, scorer), scorer) for name, scorer in loaded]
    with Progress("curate", "image") as progress:
        summary = score_files(
            args.folder,
            scorers,
            store,
            prompt=args.prompt,
            workers=args.workers,
            batch_size=args.batch_size,
            without=targets,
            tidy=not args.dry_run,
            strict=args.strict_prompts,
            on_progress=progress.show,
        )
    for picture in islice((picture for picture in store.unscored(summary.run) if picture.error), LISTED):
        _say_aside(f"not scored: {picture.path}: {picture.error}")
    return summary, [ScorerRecord.of(key, scorer.info) for key, scorer in scorers]


def _say(line: str) -> None:
    """One line for each file, whatever its name holds."""
    print(one_line(line))


def _say_aside(line: str) -> None:
    print(f"imagereward: {one_line(line)}", file=sys.stderr)


def _tell(summary: Summary) -> None:
    print(f"{counted(summary.found, 'image')}: {summary}", file=sys.stderr)
    for path, reason in summary.not_read:
        _say_aside(f"not read this time: {path}: {reason}")
    for path in summary.without_prompt[:LISTED]:
        _say_aside(f"no prompt for {path} (give --prompt, a .txt beside it, or a scorer without)")
    for path, reason in summary.uncertain_prompts[:LISTED]:
        _say_aside(f"the prompt of {path} is uncertain: {reason}")


def _act(
    args: argparse.Namespace,
    place: Workplace,
    run: int,
    records: list[ScorerRecord],
    copying: tuple[int, Path] | None,
    moving: tuple[float, Path] | None,
) -> Iterator[Outcome]:
    """Lists, labels and copies first, while every file is where it was scored."""
    from ..curate.actions import Actions
    from ..curate.listing import list_csv, list_jsonl
    from ..curate.ranking import Ranked

    ranked = Ranked(place.store, records[0], args.folder, run)
    say = _say_aside if STDOUT in (args.csv, args.jsonl) else _say
    actions = Actions(ranked, place.journal, args.dry_run, say=say)
    steps: list[tuple[str, Callable[[], Outcome]]] = []
    if args.csv is not None:
        steps.append(("listed", lambda: list_csv(ranked, _target(args.csv), dry_run=args.dry_run, say=say)))
    if args.jsonl is not None:
        steps.append(("listed", lambda: list_jsonl(ranked, _target(args.jsonl), dry_run=args.dry_run, say=say)))
    if args.label:
        steps.append(("labelled", lambda: actions.label(records)))
    if args.sidecar:
        steps.append(("sidecars written", actions.sidecar))
    if copying is not None:
        steps.append(("copied", lambda: actions.copy_best(*copying)))
    if moving is not None:
        steps.append(("moved", lambda: actions.move_below(*moving)))
    if args.delete_below is not None:
        steps.append(("moved to the trash", lambda: actions.delete_below(args.delete_below)))
    if args.rename is not None:
        steps.append(("renamed", lambda: actions.rename(args.rename)))
    for done, act in steps:
        outcome = act()
        _tell_outcome(outcome, done, args.dry_run)
        yield outcome


def _target(path: Path) -> Path | TextIO:
    return sys.stdout if path == STDOUT else path


def _tell_outcome(outcome: Outcome, done: str, dry_run: bool) -> None:
    print(f"{outcome.changed} {'would be ' if dry_run else ''}{done}", file=sys.stderr)
    for path, reason in outcome.failed[:LISTED]:
        _say_aside(f"{path}: {reason}")
    if outcome.failures > LISTED:
        print(f"imagereward: and {outcome.failures - LISTED} more", file=sys.stderr)


def _undo(place: Workplace) -> int:
    outcome = place.undo(say=_say)
    if outcome.changed or outcome.failed:
        _tell_outcome(outcome, "moved back", place.dry_run)
    else:
        print("nothing to undo", file=sys.stderr)
    return EXIT_PARTIAL if outcome.failed else EXIT_OK


def _pair(given: list[str] | None, number: Callable[[str], float], example: str) -> tuple[Any, Path] | None:
    from ..errors import ImageRewardError

    if given is None:
        return None
    try:
        return number(given[0]), Path(given[1])
    except (ValueError, argparse.ArgumentTypeError):
        raise ImageRewardError(f"expected a number and a folder ({example}), got {' '.join(given)}") from None


def _require_trash() -> None:
    """Before an hour of scoring, not after it."""
    from ..files.moving import trash

    trash()
