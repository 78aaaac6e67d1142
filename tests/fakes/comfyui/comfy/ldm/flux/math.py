"""Stand-in of `comfy.ldm.flux.math`: rotary embeddings by a kernel that has no gradient, as the host's fused one."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

_library: Any = torch.library.Library("comfy_kitchen", "DEF")  # type: ignore[no-untyped-call]  # torch types it not
_library.define("apply_rope(Tensor q, Tensor k, Tensor turns) -> (Tensor, Tensor)")


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    even, odd = x.float()[..., 0::2], x.float()[..., 1::2]
    turned = [turns[..., row, 0] * even + turns[..., row, 1] * odd for row in range(2)]
    return torch.stack(turned, dim=-1).flatten(-2).to(x.dtype)


class _WithoutBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        return _rotate(q, turns), _rotate(k, turns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("no autograd formula was registered for comfy_kitchen::apply_rope")


_library.impl("apply_rope", lambda q, k, turns: (_rotate(q, turns), _rotate(k, turns)), "CPU")
_library.impl("apply_rope", _WithoutBackward.apply, "Autograd")


def rope(pos: Tensor, dim: int, theta: int) -> Tensor:
    """Positions (B, N) -> turns (B, N, dim / 2, 2, 2)."""
    angles = pos[..., None].float() * theta ** (-torch.arange(0, dim, 2) / dim)
    rows = [torch.stack([angles.cos(), -angles.sin()], dim=-1), torch.stack([angles.sin(), angles.cos()], dim=-1)]
    return torch.stack(rows, dim=-2)


def apply_rope(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    turned: tuple[Tensor, Tensor] = torch.ops.comfy_kitchen.apply_rope(xq, xk, freqs_cis)
    return turned


def attention(q: Tensor, k: Tensor, v: Tensor, pe: Tensor, transformer_options: dict[str, Any]) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads * d)."""
    q, k = apply_rope(q, k, pe)
    return optimized_attention(q, k, v, q.shape[1], skip_reshape=True, transformer_options=transformer_options)
