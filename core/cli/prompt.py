"""`imagereward prompt`: which prompt is read out of a file, from where, and why."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.console import one_line
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command

if TYPE_CHECKING:
    from ..pictures.origin import Origin


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "prompt",
        help="show the prompt that is read out of an image file, from where and why",
        example="imagereward prompt image.png",
    )
    parser.epilog = (
        "exit codes: 0 a prompt in each file; 1 a file has none, an uncertain one, or cannot be read; 2 wrong use"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images of any program")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..errors import BadImage
    from ..pictures.opening import open_header
    from ..pictures.prompt_in_file import find_origin

    found: list[tuple[Path, Origin]] = []
    unreadable = 0
    for file in args.files:
        try:
            found.append((file, find_origin(file, open_header(file))))
        except BadImage as error:
            unreadable += 1
            print(f"imagereward: {one_line(error)}", file=sys.stderr)
    if args.format == "json":
        print(json.dumps([_as_dict(file, origin) for file, origin in found], indent=2, ensure_ascii=False))
    elif found:
        print("\n\n".join("\n".join(_lines(file, origin)) for file, origin in found))
    certain = all(origin.plain and not origin.uncertain for _, origin in found)
    return EXIT_OK if certain and not unreadable else EXIT_PARTIAL


def _as_dict(file: Path, origin: Origin) -> dict[str, Any]:
    return {
        "file": str(file),
        "prompt": origin.plain,
        "as_written": origin.prompt,
        "negative": origin.negative,
        "model": origin.model,
        "loras": list(origin.loras),
        "program": origin.program,
        "where": origin.where,
        "uncertain": origin.uncertain,
    }


def _lines(file: Path, origin: Origin) -> list[str]:
    """One fact a line; what is not known is left out."""
    as_written = origin.prompt if origin.prompt and origin.prompt != origin.plain else ""
    facts = {
        "prompt": origin.plain or "none found",
        "as written": as_written,
        "negative": origin.negative,
        "model": origin.model,
        "LoRAs": ", ".join(origin.loras),
        "program": origin.program,
        "where": origin.where,
        "uncertain": origin.uncertain,
    }
    return [
        one_line(file),
        *(f"  {name + ':':<12}{one_line(' '.join(value.split()))}" for name, value in facts.items() if value),
    ]
