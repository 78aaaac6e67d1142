"""The miniature's kept networks for the hosts: files that their scenes begin with, and what the truth says of drawings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sd_imagereward.core.preference.agreement import Estimate
from sd_imagereward.examples.miniature.claims import mean_over_captions, wins
from sd_imagereward.examples.miniature.drawing import Artist
from sd_imagereward.examples.miniature.host_checkpoint import host_pipeline, write_checkpoint
from sd_imagereward.examples.miniature.kept import unpack
from sd_imagereward.examples.miniature.world import Split, truth

KEPT = Path(__file__).resolve().parents[1] / "data" / "miniature"
CAPTIONS, NOISES = 56, 6  # that scenes draw
SLIGHT = 0.1  # a difference in truth that nobody would see
Values = NDArray[np.float64]  # (captions, noises)
Rows = Sequence[Sequence[Image.Image]]  # drawings of each caption


class Miniature(NamedTuple):
    """folder: as of a seed, with `model` (of diffusers, as hosts see it), `reward` and `clip`."""

    folder: Path
    checkpoint: Path
    split: Split

    @property
    def texts(self) -> list[str]:
        """Captions that nothing was trained on."""
        return self.split.test[:CAPTIONS]

    def drawn_by_diffusers(self) -> Rows:
        jobs = [(text, noise) for text in self.texts for noise in range(NOISES)]
        pictures = [Image.fromarray(pixels) for pixels in Artist(self.folder / "model").draw(jobs)]
        return [pictures[first : first + NOISES] for first in range(0, len(pictures), NOISES)]


def unpacked(folder: Path) -> Miniature:
    """Skips without diffusers, which reads the kept model."""
    pytest.importorskip("diffusers")
    seed = unpack(KEPT, folder)
    pipeline = host_pipeline(folder / "model")
    pipeline.save_pretrained(folder / "model")
    return Miniature(folder, write_checkpoint(pipeline, folder / "miniature.safetensors"), Split.of(seed))


def truths(texts: Sequence[str], drawings: Rows) -> Values:
    return np.array([[truth(np.asarray(one), text) for one in row] for text, row in zip(texts, drawings, strict=True)])


def compare(title: str, before: Values, after: Values) -> tuple[Estimate, Estimate]:
    """(rise of the truth, share of wins), each with its interval over captions; printed for the record."""
    rise, won = mean_over_captions(after - before), wins(after, before)
    print(
        f"{title}: truth {before.mean():.2f} -> {after.mean():.2f}, "
        f"rise {rise.value:+.2f} [{rise.low:+.2f}, {rise.high:+.2f}], "
        f"wins {100 * won.value:.1f}% [{100 * won.low:.1f}, {100 * won.high:.1f}]"
    )
    return rise, won
