"""The `technical` scorer: is the picture sharp, clean, well exposed and whole? No weights, no prompt.

It says nothing about what the picture shows. It is for machines without weights and for catching broken pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.devices import full_precision
from ..pictures.resize import as_float
from . import technical_measures as measure
from .base import Scorer, ScorerInfo
from .registry import register

# What a measure adds to the sum, after the curve of `_terms`. Found by a linear programme that maximised the smallest drop of
# the sum over every degradation of core/demo/degradations.py at every strength, on the four sample pictures of the ImageReward
# repository and the six of core/demo/pictures.py, with no strength allowed to score above a milder one; rounded afterwards.
WEIGHTS: dict[str, float] = {
    "Sharpness": 6.4,
    "Noise": -13.0,
    "Contrast": 1.2,
    "Tones": 1.05,
    "Colourfulness": 0.5,
    "Exposure": 1.1,
    "Clipping": -6.0,
    "Blockiness": -2.4,
    "Emptiness": -3.0,
    "Damage": -10.0,
}
# Mean and standard deviation of the sum over those ten pictures and their quadrants.
ORDINARY_MEAN = 12.67
ORDINARY_STD = 0.53

NOISE_SEEN = 7.0 / 255.0  # noise that half counts; texture stays below
CONTRAST_ENOUGH = 0.08  # scales on which more of it stops to matter
COLOUR_ENOUGH = 20.0

MOST_PIXELS = 4096**2  # of a picture that is measured as it is; the measures take some fifty bytes a pixel


class TechnicalNetwork(nn.Module):
    """The measures and their weighted sum; the weights are its one parameter, so that it moves like any network."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        weights = torch.tensor(list(WEIGHTS.values()), dtype=dtype, device=device)
        self.weights = nn.Parameter(weights, requires_grad=False)

    def measures(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) float32, any values -> the measures by title in their own units, each (B,) float32.

        NaN counts as black, and what lies outside [0, 1] as its nearer end.
        """
        damage = measure.damage(pixels)
        pixels = pixels.clamp(0.0, 1.0).nan_to_num_(nan=0.0)
        sample = measure.sampled(pixels)
        grey = measure.luma(pixels)
        seen = measure.at_viewing_size(grey)
        return {
            "Sharpness": measure.sharpness(seen),
            "Noise": measure.noise(seen),
            "Contrast": measure.contrast(grey),
            "Tones": measure.tones(sample),
            "Colourfulness": measure.colourfulness(sample),
            "Exposure": measure.exposure(grey),
            "Clipping": measure.clipping(sample),
            "Blockiness": measure.blockiness(grey),
            "Emptiness": measure.emptiness(grey),
            "Damage": damage,
        }

    def total(self, measures: dict[str, Tensor]) -> Tensor:
        """The standardised sum of what `measures` gave: (B,) float32."""
        terms = _terms(measures)
        stacked = torch.stack([terms[title] for title in WEIGHTS], dim=-1)
        return ((stacked * self.weights.float()).sum(-1) - ORDINARY_MEAN) / ORDINARY_STD

    def forward(self, pixels: Tensor) -> Tensor:
        return self.total(self.measures(pixels))


def _terms(measures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Measures bent so that more of a good thing counts ever less, and a little noise (texture, grain) hardly at all."""
    noise = (measures["Noise"] / NOISE_SEEN) ** 4
    return measures | {
        "Sharpness": -torch.expm1(-measures["Sharpness"]),
        "Noise": noise / (1 + noise),
        "Contrast": -torch.expm1(-measures["Contrast"] / CONTRAST_ENOUGH),
        "Colourfulness": -torch.expm1(-measures["Colourfulness"] / COLOUR_ENOUGH),
        "Damage": measures["Damage"].sqrt(),  # a single NaN is already a fault
    }


@register
class TechnicalScorer(Scorer):
    """Scores pixels alone; prompts are not read, and may be empty strings.

    About 0 for an ordinary picture and 1 for its spread; a flawed one falls to -1 .. -10, a black one further.
    Pictures that are flat on purpose (line art on white, logos) score low, too: the measures cannot know the purpose.
    """

    variants: ClassVar[tuple[ScorerInfo, ...]] = (
        ScorerInfo(
            name="technical",
            title="Technical",
            measures="Whether a picture is sharp, clean, well exposed and whole, whatever it shows.",
            reads_prompt=False,
            prompt_tokens=None,
            mean=0.0,
            std=1.0,
            licence="Apache-2.0",
            source="part of this package",
            paper="https://doi.org/10.1117/12.477378",
            typical="measured on ten ordinary pictures and their quadrants, which it is standardised over",
            estimated=False,
        ),
    )

    def __init__(
        self,
        info: ScorerInfo | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        network = TechnicalNetwork(torch.device(device), dtype)
        super().__init__(info or self.variants[0], network, input_size=None)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: object | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> TechnicalScorer:
        """`checkpoint` is None: there are no weights to read."""
        return cls(info, device, dtype)

    def prepare(self, pixels: Tensor) -> Tensor:
        """As every scorer does; a picture of more than `MOST_PIXELS` is measured at a half, a third ... of its size."""
        return super().prepare(_reduced(self._on_device(pixels)))

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.components(pixels, prompts)[self.info.title]

    def components(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The score, then what it is made of (`measures`)."""
        self._count(pixels, prompts)
        measures = self.measures(pixels)
        return {self.info.title: self._network().total(measures)} | measures

    def measures(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] or uint8 -> each measure by title in its own unit, (B,) float32; see technical_measures."""
        pixels = self.prepare(pixels)
        with full_precision(pixels.device):
            return self._network().measures(pixels)

    def _network(self) -> TechnicalNetwork:
        assert isinstance(self.network, TechnicalNetwork)
        return self.network


def _reduced(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) -> the means of squares of n x n pixels as float32, n such that `MOST_PIXELS` at most are left."""
    height, width = pixels.shape[-2:]
    n = math.ceil(math.sqrt(height * width / MOST_PIXELS))
    if n == 1:
        return pixels
    bands = torch.split(pixels, 64 * n, dim=-2)  # so that the whole picture is never there as floats
    return torch.cat([F.avg_pool2d(as_float(band), n, ceil_mode=True) for band in bands], dim=-2)
