"""PickScore v1 (Kirstain et al. 2023, arXiv 2305.01569): CLIP ViT-H/14 tuned on people's picks; logit scale x cosine.

Gives the numbers of the model card's recipe: transformers' CLIPModel and CLIPProcessor, which converts to RGB before it
resizes, and rounds the corner of the centre cut down.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..networks.clip import HUB, ClipLayout, is_huge
from ..networks.derivatives import derivative_wanted
from ..pictures.resize import resize_crop, resize_crop_smooth
from ..weights.catalogue import CLIP_MERGES, CLIP_VOCABULARY, WeightFile
from ..weights.read import Checkpoint
from .base import ScorerInfo
from .clip import PROMPT_TOKENS, ClipScorer
from .registry import register

INFO = ScorerInfo(
    name="pickscore",
    title="PickScore v1",  # a title that ends in "Score" would be misread by image browsers
    measures="Which picture users would pick for their prompt, about 17 to 24.",
    reads_prompt=True,
    prompt_tokens=PROMPT_TOKENS,
    mean=21.0,
    std=1.3,
    licence="MIT",
    source="https://github.com/yuvalkirstain/PickScore",
    paper="https://arxiv.org/abs/2305.01569",
    weights=(
        WeightFile(
            repo="yuvalkirstain/PickScore_v1",
            file="model.safetensors",
            size=3_944_000_000,
            sha256="",
            licence="MIT",
            save_as="PickScore_v1.safetensors",
        ),
        CLIP_VOCABULARY,
        CLIP_MERGES,
    ),
    typical="estimated from the averages that papers report for Stable Diffusion 1.5 to XL (20.5 to 22)",
)


@register
class PickScorer(ClipScorer):
    """PickScore_v1 and other ViT-H/14 in the Hub's layout."""

    variants = (INFO,)
    activation = "gelu"
    family = "pickscore"
    cleaning = "hub"

    def prepare(self, pixels: Tensor) -> Tensor:
        """As `Scorer.prepare`, with the corner of the centre cut rounded down, as transformers does."""
        side, pixels = self.side, self._on_device(pixels)
        if derivative_wanted(pixels):
            return resize_crop_smooth(pixels, side, corner=math.floor)
        return resize_crop(pixels, side, corner=math.floor).float() / 255.0

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        layout = ClipLayout.of(checkpoint.tensors)
        return layout is not None and layout.kind == HUB and is_huge(checkpoint.tensors, layout)

    @classmethod
    def _input_size(cls, side: int) -> int | None:
        return None

    @classmethod
    def _scale(cls, checkpoint: Checkpoint) -> float:
        layout = ClipLayout.of(checkpoint.tensors)
        assert layout is not None
        return math.exp(float(checkpoint.tensors[layout.prefix + "logit_scale"].read()))
