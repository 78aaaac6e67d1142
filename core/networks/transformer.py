"""The pre-norm transformer block that BLIP's and CLIP's vision towers and CLIP's text tower share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attention

Activation = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head self-attention with fused query, key and value: (B, N, C) -> (B, N, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # -> 3, B, heads, N, d
        mixed = attention(q, k, v, causal=causal)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, C))


class FeedForward(nn.Module):
    """Two linear layers around an activation: (..., C) -> (..., C)."""

    def __init__(self, width: int, hidden: int, activation: Activation = F.gelu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (B, N, C) -> (B, N, C). Training may put dropout into `drop_path`."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float, activation: Activation = F.gelu) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, activation)
        self.drop_path: nn.Module = nn.Identity()

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), causal))
        return x + self.drop_path(self.mlp(self.norm2(x)))
