"""Scorers for tests: what they give is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from sd_imagereward.core.scorers.base import Scorer, ScorerInfo
from torch import Tensor, nn


class ColourScorer(Scorer):
    """Score = `value(red, green, blue)` of the first pixel, each 0..255; counts the images it scored."""

    def __init__(self, value: Callable[[int, int, int], float]) -> None:
        info = ScorerInfo("colour", "Colour", "its first pixel", False, None, 0.0, 1.0, "none", "tests", "none")
        super().__init__(info, nn.Module(), None)
        self.value = value
        self.scored = 0

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        self.scored += len(prompts)
        corners = (self.prepare(pixels)[:, :, 0, 0] * 255).round().int().tolist()
        return torch.tensor([self.value(*corner) for corner in corners], dtype=torch.float64)


class Numbered:
    """A picture of one pixel whose colour is its number; loaded as a dataset's cell is."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name

    def load(self) -> Image.Image:
        return Image.new("RGB", (1, 1), (self.number >> 16, self.number >> 8 & 255, self.number & 255))

    def __str__(self) -> str:
        return self.name


def number_of(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue
