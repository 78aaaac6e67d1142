"""Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) as BLIP and CLIP use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights.stored import StoredTensor
from .sizes import count_layers, vision_heads_of
from .transformer import Activation, Block


@dataclass(frozen=True)
class ViTSizes:
    """Everything that a vision tower's tensors tell about it."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    image_size: int

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor], prefix: str = "") -> ViTSizes:
        """Read off the tensors' names and shapes, in the layout of BLIP's `visual_encoder`."""
        width, _, patch, _ = tensors[prefix + "patch_embed.proj.weight"].shape
        patches = tensors[prefix + "pos_embed"].shape[-2] - 1
        return cls(
            width=width,
            depth=count_layers(tensors, prefix + "blocks."),
            heads=vision_heads_of(width),
            hidden=tensors[prefix + "blocks.0.mlp.fc1.weight"].shape[0],
            patch=patch,
            image_size=patch * round(patches**0.5),
        )


class PatchEmbed(nn.Module):
    """Each patch x patch square becomes one token: (B, 3, S, S) -> (B, (S / patch)^2, width)."""

    def __init__(self, width: int, patch: int, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """(B, 3, S, S) normalised pixels -> (B, 1 + patches, width) tokens, [CLS] first, after the final norm.

    CLIP differs from BLIP by a norm before the blocks (`pre_norm`), patches without bias, eps and activation.
    """

    def __init__(
        self, sizes: ViTSizes, *, eps: float = 1e-6, activation: Activation = F.gelu, pre_norm: bool = False
    ) -> None:
        super().__init__()
        self.sizes = sizes
        tokens = (sizes.image_size // sizes.patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, sizes.width))
        self.patch_embed = PatchEmbed(sizes.width, sizes.patch, bias=not pre_norm)
        self.pre_norm = nn.LayerNorm(sizes.width, eps=eps) if pre_norm else None
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.hidden, eps, activation) for _ in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(sizes.width, eps=eps)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed(pixels)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        for place in range(len(self.blocks)):
            x = self.run_block(place, x)
        return self.norm(x)

    def run_block(self, place: int, x: Tensor) -> Tensor:
        """The block at `place`: (B, 1 + patches, width) -> the same shape."""
        return self.blocks[place](x)
