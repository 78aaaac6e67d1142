"""The reference's other scores, CLIPScore, BLIPScore and AestheticScore, each an `nn.Module` with its attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.build import build
from ..networks.devices import device_of
from ..weights.catalogue import CLIP_L14
from ..weights.download import companion
from ..weights.read import Checkpoint
from .blip import BlipSizes, blip_tensors
from .blip_reward import BlipReward
from .clip import ClipTokenizer, read_clip
from .folders import look_into
from .image_reward import MLP, read_tokens
from .preprocess import Preprocess
from .rewards import Prompt, RewardModule, texts_of
from .tokenizer import Tokens

Device = torch.device | str | int
_CLIP_NAMES = ("model.safetensors", "ViT-L-14.pt")  # what CLIP's file is called beside the aesthetic predictor's


class CLIPScore(RewardModule):
    """The cosine of CLIP ViT-L/14's embeddings. download_root: a folder to look into and download to."""

    def __init__(self, download_root: str | None = None, device: Device = "cpu", *, file: Path | None = None) -> None:
        super().__init__(device)
        look_into(download_root)
        self.clip_model, tokenizer = read_clip(file or companion(CLIP_L14, None), device_of(device), with_text=True)
        assert tokenizer is not None
        self.tokenize: ClipTokenizer = tokenizer
        self.preprocess = Preprocess(self.clip_model.visual.input_resolution)

    def read_prompts(self, prompt: Prompt) -> Tensor:
        ids = self.tokenize(texts_of(prompt)).to(torch.device(self.device))
        return F.normalize(self.clip_model.encode_text(ids))

    def rewards_of_pixels(self, pixels: Tensor, text: Tensor) -> Tensor:
        return F.normalize(self.clip_model.encode_image(pixels)) @ text.T


class BLIPScore(BlipReward):
    """The cosine of BLIP's contrastive embeddings. `BLIPScore(med_config, device=...)` is untrained."""

    def read_prompts(self, prompt: Prompt) -> Tensor:
        tokens: Tokens = read_tokens(self.blip.tokenizer, prompt, self.device)
        text = self.blip.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask, mode="text")
        return F.normalize(self.blip.text_proj(text.last_hidden_state[:, 0, :]))

    def rewards_of_pixels(self, pixels: Tensor, text: Tensor) -> Tensor:
        return F.normalize(self.blip.vision_proj(self.blip.visual_encoder(pixels)[:, 0, :])) @ text.T


class AestheticScore(RewardModule):
    """LAION's improved aesthetic predictor on CLIP ViT-L/14; it reads no prompt. Its head is untrained until it is loaded."""

    def __init__(self, download_root: str | None = None, device: Device = "cpu", *, beside: Path | None = None) -> None:
        super().__init__(device)
        place = device_of(device)
        look_into(download_root)
        self.clip_model, _ = read_clip(companion(CLIP_L14, beside, also=_CLIP_NAMES), place, with_text=False)
        self.preprocess = Preprocess(self.clip_model.visual.input_resolution)
        self.mlp = MLP(self.clip_model.visual.output_dim).to(place)

    def read_prompts(self, prompt: Prompt) -> None:
        return None

    def rewards_of_pixels(self, pixels: Tensor, text: None) -> Tensor:
        features = F.normalize(self.clip_model.encode_image(pixels))
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


def clip_score_of(path: Path, device: Device) -> CLIPScore:
    """The score of a CLIP checkpoint, in eval mode."""
    return _loaded(CLIPScore(device=device, file=path))


def blip_score_of(checkpoint: Checkpoint, device: Device) -> BLIPScore:
    """The score of a BLIP checkpoint, in eval mode."""
    tensors = checkpoint.below(checkpoint.prefix_of("visual_encoder.cls_token") or "")
    sizes = BlipSizes.of(tensors)
    named = {f"blip.{name}": tensor for name, tensor in blip_tensors(tensors, sizes).items()}

    def make() -> BLIPScore:
        return BLIPScore(device=device, sizes=sizes, beside=checkpoint.path)

    return _loaded(build(make, named, torch.float32, device_of(device)))


def aesthetic_score_of(checkpoint: Checkpoint, device: Device) -> AestheticScore:
    """The score of a predictor's head and the CLIP beside it, in eval mode."""
    model = AestheticScore(device=device, beside=checkpoint.path)
    prefix = (checkpoint.prefix_of("layers.0.weight") or "") + "layers."
    model.mlp.load_state_dict({f"layers.{name}": tensor.read() for name, tensor in checkpoint.below(prefix).items()})
    return _loaded(model)


def _loaded(model: Any) -> Any:
    """In eval mode; every parameter requires a gradient but CLIP's scale, as in the reference."""
    model.eval().requires_grad_(True)
    if hasattr(model, "clip_model"):
        model.clip_model.logit_scale.requires_grad_(False)
    return model
