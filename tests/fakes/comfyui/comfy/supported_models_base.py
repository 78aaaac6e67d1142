"""Stand-in of `comfy.supported_models_base`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from comfy import latent_formats, model_base


class ClipTarget:
    def __init__(self, tokenizer: Any, clip: Any) -> None:
        self.tokenizer, self.clip, self.params = tokenizer, clip, dict[str, Any]()


class BASE:
    unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": -1, "num_head_channels": 64}
    sampling_settings: ClassVar[dict[str, Any]] = {}
    latent_format: Any = latent_formats.LatentFormat
    manual_cast_dtype: torch.dtype | None = None

    def __init__(self, unet_config: dict[str, Any]) -> None:
        self.unet_config = {**unet_config, **self.unet_extra_config}
        self.latent_format = self.latent_format()

    def model_type(self, state_dict: dict[str, Any], prefix: str = "") -> model_base.ModelType:
        return model_base.ModelType.EPS

    def get_model(self, state_dict: dict[str, Any], prefix: str = "", device: Any = None) -> model_base.BaseModel:
        return model_base.BaseModel(self, model_type=self.model_type(state_dict, prefix), device=device)
