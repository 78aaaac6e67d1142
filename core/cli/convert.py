"""`imagereward convert`: a checkpoint as safetensors, half the size if one likes."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import EXIT_OK, add_command
from ._help import Command

_DTYPES = ("fp16", "fp32")


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "convert",
        help="write a checkpoint as safetensors in fp16 (half the size) or fp32",
        example="imagereward convert ImageReward.pt --dtype fp16",
    )
    parser.add_argument("file", type=Path, help="a checkpoint of any scorer")
    parser.add_argument("--dtype", choices=_DTYPES, default="fp16", help="precision (default fp16)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, .safetensors")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    from ..files.writable import expect_writable
    from ..scorers.loading import recognise
    from ..weights.convert import convert
    from ..weights.read import read_checkpoint

    target = args.output or args.file.with_suffix(".safetensors")
    expect_writable(target)
    info = recognise(read_checkpoint(args.file))
    dtype = torch.float16 if args.dtype == "fp16" else torch.float32
    metadata = {
        "modelspec.title": info.title,
        "modelspec.license": info.licence,
        "scorer": info.name,
        "dtype": args.dtype,
        "source": info.source,
        "converted_from": args.file.name,
    }
    print(convert(args.file, target, dtype, metadata))
    return EXIT_OK
