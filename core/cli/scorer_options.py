"""The options that every command with a scorer shares."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..scorers.base import Scorer


def add_scorer_options(parser: argparse.ArgumentParser, default: str = "imagereward") -> None:
    group = parser.add_argument_group("scorer")
    group.add_argument(
        "--scorer",
        default=default,
        metavar="NAME|FILE|hub:REPO",
        help=f"scorer to use (default {default}; see `scorers`)",
    )
    add_device_options(group)


def add_scorers_options(parser: argparse.ArgumentParser) -> None:
    """For commands that compare several scorers."""
    group = parser.add_argument_group("scorers")
    group.add_argument(
        "--scorers",
        type=names,
        default=["imagereward"],
        metavar="A,B,...",
        help="scorers to use: names, checkpoint files or hub:REPO, separated by commas (default imagereward; see `scorers`)",
    )
    add_device_options(group)


def add_device_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", metavar="DEVICE", help="cuda, cuda:1, mps, cpu (default: the fastest there is)")
    group.add_argument(
        "--dtype", metavar="TYPE", help="fp32, fp16, bf16; int8 on a CPU is approximate (default: fp16 on a GPU)"
    )
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help="images at once (default 64 on a GPU, 8 on a CPU)"
    )


def names(text: str) -> list[str]:
    """For argparse: scorers, separated by commas."""
    from ..scorers.mixture import split_specs

    listed = split_specs(text)
    if not listed:
        raise argparse.ArgumentTypeError("expected one name or more, separated by commas")
    return listed


def positive(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    return _whole(text, 1)


def count(text: str) -> int:
    """For argparse: a whole number of at least 0."""
    return _whole(text, 0)


def port(text: str) -> int:
    """For argparse: a port that a program may listen on."""
    number = _whole(text, 1)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text}")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
    return number


def finite(text: str) -> float:
    """For argparse: a number; neither NaN nor infinity, against which every comparison would be right or wrong."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
    return number


def share(text: str) -> float:
    """For argparse: a part of a whole, from 0 to 1."""
    number = finite(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return number


def load(args: argparse.Namespace, name: str | None = None) -> Scorer:
    """The scorer of `--scorer`, or of that name on the device and in the precision asked for."""
    from ..scorers.loading import load_scorer

    spec = args.scorer if name is None else name
    return load_scorer(spec, device=args.device, dtype=args.dtype, on_download=announce_download)


def announce_download(done: int, total: int) -> None:
    if done == 0:
        print(f"downloading {total / 1e9:.2f} GB, once", file=sys.stderr)
