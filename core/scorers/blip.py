"""BLIP's cosine between prompt and picture (Li et al. 2022, arXiv 2201.12086): both towers by themselves, each projected.

Gives the numbers of `BLIPScore.score` in THUDM/ImageReward, ImageReward/models/BLIPScore.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..networks.bert import BertSizes, TextEncoder
from ..networks.build import build
from ..networks.pixels import normalise
from ..networks.vit import VisionTransformer, ViTSizes
from ..networks.wordpiece import WordPiece
from ..weights.catalogue import BERT_VOCABULARY, WeightFile
from ..weights.download import companion
from ..weights.read import Checkpoint
from .base import Scorer, ScorerInfo
from .cache import FeatureCache, gradient_wanted
from .long_prompts import tell_cut
from .registry import register

PROMPT_TOKENS = 35  # with [CLS] and [SEP]

INFO = ScorerInfo(
    name="blip",
    title="BLIP",
    measures="How well the picture matches its prompt: the cosine of BLIP's contrastive embeddings, about 0.2 to 0.6.",
    reads_prompt=True,
    prompt_tokens=PROMPT_TOKENS,
    mean=0.40,
    std=0.08,
    licence="BSD-3-Clause",
    source="https://github.com/salesforce/BLIP",
    paper="https://arxiv.org/abs/2201.12086",
    weights=(
        WeightFile(
            repo="",
            file="model_large.pth",
            size=3_800_000_000,
            sha256="",
            licence="BSD-3-Clause",
            address="https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_large.pth",
        ),
        BERT_VOCABULARY,
    ),
    typical="estimated; published by nobody",
)


class BlipNetwork(nn.Module):
    """Both towers and their projections into the contrastive space; the text is read without the picture."""

    def __init__(self, vision: ViTSizes, text: BertSizes, embedding: int) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformer(vision)
        self.text_encoder = TextEncoder(text)
        self.vision_proj = nn.Linear(vision.width, embedding)
        self.text_proj = nn.Linear(text.width, embedding)

    def image_embedding(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, D) float32 of length 1."""
        tokens = self.visual_encoder(normalise(pixels).to(self.vision_proj.weight.dtype))
        return F.normalize(self.vision_proj(tokens[:, 0]).float(), dim=-1)

    def text_embedding(self, ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, L) ids and their mask -> (B, D) float32 of length 1."""
        return F.normalize(self.text_proj(self.text_encoder(ids, attention_mask)).float(), dim=-1)


@register
class BlipScorer(Scorer):
    """BLIP-large as pre-trained, `model_large.pth`."""

    variants = (INFO,)
    network: BlipNetwork

    def __init__(self, info: ScorerInfo, network: BlipNetwork, tokenizer: WordPiece) -> None:
        super().__init__(info, network, network.visual_encoder.sizes.image_size)
        self.tokenizer = tokenizer
        self.cache = FeatureCache()

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        if self._count(pixels, prompts) == 0:
            return torch.zeros(0, device=self.device)
        with self.lock:
            return (self.image_embedding(pixels) * self.text_embedding(prompts)).sum(-1)

    def image_embedding(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D); from the cache where no gradient is wanted."""
        prepared = self.prepare(pixels)
        if gradient_wanted(prepared, self.network):
            return self.network.image_embedding(prepared)
        return self.cache.features(prepared, self.network.image_embedding)

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> (B, D)."""
        ids, mask = self.tokenizer.batch([self._ids(prompt) for prompt in prompts])
        return self.network.text_embedding(ids.to(self.device), None if mask is None else mask.to(self.device))

    def _ids(self, prompt: str) -> list[int]:
        room = PROMPT_TOKENS - 2
        encoded = self.tokenizer.encode(prompt)
        if len(encoded.ids) > room:
            tell_cut(self.info.title, PROMPT_TOKENS, prompt[encoded.ends[room - 1] :].strip())
        return encoded.ids[:room]

    def feature_caches(self) -> Sequence[FeatureCache]:
        return (self.cache,)

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        names = (
            "visual_encoder.cls_token",
            "text_encoder.encoder.layer.0.crossattention.self.key.weight",
            "vision_proj.weight",
            "text_proj.weight",
        )
        has_reward_head = checkpoint.prefix_of("mlp.layers.0.weight") is not None
        return all(checkpoint.prefix_of(name) is not None for name in names) and not has_reward_head

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> BlipScorer:
        assert checkpoint is not None
        tensors = checkpoint.below(checkpoint.prefix_of("visual_encoder.cls_token") or "")
        vision, text = ViTSizes.of(tensors, "visual_encoder."), BertSizes.of(tensors, "text_encoder.")
        tokenizer = read_tokenizer(checkpoint, text.vocabulary)
        embedding = tensors["text_proj.weight"].shape[0]
        return cls(info, build(lambda: BlipNetwork(vision, text, embedding), tensors, dtype, device), tokenizer)


def read_tokenizer(checkpoint: Checkpoint, known: int) -> WordPiece:
    """BERT's vocabulary beside a checkpoint that knows so many tokens, in the folders, or from the Hub."""
    vocabulary = companion(BERT_VOCABULARY, checkpoint.path, also=("vocab.txt",))
    tokenizer = WordPiece(vocabulary)
    if tokenizer.size > known:
        raise UnknownCheckpoint(
            f"{vocabulary} has {tokenizer.size} tokens, {checkpoint.path} knows {known}; is the one the other's own?"
        )
    return tokenizer
