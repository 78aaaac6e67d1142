"""Stand-in of `comfy.sd`: CLIP and VAE as nodes get them, and a LoRA merged into a MODEL."""

from __future__ import annotations

import logging
from typing import Any

import comfy.lora
import comfy.model_management as model_management
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.model_patcher import ModelPatcher
from torch import Tensor


class CLIP:
    def __init__(self, target: Any = None, parameters: int = 0) -> None:
        self.cond_stage_model = target.clip(**target.params)
        self.tokenizer = target.tokenizer()
        self.patcher = ModelPatcher(
            self.cond_stage_model, model_management.text_encoder_device(), model_management.unet_offload_device()
        )

    def tokenize(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
        return self.tokenizer.tokenize_with_weights(text, return_word_ids, **kwargs)

    def encode_from_tokens_scheduled(self, tokens: Any) -> list[Any]:
        """CONDITIONING: [[embeddings (1, tokens, width), {"pooled_output": (1, width)}]]."""
        model_management.load_models_gpu([self.patcher])
        embeddings, pooled = self.cond_stage_model.encode_token_weights(tokens)
        return [[embeddings, {"pooled_output": pooled}]]


class VAE:
    def __init__(
        self,
        sd: dict[str, Tensor],
        device: torch.device | None = None,
        config: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.first_stage_model = AutoencoderKL(**config["params"])
        self.first_stage_model.load_state_dict(sd)
        self.first_stage_model.eval()
        self.device, self.vae_dtype = device or model_management.vae_device(), dtype or torch.float32
        self.downscale_ratio = 8
        self.process_output = _as_image
        self.patcher = ModelPatcher(self.first_stage_model, self.device, model_management.unet_offload_device())

    def decode(self, samples_in: Tensor) -> Tensor:
        """Latents -> IMAGE (B, H, W, 3)."""
        model_management.load_models_gpu([self.patcher])
        decoded = self.first_stage_model.decode(samples_in.to(self.device, self.vae_dtype))
        return self.process_output(decoded.float()).movedim(1, -1)


def _as_image(decoded: Tensor) -> Tensor:
    return decoded.add_(1.0).div_(2.0).clamp_(0.0, 1.0)


def load_lora_for_models(
    model: ModelPatcher, clip: CLIP | None, lora: dict[str, Tensor], strength_model: float, strength_clip: float
) -> tuple[ModelPatcher, CLIP | None]:
    patches = comfy.lora.load_lora(lora, comfy.lora.model_lora_keys_unet(model.model, {}))
    patcher = model.clone()
    loaded = patcher.add_patches(patches, strength_model)
    for name in patches.keys() - set(loaded):
        logging.warning("NOT LOADED %s", name)
    return patcher, clip
