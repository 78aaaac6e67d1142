"""Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762) that every kind of derivative passes.

torch's fused kernels are fast and save memory, but have neither forward-mode nor second derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .derivatives import is_transformed


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """(B, heads, L, d) queries, (B, heads, N, d) keys and values -> (B, heads, L, d).

    mask: boolean, broadcast to (B, heads, L, N), False where a key is not read. causal: no query reads later keys.
    """
    if any(map(is_transformed, (q, k, v))):
        return _weights(q, k, mask, causal) @ v
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        mixed: Tensor = _Attention.apply(q, k, v, mask, causal)  # type: ignore[no-untyped-call]
        return mixed
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """What each query reads of each key: (B, heads, L, N), rows sum to 1."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1)


class _Attention(torch.autograd.Function):
    """The fused kernel forwards; backwards its derivative in plain operators, which have derivatives themselves."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        ctx.save_for_backward(q, k, v, mask, mixed)
        ctx.causal = causal
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, mixed = ctx.saved_tensors
        weights, (gradient,) = _weights(q, k, mask, ctx.causal), gradients
        # The softmax's derivative subtracts the weighted mean over the keys; that of gradient @ v is gradient @ mixed.
        logits = weights * (gradient @ v.transpose(-2, -1) - (gradient * mixed).sum(-1, keepdim=True))
        scale = q.shape[-1] ** -0.5
        return (
            logits @ k * scale,
            logits.transpose(-2, -1) @ q * scale,
            weights.transpose(-2, -1) @ gradient,
            None,
            None,
        )
