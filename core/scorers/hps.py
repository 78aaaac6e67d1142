"""Human Preference Score v2 and v2.1 (Wu et al. 2023, arXiv 2306.09341): the cosine of a tuned open_clip ViT-H/14.

Gives the numbers of `img_score.score` in the `hpsv2` package: the whole picture is fitted into the square, on black, with
a bicubic of floats.
"""

from __future__ import annotations

from torch import Tensor

from ..networks.clip import OPEN_CLIP, ClipLayout, is_huge
from ..networks.derivatives import derivative_wanted
from ..pictures.resize import as_float, quantise, resize_fit_smooth
from ..weights.catalogue import CLIP_MERGES, CLIP_VOCABULARY, WeightFile
from ..weights.read import Checkpoint
from .base import ScorerInfo
from .clip import PROMPT_TOKENS, ClipScorer
from .registry import register


def _info(version: str, name: str, file: str, mean: float, std: float, typical: str) -> ScorerInfo:
    return ScorerInfo(
        name=name,
        title=f"HPS v{version}",
        measures=f"How much people would prefer the picture for its prompt (HPS v{version}), about 0.2 to 0.35.",
        reads_prompt=True,
        prompt_tokens=PROMPT_TOKENS,
        mean=mean,
        std=std,
        licence="Apache-2.0",
        source="https://github.com/tgxs002/HPSv2",
        paper="https://arxiv.org/abs/2306.09341",
        weights=(
            WeightFile(repo="xswu/HPSv2", file=file, size=1_972_000_000, sha256="", licence="Apache-2.0"),
            CLIP_VOCABULARY,
            CLIP_MERGES,
        ),
        typical=typical,
    )


_TABLE = "mean within the project's own benchmark table of Stable Diffusion models; standard deviation estimated"
INFO_V21 = _info("2.1", "hpsv2.1", "HPS_v2.1_compressed.pt", 0.27, 0.025, _TABLE)
INFO_V2 = _info("2", "hpsv2", "HPS_v2_compressed.pt", 0.27, 0.015, _TABLE)


@register
class HpsScorer(ClipScorer):
    """HPS_v2.1_compressed.pt, HPS_v2_compressed.pt and other ViT-H/14 in open_clip's layout."""

    variants = (INFO_V21, INFO_V2)
    activation = "gelu"
    family = "hps"

    def prepare(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, S, S) float32: the longer side becomes S, black fills the rest. No rounding to 8 bits."""
        side, pixels = self.side, self._on_device(pixels)
        if pixels.shape[-2:] == (side, side):
            return as_float(pixels)
        if not derivative_wanted(pixels):
            pixels = quantise(pixels)  # what the host will save: so a file and its tensor score alike
        return resize_fit_smooth(pixels, side)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        layout = ClipLayout.of(checkpoint.tensors)
        return layout is not None and layout.kind == OPEN_CLIP and is_huge(checkpoint.tensors, layout)

    @classmethod
    def _input_size(cls, side: int) -> int | None:
        return None
