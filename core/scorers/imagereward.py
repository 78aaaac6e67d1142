"""ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP's image tower and image-grounded text encoder, and a linear head.

Gives the numbers of `ImageReward.score_gard` and `ImageReward.score` in THUDM/ImageReward, ImageReward/ImageReward.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..networks.bert import BertSizes, TextEncoder
from ..networks.build import build
from ..networks.head import Layer, chain_of, collapse_head
from ..networks.pixels import normalise
from ..networks.vit import VisionTransformer, ViTSizes
from ..networks.wordpiece import WordPiece
from ..weights.catalogue import BERT_VOCABULARY, WeightFile
from ..weights.read import Checkpoint
from .base import ScorerInfo
from .prompts import PromptScorer, read_wordpiece
from .registry import register
from .towers import Tower

# Mean and standard deviation of the raw reward over the reference's training set; safetensors metadata may bring others.
REWARD_MEAN = 0.16717362830052426
REWARD_STD = 1.0333394966054072

PROMPT_TOKENS = 35  # with [CLS] and [SEP]

INFO = ScorerInfo(
    name="imagereward",
    title="ImageReward",
    measures="How much people would prefer the picture for its prompt: alignment, fidelity and harmlessness together.",
    reads_prompt=True,
    prompt_tokens=PROMPT_TOKENS,
    mean=0.0,
    std=1.0,
    licence="Apache-2.0",
    source="https://github.com/THUDM/ImageReward",
    paper="https://arxiv.org/abs/2304.05977",
    weights=(
        WeightFile(
            repo="THUDM/ImageReward",
            file="ImageReward.pt",
            size=1_790_000_000,
            sha256="",
            licence="Apache-2.0",
        ),
        BERT_VOCABULARY,
    ),
    typical="the checkpoint standardises its reward over the reference's training set",
    estimated=False,
)


class ImageRewardNetwork(nn.Module):
    """Both towers and the head. The reference's five linear layers have no activation between: they are one vector."""

    def __init__(self, vision: ViTSizes, text: BertSizes) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformer(vision)
        self.text_encoder = TextEncoder(text)
        self.head = nn.Linear(text.width, 1)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, tokens, width)."""
        return self.encode_image(normalise(pixels))

    def encode_image(self, normalised: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, tokens, width)."""
        return self.visual_encoder(normalised.to(self.visual_encoder.cls_token.dtype))

    def forward(self, ids: Tensor, attention_mask: Tensor | None, image_features: Tensor) -> Tensor:
        """(B, L) ids, their mask, (B, tokens, width) -> (B,) standardised reward, float32."""
        text = self.text_encoder(ids, attention_mask, image_features)
        return (text.float() @ self.head.weight.float().T + self.head.bias.float())[:, 0]


@register
class ImageRewardScorer(PromptScorer):
    """ImageReward-v1.0 and checkpoints of its kind."""

    variants = (INFO,)
    settings = ("long_prompts",)
    network: ImageRewardNetwork
    tokenizer: WordPiece

    def __init__(self, info: ScorerInfo, network: ImageRewardNetwork, tokenizer: WordPiece) -> None:
        tower = Tower(network.visual_encoder, network.image_features)
        size = network.visual_encoder.sizes.image_size
        super().__init__(info, network, tower, tokenizer, tokens=PROMPT_TOKENS, input_size=size)
        self.long_prompts = "cut"  # or "mean" / "min" over windows of the prompt

    def score_features(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, tokens, width) image features and B prompts -> (B,) float32."""
        windows = [self._windows(prompt) for prompt in prompts]
        ids, mask = self.tokenizer.batch([window for row in windows for window in row])
        counts = torch.tensor([len(row) for row in windows], device="cpu")
        if len(ids) != len(prompts):
            features = features.repeat_interleave(counts.to(features.device), dim=0)
        device = features.device
        rewards = self.network(ids.to(device), None if mask is None else mask.to(device), features)
        if len(ids) == len(prompts):
            return rewards
        merge = torch.mean if self.long_prompts == "mean" else torch.amin
        return torch.stack([merge(row) for row in rewards.split(counts.tolist())])

    def _windows(self, prompt: str) -> list[list[int]]:
        """The ids of what is read at once: the beginning of the prompt, or all of it in pieces."""
        if self.long_prompts == "cut":
            return [self.ids(prompt)]
        ids, room = self.tokenizer.encode(prompt).ids, self.tokens - 2
        return [ids[i : i + room] for i in range(0, max(1, len(ids)), room)]

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        names = ("visual_encoder.cls_token", "text_encoder.encoder.layer.0.crossattention.self.key.weight")
        return all(checkpoint.prefix_of(name) is not None for name in names) and bool(_head_layers(checkpoint))

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> ImageRewardScorer:
        assert checkpoint is not None
        network = build_network(checkpoint, device=device, dtype=dtype)
        return cls(info, network, read_wordpiece(checkpoint, network.text_encoder.sizes.vocabulary))


def build_network(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> ImageRewardNetwork:
    """The towers as they are and the head collapsed in float64."""
    prefix = checkpoint.prefix_of("visual_encoder.cls_token") or ""
    tensors = checkpoint.below(prefix)
    vision = ViTSizes.of(tensors, "visual_encoder.")
    text = BertSizes.of(tensors, "text_encoder.")
    weight, bias = collapse_head(_head_layers(checkpoint))
    mean = float(checkpoint.metadata.get("reward_mean", REWARD_MEAN))
    std = float(checkpoint.metadata.get("reward_std", REWARD_STD))
    head = {"weight": (weight / std).float(), "bias": ((bias - mean) / std).float()}
    named = {f"head.{name}": tensor for name, tensor in head.items()}
    network = build(lambda: ImageRewardNetwork(vision, text), {**tensors, **named}, dtype, device)
    # The last product is a vector's; its rounding to half precision would be the largest error of all.
    for name, tensor in head.items():
        exact = tensor.to(device=device, dtype=torch.float32)
        setattr(network.head, name, nn.Parameter(exact, requires_grad=False))
    return network


def _head_layers(checkpoint: Checkpoint) -> list[Layer]:
    """(weight, bias) of `mlp.layers.N` in order."""
    prefix = checkpoint.prefix_of("mlp.layers.0.weight")
    return [] if prefix is None else list(chain_of(checkpoint.below(prefix + "mlp.layers.")).values())
