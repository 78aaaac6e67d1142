"""Stand-in of `comfy.ldm.flux.layers`: blocks that add to their inputs in place, as the host's."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.flux.math import attention, rope
from comfy.ops import manual_cast as ops
from torch import Tensor, nn


class EmbedND(nn.Module):
    def __init__(self, dim: int, theta: int, axes_dim: list[int]) -> None:
        super().__init__()
        self.theta, self.axes_dim = theta, axes_dim

    def forward(self, ids: Tensor) -> Tensor:
        turns = [rope(ids[..., axis], dim, self.theta) for axis, dim in enumerate(self.axes_dim)]
        return torch.cat(turns, dim=-3)[:, None]  # for all heads


class MLPEmbedder(nn.Module):
    def __init__(self, in_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = ops.Linear(in_dim, hidden_dim), ops.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(nn.functional.silu(self.in_layer(x)))


class SelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = ops.Linear(dim, 3 * dim), ops.Linear(dim, dim)


class Modulation(nn.Module):
    def __init__(self, dim: int, double: bool) -> None:
        super().__init__()
        self.lin = ops.Linear(dim, (6 if double else 3) * dim)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate; twice for a double block."""
        return self.lin(nn.functional.silu(vec))[:, None].chunk(self.lin.out_features // self.lin.in_features, dim=-1)


class DoubleStreamBlock(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        for stream in ("img", "txt"):
            self.add_module(f"{stream}_mod", Modulation(hidden_size, double=True))
            self.add_module(f"{stream}_attn", SelfAttention(hidden_size, num_heads))
            width = int(hidden_size * mlp_ratio)
            mlp = nn.Sequential(ops.Linear(hidden_size, width), nn.GELU("tanh"), ops.Linear(width, hidden_size))
            self.add_module(f"{stream}_mlp", mlp)
            for norm in ("norm1", "norm2"):
                self.add_module(f"{stream}_{norm}", ops.LayerNorm(hidden_size, elementwise_affine=False))
        self.num_heads = num_heads

    def forward(
        self, img: Tensor, txt: Tensor, vec: Tensor, pe: Tensor, *, transformer_options: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        pairs = zip(self._heads("txt", txt, vec), self._heads("img", img, vec), strict=True)
        q, k, v = (torch.cat(pair, dim=2) for pair in pairs)
        attended = attention(q, k, v, pe, transformer_options)
        split = txt.shape[1]
        return self._finish("img", img, attended[:, split:], vec), self._finish("txt", txt, attended[:, :split], vec)

    def _heads(self, stream: str, x: Tensor, vec: Tensor) -> Tensor:
        shift, scale, *_ = self.get_submodule(f"{stream}_mod")(vec)
        normed = self.get_submodule(f"{stream}_norm1")(x) * (1 + scale) + shift
        return _split(self.get_submodule(f"{stream}_attn.qkv")(normed), self.num_heads)

    def _finish(self, stream: str, x: Tensor, attended: Tensor, vec: Tensor) -> Tensor:
        *_, gate1, shift, scale, gate2 = self.get_submodule(f"{stream}_mod")(vec)
        x += gate1 * self.get_submodule(f"{stream}_attn.proj")(attended)
        normed = self.get_submodule(f"{stream}_norm2")(x) * (1 + scale) + shift
        x += gate2 * self.get_submodule(f"{stream}_mlp")(normed)
        return x


class SingleStreamBlock(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.hidden_size, self.num_heads = hidden_size, num_heads
        width = int(hidden_size * mlp_ratio)
        self.linear1 = ops.Linear(hidden_size, 3 * hidden_size + width)
        self.linear2 = ops.Linear(hidden_size + width, hidden_size)
        self.pre_norm = ops.LayerNorm(hidden_size, elementwise_affine=False)
        self.modulation = Modulation(hidden_size, double=False)

    def forward(self, x: Tensor, vec: Tensor, pe: Tensor, *, transformer_options: dict[str, Any]) -> Tensor:
        shift, scale, gate = self.modulation(vec)
        joined = self.linear1(self.pre_norm(x) * (1 + scale) + shift)
        qkv, mlp = joined.tensor_split([3 * self.hidden_size], dim=-1)
        q, k, v = _split(qkv, self.num_heads)
        attended = attention(q, k, v, pe, transformer_options)
        x += gate * self.linear2(torch.cat([attended, nn.functional.gelu(mlp, approximate="tanh")], dim=2))
        return x


def _split(qkv: Tensor, heads: int) -> Tensor:
    """(B, N, 3 * heads * d) -> (3, B, heads, N, d)."""
    return qkv.reshape(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)


class LastLayer(nn.Module):
    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = ops.LayerNorm(hidden_size, elementwise_affine=False)
        self.linear = ops.Linear(hidden_size, patch_size**2 * out_channels)

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        return self.linear(self.norm_final(x))
