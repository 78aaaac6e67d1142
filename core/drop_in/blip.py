"""BLIP as the reference's clients hold it: towers with its names, its keys, its calls, and its randomness in training.

The scorers' own networks give the same numbers with less work (`core/networks/bert.py`); here every parameter takes part and
every argument that clients pass is honoured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ImageRewardError
from ..networks.bert import BertSizes
from ..networks.vit import VisionTransformer, ViTSizes
from ..weights.stored import StoredTensor
from .text_tower import TextTower
from .tokenizer import Tokenizer

EMBEDDING = 256  # of the contrastive space
DROP_PATH = 0.1  # stochastic depth of the last block of the large image tower

# BLIP's med_config.json, which comes with every checkpoint of ImageReward.
_TEXT = {
    "vocab_size": 30524,
    "max_position_embeddings": 512,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_VISION = {"base": (768, 12, 12), "large": (1024, 24, 16)}  # width, depth, heads
_PATCH = 16


@dataclass(frozen=True)
class BlipSizes:
    """What a BLIP is built from."""

    vision: ViTSizes
    text: BertSizes
    embedding: int = EMBEDDING
    drop_path: float = DROP_PATH

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor], prefix: str = "") -> BlipSizes:
        """Read off a checkpoint's tensors."""
        projection = tensors.get(prefix + "vision_proj.weight")
        return cls(
            ViTSizes.of(tensors, prefix + "visual_encoder."),
            BertSizes.of(tensors, prefix + "text_encoder."),
            EMBEDDING if projection is None else projection.shape[0],
        )

    @classmethod
    def published(cls, med_config: object, image_size: int, vit: str, embedding: int) -> BlipSizes:
        """Of BLIP's base or large image tower, and the text tower of a med_config.json; None is that of BLIP itself."""
        if vit not in _VISION:
            raise ImageRewardError(f"expected a vit of {' or '.join(_VISION)}, got {vit!r}")
        width, depth, heads = _VISION[vit]
        vision = ViTSizes(width, depth, heads, 4 * width, _PATCH, image_size)
        text = _TEXT | ({} if med_config is None else _read_config(med_config))
        sizes = BertSizes(
            vocabulary=text["vocab_size"],
            positions=text["max_position_embeddings"],
            width=text["hidden_size"],
            depth=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            hidden=text["intermediate_size"],
            image_width=width,
        )
        return cls(vision, sizes, embedding, DROP_PATH if vit == "large" else 0.0)


def _read_config(med_config: Any) -> dict[str, int]:
    try:
        config = json.loads(Path(med_config).read_text(encoding="utf-8"))
        return {key: int(config[key]) for key in _TEXT}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ImageRewardError(
            f"expected BERT's configuration in {med_config}, a JSON file with {', '.join(_TEXT)} "
            f"({type(error).__name__}: {error}). Fix: leave med_config out to take BLIP's own"
        ) from error


class DropPath(nn.Module):
    """Training leaves a branch out for a share of the samples, and makes it louder by as much for the others
    (Huang et al. 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        if self.share == 0 or not self.training:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.share
        return branch * keep.to(branch.dtype) / (1 - self.share)


class VisionTower(VisionTransformer):
    """(B, 3, S, S) normalised pixels -> (B, 1 + patches, width); training leaves branches out at random (`DropPath`).

    recomputed: how many of the last blocks keep nothing for the backward pass and compute their insides again.
    """

    def __init__(self, sizes: ViTSizes, drop_path: float, recomputed: int = 0) -> None:
        super().__init__(sizes)
        self.num_features = self.embed_dim = sizes.width
        self.patch_embed.num_patches = self.pos_embed.shape[1] - 1  # type: ignore[assignment] # read by who resizes positions
        self.recomputed = recomputed
        last = max(1, sizes.depth - 1)
        for place, block in enumerate(self.blocks):
            block.drop_path = DropPath(drop_path * place / last)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.normal_(parameter, std=0.02)

    def run_block(self, place: int, x: Tensor) -> Tensor:
        if place < len(self.blocks) - self.recomputed:
            return super().run_block(place, x)
        again: Tensor = checkpoint(self.blocks[place], x, use_reentrant=False)
        return again


class BLIP_Pretrain(nn.Module):  # noqa: N801 - the reference's name
    """Both towers, the projections into the contrastive space, and the tokenizer.

    med_config: a JSON file with the text tower's sizes; None takes BLIP's own. vit_grad_ckpt: the last `vit_ckpt_layer`
    blocks of the image tower compute their insides again in the backward pass instead of keeping them. queue_size and
    momentum change nothing, as in the reference. sizes: of both towers, instead of all else. beside: the file beside which
    `vocab.txt` may lie.
    """

    def __init__(
        self,
        med_config: object = None,
        image_size: int = 224,
        vit: str = "base",
        vit_grad_ckpt: bool = False,
        vit_ckpt_layer: int = 0,
        embed_dim: int = EMBEDDING,
        queue_size: int = 57600,
        momentum: float = 0.995,
        *,
        sizes: BlipSizes | None = None,
        beside: Path | None = None,
    ) -> None:
        super().__init__()
        sizes = sizes or BlipSizes.published(med_config, image_size, vit, embed_dim)
        self.visual_encoder = VisionTower(sizes.vision, sizes.drop_path, vit_ckpt_layer if vit_grad_ckpt else 0)
        self.tokenizer = Tokenizer(beside)
        self.text_encoder = TextTower(sizes.text)
        self.vision_proj = nn.Linear(sizes.vision.width, sizes.embedding)
        self.text_proj = nn.Linear(sizes.text.width, sizes.embedding)

    @property
    def image_size(self) -> int:
        return self.visual_encoder.sizes.image_size


def blip_tensors(tensors: Mapping[str, StoredTensor], sizes: BlipSizes) -> dict[str, Tensor | StoredTensor]:
    """A checkpoint's tensors by the names of `BLIP_Pretrain`, and those that scoring never reads, if it lacks them."""
    with torch.random.fork_rng(devices=[]):
        projections = {"vision_proj": nn.Linear(sizes.vision.width, sizes.embedding)}
        projections["text_proj"] = nn.Linear(sizes.text.width, sizes.embedding)
    fresh = {f"{name}.{key}": t for name, module in projections.items() for key, t in module.state_dict().items()}
    positions = {"text_encoder.embeddings.position_ids": torch.arange(sizes.text.positions)[None]}
    return {**fresh, **tensors, **positions}
