"""BERT with cross-attention to image tokens: BLIP's text encoder (Li et al. 2022, arXiv 2201.12086; med.py there).

Names follow the checkpoint's (`embeddings.word_embeddings`, `encoder.layer.0.attention.self.query` ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights.stored import StoredTensor
from .attention import attention
from .sizes import count_layers, heads_of

EPS = 1e-12


@dataclass(frozen=True)
class BertSizes:
    """Everything that a text encoder's tensors tell about it."""

    vocabulary: int
    positions: int
    width: int
    depth: int
    heads: int
    hidden: int
    image_width: int

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor], prefix: str = "") -> BertSizes:
        vocabulary, width = tensors[prefix + "embeddings.word_embeddings.weight"].shape
        first = prefix + "encoder.layer.0."
        return cls(
            vocabulary=vocabulary,
            positions=tensors[prefix + "embeddings.position_embeddings.weight"].shape[0],
            width=width,
            depth=count_layers(tensors, prefix + "encoder.layer."),
            heads=heads_of(width),
            hidden=tensors[first + "intermediate.dense.weight"].shape[0],
            image_width=tensors[first + "crossattention.self.key.weight"].shape[1],
        )


class _Output(nn.Module):
    """Linear, residual, norm: the second half of every BERT sub-layer."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class _Projections(nn.Module):
    def __init__(self, width: int, width_kv: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width_kv, width)
        self.value = nn.Linear(width_kv, width)


class SelfAttention(nn.Module):
    """(B, L, C) -> (B, rows, C): every token is read, the first `rows` are written."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = _Projections(width, width)
        self.output = _Output(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, rows: int) -> Tensor:
        written = x[:, :rows]
        q, k, v = self.self.query(written), self.self.key(x), self.self.value(x)
        q, k, v = (t.view(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q, k, v))  # B, heads, L, d
        mixed = attention(q, k, v, mask)
        return self.output(mixed.transpose(1, 2).reshape(written.shape), written)


class CrossAttention(nn.Module):
    """(B, L, C) text reads (B, N, W) image tokens -> (B, L, C).

    The key and value projections are absorbed into the (few) text rows instead of being applied to the (many) image
    tokens: q (W_k x + b_k) = (q W_k) x + const, and the softmax does not see the constant; likewise
    p (W_v x + b_v) = (p x) W_v + b_v, since each row p sums to 1. Below about 50 tokens that costs less.
    """

    def __init__(self, width: int, image_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = _Projections(width, image_width)
        self.output = _Output(width, width)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        B, L, C = x.shape
        heads, d = self.heads, C // self.heads
        q = self.self.query(x).view(B * L, heads, d).transpose(0, 1)  # heads, B L, d
        q = q * d**-0.5
        read = torch.bmm(q, self.self.key.weight.view(heads, d, -1))  # heads, B L, W
        read = read.view(heads, B, L, -1).transpose(0, 1).reshape(B, heads * L, -1)
        attention = torch.bmm(read, image.transpose(1, 2)).softmax(-1)  # B, heads L, N
        mixed = torch.bmm(attention, image).view(B, heads, L, -1).transpose(0, 1).reshape(heads, B * L, -1)
        value = torch.bmm(mixed, self.self.value.weight.view(heads, d, -1).transpose(1, 2))  # heads, B L, d
        value = value.transpose(0, 1).reshape(B, L, C) + self.self.value.bias
        return self.output(value, x)


class _Intermediate(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.attention = SelfAttention(sizes.width, sizes.heads)
        self.crossattention = CrossAttention(sizes.width, sizes.image_width, sizes.heads)
        self.intermediate = _Intermediate(sizes.width, sizes.hidden)
        self.output = _Output(sizes.hidden, sizes.width)

    def forward(self, x: Tensor, mask: Tensor | None, image: Tensor | None, rows: int) -> Tensor:
        x = self.attention(x, mask, rows)
        if image is not None:
            x = self.crossattention(x, image)
        return self.output(self.intermediate(x), x)


class _Embeddings(nn.Module):
    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings.weight[: ids.shape[1]])


class _Encoder(nn.Module):
    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes) for _ in range(sizes.depth))


class TextEncoder(nn.Module):
    """Token ids (B, L) and, unless text-only, image tokens (B, N, W) -> the [CLS] state (B, width)."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embeddings = _Embeddings(sizes)
        self.encoder = _Encoder(sizes)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """attention_mask: (B, L), non-zero where a token counts; None when all do."""
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        x = self.embeddings(ids)
        last = len(self.encoder.layer) - 1
        for i, layer in enumerate(self.encoder.layer):
            # Nobody reads more than [CLS] of the last layer.
            x = layer(x, mask, image, rows=1 if i == last else x.shape[1])
        return x[:, 0]
