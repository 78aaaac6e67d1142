"""What scorers that read the prompt share: its tokens, where it is cut, and the cosine of prompt and picture."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..networks.wordpiece import Encoded, WordPiece
from ..weights.catalogue import BERT_VOCABULARY
from ..weights.download import companion
from ..weights.read import Checkpoint
from .base import ScorerInfo
from .towers import Tower, TowerScorer

log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    def clean(self, prompt: str) -> str:
        """The text that is really read."""

    def encode(self, prompt: str) -> Encoded:
        """The ids of a cleaned prompt of any length, without those that mark its start and end."""


class PromptScorer(TowerScorer):
    """A scorer that reads the beginning of the prompt, as many tokens as fit. tokens: with those of start and end."""

    def __init__(
        self,
        info: ScorerInfo,
        network: nn.Module,
        tower: Tower[nn.Module],
        tokenizer: Tokenizer,
        *,
        tokens: int,
        input_size: int | None,
    ) -> None:
        super().__init__(info, network, tower, input_size)
        self.tokenizer = tokenizer
        self.tokens = tokens

    def ids(self, prompt: str) -> list[int]:
        """The ids between start and end, cut to what is read. The log tells once what is not."""
        text, room = self.tokenizer.clean(prompt), self.tokens - 2
        encoded = self.tokenizer.encode(text)
        if len(encoded.ids) > room:
            _log_cut(self.info.title, self.tokens, text[encoded.ends[room - 1] :].strip())
        return encoded.ids[:room]


class CosineScorer(PromptScorer):
    """The cosine of the picture's embedding and the prompt's, times `scale`."""

    scale = 1.0

    def score_features(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        image = F.normalize(features.float(), dim=-1)
        return self.scale * (image * self.text_features(prompts)).sum(-1)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> (B, D) float32 of length 1; each different prompt is computed once."""
        different = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        features = F.normalize(self.embed([self.ids(prompt) for prompt in different]).float(), dim=-1)
        if len(different) == len(prompts):
            return features
        return features[torch.tensor([different[prompt] for prompt in prompts], device=features.device)]

    @abstractmethod
    def embed(self, prompts: Sequence[list[int]]) -> Tensor:
        """The ids of B prompts -> (B, D) embeddings of any length."""


def read_wordpiece(checkpoint: Checkpoint, known: int) -> WordPiece:
    """BERT's vocabulary beside a checkpoint that knows so many tokens, in the folders, or from the Hub."""
    vocabulary = companion(BERT_VOCABULARY, checkpoint.path, also=("vocab.txt",))
    tokenizer = WordPiece(vocabulary)
    if tokenizer.size > known:
        raise UnknownCheckpoint(
            f"expected a vocabulary of at most {known} tokens for {checkpoint.path}, got {tokenizer.size} in {vocabulary}. "
            f"Fix: put the vocab.txt that belongs to the checkpoint beside it"
        )
    return tokenizer


@lru_cache(maxsize=1024)
def _log_cut(title: str, tokens: int, unread: str) -> None:
    """Once a prompt: the part that was not read."""
    log.warning("%s reads %d tokens; not read of this prompt: %r", title, tokens, unread)
