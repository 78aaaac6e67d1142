"""Stand-in of `comfy.sd1_clip`: words by their checksums, encoded by an embedding and a causal mean."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from comfy.ops import manual_cast as ops
from torch import Tensor, nn

_START, _END = 49406, 49407
_Tokens = list[list[tuple[int, float]]]  # rows of (id, weight)


class SDTokenizer:
    def __init__(self, embedding_directory: Any = None, embedding_size: int = 768, tokenizer_data: Any = None) -> None:
        self.embedding_size = embedding_size

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> _Tokens:
        words = [zlib.crc32(word.encode()) % _START for word in text.lower().split()]
        rows = [words[i : i + 75] for i in range(0, max(len(words), 1), 75)]
        return [[(one, 1.0) for one in (_START, *row, *[_END] * (76 - len(row)))] for row in rows]


class SD1Tokenizer:
    def __init__(
        self,
        embedding_directory: Any = None,
        tokenizer_data: Any = None,
        clip_name: str = "l",
        tokenizer: Any = SDTokenizer,
    ) -> None:
        self.clip_name = clip_name
        self.tokenizer = tokenizer(embedding_directory=embedding_directory, tokenizer_data=tokenizer_data)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> dict[str, _Tokens]:
        return {self.clip_name: self.tokenizer.tokenize_with_weights(text, return_word_ids, **kwargs)}


class SDClipModel(nn.Module):
    def __init__(
        self, device: Any = "cpu", textmodel_json_config: Any = None, dtype: Any = None, model_options: Any = None
    ) -> None:
        super().__init__()
        width = textmodel_json_config["hidden_size"]
        self.token_embedding = ops.Embedding(textmodel_json_config["vocab_size"], width)
        self.mlp, self.final_layer_norm = ops.Linear(width, width), ops.LayerNorm(width)

    def encode_token_weights(self, token_weight_pairs: _Tokens) -> tuple[Tensor, Tensor]:
        """Embeddings (1, 77 a row, width) and (1, width)."""
        ids = torch.tensor([[one for one, _ in row] for row in token_weight_pairs])
        embedded = self.token_embedding(ids)
        means = embedded.cumsum(1) / torch.arange(1, 1 + ids.shape[1])[:, None]
        hidden = self.final_layer_norm(embedded + self.mlp(means))
        return hidden.flatten(0, 1)[None], hidden[:1, -1]


class SD1ClipModel(nn.Module):
    def __init__(
        self,
        device: Any = "cpu",
        dtype: Any = None,
        model_options: Any = None,
        clip_name: str = "l",
        clip_model: Any = SDClipModel,
    ) -> None:
        super().__init__()
        self.clip_name = clip_name
        self.clip_l = clip_model(device=device, dtype=dtype, model_options=model_options or {})

    def encode_token_weights(self, token_weight_pairs: dict[str, _Tokens]) -> tuple[Tensor, Tensor]:
        encoded: tuple[Tensor, Tensor] = self.clip_l.encode_token_weights(token_weight_pairs[self.clip_name])
        return encoded
