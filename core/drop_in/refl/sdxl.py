"""The reference's `ReFL_SDXL`: the whole U-Net of SDXL."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .options import parse
from .trainer import ReferenceTrainer


class Trainer(ReferenceTrainer):
    kind = "sdxl"


def parse_args(input_args: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line, or of `input_args`."""
    return parse("sdxl", input_args)
