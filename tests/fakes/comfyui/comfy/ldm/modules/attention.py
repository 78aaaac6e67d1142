"""Stand-in of `comfy.ldm.modules.attention`: attention with a gradient by name, and by default with one that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.ops import manual_cast as ops
from torch import Tensor, nn


def attention_pytorch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    attn_precision: Any = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **kwargs: Any,
) -> Tensor:
    """(B, tokens, heads * d), or (B, heads, tokens, d) with `skip_reshape` -> (B, tokens, heads * d)."""
    if not skip_reshape:
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))  # type: ignore[no-untyped-call]  # torch types no `unflatten`
    return nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


def optimized_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, *, transformer_options: dict[str, Any], **keywords: Any
) -> Tensor:
    """What the networks call. Some kernels that a host chooses here have no gradient, and so has this one."""
    override: Callable[..., Tensor] | None = transformer_options.get("optimized_attention_override")
    if override is not None:
        return override(_without_gradient, q, k, v, heads, transformer_options=transformer_options, **keywords)
    return _without_gradient(q, k, v, heads, **keywords)


def _without_gradient(*args: Any, **keywords: Any) -> Tensor:
    with torch.no_grad():
        return attention_pytorch(*args, **keywords)


class GEGLU(nn.Module):
    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.proj = ops.Linear(dim_in, 2 * dim_out)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * nn.functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), ops.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class CrossAttention(nn.Module):
    def __init__(self, query_dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(query_dim, query_dim, bias=False)
        self.to_k, self.to_v = (ops.Linear(context_dim, query_dim, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(ops.Linear(query_dim, query_dim), nn.Identity())

    def forward(self, x: Tensor, context: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out(optimized_attention(q, k, v, self.heads, transformer_options=transformer_options))


class BasicTransformerBlock(nn.Module):
    def __init__(self, dim: int, n_heads: int, context_dim: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(dim, dim, n_heads), CrossAttention(dim, context_dim, n_heads)
        self.norm1, self.norm2, self.norm3 = (ops.LayerNorm(dim) for _ in range(3))
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        # The host counts here: a second pass that recomputes the block must not be counted.
        transformer_options["block_index"] = transformer_options.get("block_index", 0) + 1
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed, transformer_options)
        x = x + self.attn2(self.norm2(x), context, transformer_options)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, in_channels: int, n_heads: int, depth: int, context_dim: int, use_linear: bool) -> None:
        super().__init__()
        self.use_linear = use_linear
        self.norm = ops.GroupNorm(8, in_channels)
        self.proj_in, self.proj_out = (
            ops.Linear(in_channels, in_channels) if use_linear else ops.Conv2d(in_channels, in_channels, 1)
            for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(in_channels, n_heads, context_dim) for _ in range(depth)
        )

    def forward(self, x: Tensor, context: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        height, before = x.shape[2], x
        x = self.norm(x)
        x = x if self.use_linear else self.proj_in(x)
        x = x.flatten(2).transpose(1, 2)  # BCHW -> BNC
        x = self.proj_in(x) if self.use_linear else x
        for block in self.transformer_blocks:
            x = block(x, context=context, transformer_options=transformer_options)
        x = self.proj_out(x) if self.use_linear else x
        x = x.transpose(1, 2).reshape(*before.shape[:2], height, -1)  # BNC -> BCHW
        return before + (x if self.use_linear else self.proj_out(x))
