"""BERT's WordPiece tokenizer as BLIP sets it up: uncased, with [DEC] and [ENC] added after the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint

_ROLES = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
_ADDED = ("[DEC]", "[ENC]")  # BLIP's `init_tokenizer`; their ids follow the vocabulary's


class Encoded(NamedTuple):
    """One prompt: its ids between [CLS] and [SEP], and where in the text each token ends."""

    ids: list[int]
    ends: list[int]


class WordPiece:
    """Prompt -> token ids, equal to transformers' slow BertTokenizer.from_pretrained("bert-base-uncased")."""

    def __init__(self, vocabulary: Path) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        try:
            tokens = vocabulary.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UnknownCheckpoint(
                f"expected a WordPiece vocabulary (UTF-8 text, a token a line) at {vocabulary}"
            ) from error
        if tokens[-1] == "":
            tokens.pop()
        ids = {token.rstrip("\r"): i for i, token in enumerate(tokens)}
        missing = [role for role in _ROLES if role not in ids]
        if missing:
            raise UnknownCheckpoint(f"expected a WordPiece vocabulary at {vocabulary}; it lacks {', '.join(missing)}")
        self._tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokenizer.add_special_tokens([*_ROLES, *_ADDED])
        self.size = len(tokens) + len(_ADDED)
        self.pad, self.first, self.last = ids["[PAD]"], ids["[CLS]"], ids["[SEP]"]

    def encode(self, prompt: str) -> Encoded:
        """A prompt of any length, not cut, without [CLS] and [SEP]."""
        encoding = self._tokenizer.encode(prompt, add_special_tokens=False)
        return Encoded(encoding.ids, [end for _, end in encoding.offsets])

    def batch(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        """Ids of prompts -> (B, L) int64 with [CLS] and [SEP], padded to the longest; and the mask, None if none is padded."""
        length = max(map(len, prompts)) + 2
        rows = [[self.first, *ids, self.last] for ids in prompts]
        padded = torch.tensor([row + [self.pad] * (length - len(row)) for row in rows])
        if all(len(row) == length for row in rows):
            return padded, None
        lengths = torch.tensor([len(row) for row in rows])
        return padded, torch.arange(length)[None, :] < lengths[:, None]
