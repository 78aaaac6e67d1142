"""ImageReward as the reference's class of that name: an `nn.Module` with its attributes, keys and methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.build import build
from ..preference.reward_model import RewardHead
from ..scorers.imagereward import PROMPT_TOKENS, REWARD_MEAN, REWARD_STD
from ..weights.read import Checkpoint
from .blip import BlipSizes, blip_tensors
from .blip_reward import BlipReward
from .rewards import Prompt, texts_of
from .tokenizer import Tokenizer, Tokens


class MLP(RewardHead):
    """Five linear layers, dropout between the first: (..., input_size) -> (..., 1). Starts as the reference's does."""

    def __init__(self, input_size: int) -> None:
        super().__init__(input_size)
        self.input_size = input_size
        self.reset()


class ImageReward(BlipReward):
    """Prompt and image -> reward. `ImageReward(device=..., med_config=...)` is untrained: `load_state_dict` the weights.

    med_config: a JSON file with the text tower's sizes; None takes BLIP's own.
    """

    def __init__(
        self,
        med_config: Any = None,
        device: torch.device | str | int = "cpu",
        *,
        sizes: BlipSizes | None = None,
        beside: Path | None = None,
    ) -> None:
        super().__init__(med_config, device, sizes=sizes, beside=beside)
        self.mlp = MLP(self.blip.text_encoder.sizes.width)
        self.mean = REWARD_MEAN
        self.std = REWARD_STD

    def score_gard(self, prompt_ids: Tensor, prompt_attention_mask: Tensor, image: Tensor) -> Tensor:
        """Ids (B, L), their mask, normalised pixels (B, 3, S, S) -> (B, 1) rewards, differentiable.

        One text goes with any number of images, and one image with any number of texts.
        """
        return self._rewards(prompt_ids, prompt_attention_mask, self.blip.visual_encoder(image))

    def forward(self, prompt_ids: Tensor, prompt_attention_mask: Tensor, image: Tensor) -> Tensor:
        """`score_gard`, so that the model can be wrapped (DDP, `torch.compile`, accelerate)."""
        return self.score_gard(prompt_ids, prompt_attention_mask, image)

    def _rewards(self, ids: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """(B, L) ids and mask, (B, tokens, width) image features -> (B, 1)."""
        seen = torch.ones(features.shape[:-1], dtype=torch.long, device=features.device)
        text = self.blip.text_encoder(
            ids,
            attention_mask=mask,
            encoder_hidden_states=features,
            encoder_attention_mask=seen,
            return_dict=True,
        )
        rewards = self.mlp(text.last_hidden_state[:, 0, :])
        return (rewards - self.mean) / self.std

    def read_prompts(self, prompt: Prompt) -> Tokens:
        return read_tokens(self.blip.tokenizer, prompt, self.device)

    def rewards_of_pixels(self, pixels: Tensor, text: Tokens) -> Tensor:
        features = self.blip.visual_encoder(pixels)
        pairs = zip(text.input_ids.split(1), text.attention_mask.split(1), strict=True)
        return torch.cat([self._rewards(ids, mask, features) for ids, mask in pairs], dim=1)


def read_tokens(tokenizer: Tokenizer, prompt: Prompt, device: torch.device | str | int) -> Tokens:
    """Prompts -> ids and masks (P, 35), cut and padded as the reference's `score` does."""
    options = {"padding": "max_length", "truncation": True, "max_length": PROMPT_TOKENS, "return_tensors": "pt"}
    return tokenizer(texts_of(prompt), **options).to(device)  # type: ignore[arg-type] # options of several types


def image_reward_of(checkpoint: Checkpoint, given: torch.device | str | int, place: torch.device) -> ImageReward:
    """The model of a checkpoint on `place`, the device that was given, in float32 and eval mode. Raises UnknownCheckpoint."""
    prefix = checkpoint.prefix_of("visual_encoder.cls_token") or ""
    tensors = checkpoint.below(prefix)
    sizes = BlipSizes.of(tensors)
    head = checkpoint.below((checkpoint.prefix_of("mlp.layers.0.weight") or "") + "mlp.layers.")
    named = {f"blip.{name}": tensor for name, tensor in blip_tensors(tensors, sizes).items()}
    named |= {f"mlp.layers.{name}": tensor for name, tensor in head.items()}
    model = build(lambda: ImageReward(device=given, sizes=sizes, beside=checkpoint.path), named, torch.float32, place)
    model.mean = float(checkpoint.metadata.get("reward_mean", REWARD_MEAN))
    model.std = float(checkpoint.metadata.get("reward_std", REWARD_STD))
    # As the reference's, but for what no score reads: DDP would wait for gradients that never come.
    model.requires_grad_(True)
    model.blip.vision_proj.requires_grad_(False)
    model.blip.text_proj.requires_grad_(False)
    return model
