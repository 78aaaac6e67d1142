"""LAION's improved aesthetic predictor: a linear head on CLIP ViT-L/14's image embedding. It does not read the prompt.

Gives the numbers of `AestheticScore.score` in THUDM/ImageReward, ImageReward/models/AestheticScore.py, and of
`simple_inference.py` in christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..networks.clip import ClipLayout, ClipVision
from ..networks.head import Layer, chain_of, collapse_head
from ..weights.catalogue import CLIP_L14, WeightFile
from ..weights.download import companion
from ..weights.read import Checkpoint, read_checkpoint
from .base import ScorerInfo
from .clip import vision_tower
from .clip_origin import GELU, stated_activation
from .registry import register
from .towers import Tower, TowerScorer

# The linear layers' places in the predictor's nn.Sequential; the variants with ReLU between have others.
PLACES = (0, 2, 4, 6, 7)

INFO = ScorerInfo(
    name="aesthetic",
    title="Aesthetic",
    measures="How much people like the picture as such, about 1 to 10; the prompt plays no part.",
    reads_prompt=False,
    prompt_tokens=None,
    mean=5.5,
    std=0.6,
    licence="Apache-2.0",
    source="https://github.com/christophschuhmann/improved-aesthetic-predictor",
    paper="https://laion.ai/blog/laion-aesthetics/",
    weights=(
        # A mirror of the author's file on GitHub, which has 3,714,759 bytes and, as several projects pin it, the sha256
        # 21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0. Whether the mirror's bytes are the same is not
        # known, so the hash that the Hub states is checked instead.
        WeightFile(
            repo="camenduru/improved-aesthetic-predictor",
            file="sac+logos+ava1-l14-linearMSE.pth",
            size=3_714_759,
            sha256="",
            licence="Apache-2.0",
        ),
        CLIP_L14,
    ),
    typical="estimated for pictures of Stable Diffusion, most of which score between 4.5 and 6.5",
)


class AestheticNetwork(nn.Module):
    """The image tower and the head as one vector."""

    def __init__(self, vision: ClipVision, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.vision = vision
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def head(self, embedding: Tensor) -> Tensor:
        """(B, D) embeddings -> (B,) float32. The head follows the tower, which another scorer may have moved."""
        unit = F.normalize(embedding.float(), dim=-1)
        return (unit @ self.weight.to(unit.device, torch.float32).T + self.bias.to(unit.device, torch.float32))[:, 0]


@register
class AestheticScorer(TowerScorer):
    """`sac+logos+ava1-l14-linearMSE` and heads of its kind, alone or in one file with their CLIP."""

    variants = (INFO,)
    network: AestheticNetwork

    def __init__(self, info: ScorerInfo, vision: Tower[ClipVision], weight: Tensor, bias: Tensor) -> None:
        network = AestheticNetwork(vision.network, weight, bias)
        super().__init__(info, network, vision, vision.network.tower.sizes.image_size)

    def score_features(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.network.head(features)

    @property
    def device(self) -> torch.device:
        return next(self.network.vision.parameters()).device if not self.unloaded else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.vision.parameters()).dtype if not self.unloaded else torch.float32

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        if any(name.endswith("visual_encoder.cls_token") for name in checkpoint.tensors):
            return False  # ImageReward, whose head looks the same
        layers = _head_of(checkpoint)
        return tuple(layers) == PLACES and layers[PLACES[-1]][0].shape[0] == 1

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> AestheticScorer:
        assert checkpoint is not None
        weight, bias = collapse_head(list(_head_of(checkpoint).values()))
        vision = vision_tower(_clip_of(checkpoint), "quick_gelu", device=device, dtype=dtype)
        embedding = vision.network.projection.weight.shape[0]
        if weight.shape[1] != embedding:
            raise UnknownCheckpoint(
                f"{checkpoint.path} reads embeddings of {weight.shape[1]} numbers, the CLIP beside it gives {embedding}"
            )
        return cls(info, vision, weight.float().to(device), bias.float().to(device))


def _head_of(checkpoint: Checkpoint) -> dict[int, Layer]:
    prefix = checkpoint.prefix_of("layers.0.weight")
    layers = {} if prefix is None else checkpoint.below(prefix + "layers.")
    whole = all(name.split(".")[0].isdigit() and name.split(".", 1)[1] in ("weight", "bias") for name in layers)
    return chain_of(layers) if whole else {}


def _clip_of(checkpoint: Checkpoint) -> Checkpoint:
    """The CLIP in the same file, or the one beside it, in the folders, or from the Hub."""
    if ClipLayout.of(checkpoint.tensors) is not None:
        return checkpoint
    path = companion(CLIP_L14, checkpoint.path, also=("model.safetensors", "ViT-L-14.pt"))
    clip = read_checkpoint(path)
    if ClipLayout.of(clip.tensors) is None or stated_activation(clip) == GELU:
        raise UnknownCheckpoint(
            f"expected OpenAI's CLIP ViT-L/14 at {path}, for the aesthetic predictor; it is another model"
        )
    return clip
