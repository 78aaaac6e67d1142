"""BLIP's cosine between prompt and picture (Li et al. 2022, arXiv 2201.12086): both towers by themselves, each projected.

Gives the numbers of `BLIPScore.score` in THUDM/ImageReward, ImageReward/models/BLIPScore.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..networks.bert import BertSizes, TextEncoder
from ..networks.build import build
from ..networks.pixels import normalise
from ..networks.vit import VisionTransformer, ViTSizes
from ..networks.wordpiece import WordPiece
from ..weights.catalogue import BERT_VOCABULARY, WeightFile
from ..weights.read import Checkpoint
from .base import ScorerInfo
from .prompts import CosineScorer, read_wordpiece
from .registry import register
from .towers import Tower

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
        """(B, 3, S, S) in [0, 1] -> (B, D), not normalised."""
        tokens: Tensor = self.visual_encoder(normalise(pixels).to(self.vision_proj.weight.dtype))
        return self.vision_proj(tokens[:, 0])

    def text_embedding(self, ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, L) ids and their mask -> (B, D), not normalised."""
        return self.text_proj(self.text_encoder(ids, attention_mask))


@register
class BlipScorer(CosineScorer):
    """BLIP-large as pre-trained, `model_large.pth`."""

    variants = (INFO,)
    network: BlipNetwork
    tokenizer: WordPiece

    def __init__(self, info: ScorerInfo, network: BlipNetwork, tokenizer: WordPiece) -> None:
        tower, size = Tower(network, network.image_embedding), network.visual_encoder.sizes.image_size
        super().__init__(info, network, tower, tokenizer, tokens=PROMPT_TOKENS, input_size=size)

    def embed(self, prompts: Sequence[list[int]]) -> Tensor:
        ids, mask = self.tokenizer.batch(prompts)
        return self.network.text_embedding(ids.to(self.device), None if mask is None else mask.to(self.device))

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
        tokenizer = read_wordpiece(checkpoint, text.vocabulary)
        embedding = tensors["text_proj.weight"].shape[0]
        return cls(info, build(lambda: BlipNetwork(vision, text, embedding), tensors, dtype, device), tokenizer)
