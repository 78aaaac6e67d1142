"""The reference's `ReFL`: the whole U-Net of Stable Diffusion 1."""

from __future__ import annotations

import argparse

from .options import parse
from .trainer import ReferenceTrainer


class Trainer(ReferenceTrainer):
    kind = "sd1"


def parse_args() -> argparse.Namespace:
    """The options of the command line."""
    return parse("sd1", None)
