"""Stand-in of `comfy.ldm.modules.diffusionmodules.mmdit`: SD3's transformer, with the host's names of its layers."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from comfy.ops import manual_cast as ops
from torch import Tensor, nn

FREQUENCIES = 256


class Mlp(nn.Module):
    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = ops.Linear(in_features, 4 * in_features), ops.Linear(4 * in_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = ops.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # BCHW -> BNC


class VectorEmbedder(nn.Module):
    def __init__(self, input_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(ops.Linear(input_dim, hidden_size), nn.SiLU(), ops.Linear(hidden_size, hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class SelfAttention(nn.Module):
    def __init__(self, dim: int, pre_only: bool = False) -> None:
        super().__init__()
        self.qkv = ops.Linear(dim, 3 * dim)
        if not pre_only:
            self.proj = ops.Linear(dim, dim)


class DismantledBlock(nn.Module):
    """`pre_only`: nothing comes after the attention, as of the text in the last block."""

    def __init__(self, hidden_size: int, pre_only: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = (
            ops.LayerNorm(hidden_size, elementwise_affine=False),
            SelfAttention(hidden_size, pre_only),
        )
        self.pre_only = pre_only
        if not pre_only:
            self.norm2, self.mlp = ops.LayerNorm(hidden_size, elementwise_affine=False), Mlp(hidden_size)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), ops.Linear(hidden_size, 2 * hidden_size))

    def _before_attention(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        return self.attn.qkv(self.norm1(x) * (1 + scale) + shift)

    def _after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        if self.pre_only:
            return x
        x = x + self.attn.proj(attended)
        return x + self.mlp(self.norm2(x))


class JointBlock(nn.Module):
    def __init__(self, hidden_size: int, heads: int, pre_only: bool) -> None:
        super().__init__()
        self.context_block, self.x_block = DismantledBlock(hidden_size, pre_only), DismantledBlock(hidden_size)
        self.heads = heads

    def forward(
        self, context: Tensor, x: Tensor, c: Tensor, transformer_options: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        both = torch.cat(
            [self.context_block._before_attention(context, c), self.x_block._before_attention(x, c)], dim=1
        )
        q, k, v = both.chunk(3, dim=-1)
        attended = optimized_attention(q, k, v, self.heads, transformer_options=transformer_options)
        split = context.shape[1]
        return (
            self.context_block._after_attention(context, attended[:, :split]),
            self.x_block._after_attention(x, attended[:, split:]),
        )


class FinalLayer(nn.Module):
    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = ops.LayerNorm(hidden_size, elementwise_affine=False)
        self.linear = ops.Linear(hidden_size, patch_size**2 * out_channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.linear(self.norm_final(x))


class OpenAISignatureMMDITWrapper(nn.Module):
    pos_embed: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: int,
        depth: int,
        num_blocks: int,
        adm_in_channels: int,
        context_embedder_config: dict[str, Any],
        num_patches: int,
        pos_embed_max_size: int,
        dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        width = 64 * depth
        self.dtype, self.patch_size, self.pos_embed_max_size = dtype, patch_size, pos_embed_max_size
        self.x_embedder = PatchEmbed(patch_size, in_channels, width)
        self.t_embedder, self.y_embedder = VectorEmbedder(FREQUENCIES, width), VectorEmbedder(adm_in_channels, width)
        self.context_embedder = ops.Linear(**context_embedder_config["params"])
        self.register_buffer("pos_embed", torch.zeros(1, num_patches, width))
        self.joint_blocks = nn.ModuleList(JointBlock(width, depth, i == num_blocks - 1) for i in range(num_blocks))
        self.final_layer = FinalLayer(width, patch_size, out_channels)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        rows, columns = (side // self.patch_size for side in x.shape[2:])
        positions = self.pos_embed.reshape(1, self.pos_embed_max_size, self.pos_embed_max_size, -1)
        tiled = positions.repeat(1, 1 + rows // positions.shape[1], 1 + columns // positions.shape[2], 1)
        hidden = self.x_embedder(x) + tiled[:, :rows, :columns].flatten(1, 2).to(x.dtype)
        c = self.t_embedder(timestep_embedding(timesteps, FREQUENCIES).to(x.dtype)) + self.y_embedder(y)
        text = self.context_embedder(context)
        for block in self.joint_blocks:
            text, hidden = block(text, hidden, c=c, transformer_options=transformer_options or {})
        return unpatchify(self.final_layer(hidden, c), rows, self.patch_size)


def unpatchify(x: Tensor, rows: int, patch: int) -> Tensor:
    """(B, rows * columns, C * patch * patch) -> (B, C, rows * patch, columns * patch)."""
    return nn.functional.pixel_shuffle(x.transpose(1, 2).reshape(len(x), x.shape[2], rows, -1), patch)
