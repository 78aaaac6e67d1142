"""BERT with cross-attention as the reference's clients hold it: its modules, each called, so that hooks, adapters and
wrappers around any of them take part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.bert import EPS, BertSizes

DROPOUT = 0.1
MASKED = -10000.0  # added to the scores of tokens that do not count


class TextOutput(NamedTuple):
    """What a text tower returns: a tuple whose first item is the hidden states (B, L, width)."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


class Embeddings(nn.Module):
    """(B, L) ids -> (B, L, width)."""

    position_ids: Tensor

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPS)
        self.dropout = nn.Dropout(DROPOUT)
        self.register_buffer("position_ids", torch.arange(sizes.positions)[None])  # a key of the reference's

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings(self.position_ids[:, : ids.shape[1]])
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + positions))


class Reading(nn.Module):
    """(B, L, C) reads (B, N, W) -> (B, L, C). In plain steps: they have derivatives of every order, and broadcast."""

    def __init__(self, width: int, source_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width, width)
        self.value = nn.Linear(source_width, width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, source: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = self.dropout((scores if bias is None else scores + bias).softmax(-1))
        return (weights @ v).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, heads, L, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Residual(nn.Module):
    """Linear, dropout, residual, norm: the second half of every sub-layer."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(branch)) + x)


class TextAttention(nn.Module):
    """(B, L, C) and what it reads of (B, N, W), added -> (B, L, C)."""

    def __init__(self, width: int, source_width: int, heads: int) -> None:
        super().__init__()
        self.self = Reading(width, source_width, heads)
        self.output = Residual(width, width)

    def forward(self, x: Tensor, source: Tensor, bias: Tensor | None) -> Tensor:
        return self.output(self.self(x, source, bias), x)


class Intermediate(nn.Module):
    """(B, L, C) -> (B, L, hidden)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class TextLayer(nn.Module):
    """Reads the text, then the image tokens (B, N, W) if there are any: (B, L, C) -> (B, L, C)."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.attention = TextAttention(sizes.width, sizes.width, sizes.heads)
        self.crossattention = TextAttention(sizes.width, sizes.image_width, sizes.heads)
        self.intermediate = Intermediate(sizes.width, sizes.hidden)
        self.output = Residual(sizes.hidden, sizes.width)

    def forward(self, x: Tensor, text_bias: Tensor | None, image: Tensor | None, image_bias: Tensor | None) -> Tensor:
        x = self.attention(x, x, text_bias)
        if image is not None:
            x = self.crossattention(x, image, image_bias)
        return self.output(self.intermediate(x), x)


class Layers(nn.Module):
    """The layers, one after the other."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TextLayer(sizes) for _ in range(sizes.depth))

    def forward(self, x: Tensor, text_bias: Tensor | None, image: Tensor | None, image_bias: Tensor | None) -> Tensor:
        for layer in self.layer:
            x = layer(x, text_bias, image, image_bias)
        return x


class TextTower(nn.Module):
    """BERT with cross-attention to image tokens, called as the reference's `BertModel`."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embeddings = Embeddings(sizes)
        self.encoder = Layers(sizes)
        self.config = SimpleNamespace(
            vocab_size=sizes.vocabulary,
            max_position_embeddings=sizes.positions,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.hidden,
            encoder_width=sizes.image_width,
            pad_token_id=0,
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        mode: str = "multimodal",
    ) -> TextOutput:
        """(B, L) ids and their mask; image tokens (B, N, W) and theirs -> hidden states (B, L, width), item 0.

        A batch of one goes with any other, of texts and of images. mode="text" reads no image. return_dict changes nothing:
        the result is a tuple and has the names.
        """
        image = None if mode == "text" else encoder_hidden_states
        if image is None and mode != "text":
            raise ValueError(
                "expected encoder_hidden_states, the image's tokens (B, N, W), or mode='text' to read none"
            )
        x = self.embeddings(input_ids)
        return TextOutput(self.encoder(x, _bias(attention_mask, x), image, _bias(encoder_attention_mask, x)))


def _bias(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """(B, N) or (B, L, N), zero where a token does not count -> what is added to attention scores (B, heads, L, N)."""
    if mask is None:
        return None
    rows = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    return (1.0 - rows.to(x.dtype)) * MASKED
