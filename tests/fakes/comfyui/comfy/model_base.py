"""Stand-in of `comfy.model_base`: the kinds of models that ReFL trains, on networks of the tests' sizes."""

from __future__ import annotations

from enum import Enum
from typing import Any

import comfy.conds
import torch
from comfy import model_sampling as sampling
from comfy.ldm.flux import model as flux
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep, UNetModel
from torch import Tensor


class ModelType(Enum):
    EPS = 1
    V_PREDICTION = 2
    FLOW = 6
    FLUX = 8


def model_sampling(model_config: Any, model_type: ModelType) -> Any:
    output, levels = {
        ModelType.EPS: (sampling.EPS, sampling.ModelSamplingDiscrete),
        ModelType.V_PREDICTION: (sampling.V_PREDICTION, sampling.ModelSamplingDiscrete),
        ModelType.FLOW: (sampling.CONST, sampling.ModelSamplingDiscreteFlow),
        ModelType.FLUX: (sampling.CONST, sampling.ModelSamplingFlux),
    }[model_type]
    return type("ModelSampling", (levels, output), {})(model_config)


class BaseModel(torch.nn.Module):
    def __init__(
        self,
        model_config: Any,
        model_type: ModelType = ModelType.EPS,
        device: torch.device | None = None,
        unet_model: Any = UNetModel,
    ) -> None:
        super().__init__()
        self.latent_format, self.model_config = model_config.latent_format, model_config
        self.manual_cast_dtype = model_config.manual_cast_dtype
        self.model_type = model_type
        self.diffusion_model = unet_model(**model_config.unet_config)
        self.diffusion_model.requires_grad_(False).eval()
        self.model_sampling = model_sampling(model_config, model_type)

    def get_dtype(self) -> torch.dtype:
        own: torch.dtype = self.diffusion_model.dtype
        return own

    def _inference_dtype(self) -> torch.dtype:
        return self.manual_cast_dtype or self.get_dtype()

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        **kwargs: Tensor,
    ) -> Tensor:
        """x0 of latents `x` at the noise levels `t`."""
        dtype = self._inference_dtype()
        output = self.diffusion_model(
            self.model_sampling.calculate_input(t, x).to(dtype),
            self.model_sampling.timestep(t).float(),
            context=None if c_crossattn is None else c_crossattn.to(dtype),
            transformer_options=dict(transformer_options or {}),
            **{name: value.to(dtype) for name, value in kwargs.items()},
        )
        return self.model_sampling.calculate_denoised(t, output.float(), x)

    def encode_adm(self, **kwargs: Any) -> Tensor | None:
        return None

    def extra_conds(self, **kwargs: Any) -> dict[str, comfy.conds.CONDRegular]:
        found: dict[str, comfy.conds.CONDRegular] = {}
        adm = self.encode_adm(**kwargs)
        if adm is not None:
            found["y"] = comfy.conds.CONDRegular(adm)
        if kwargs.get("cross_attn") is not None:
            found["c_crossattn"] = comfy.conds.CONDCrossAttn(kwargs["cross_attn"])
        return found

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return self.latent_format.process_in(latent)

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return self.latent_format.process_out(latent)


class SDXL(BaseModel):
    def __init__(
        self, model_config: Any, model_type: ModelType = ModelType.EPS, device: torch.device | None = None
    ) -> None:
        super().__init__(model_config, model_type, device=device)
        self.embedder = Timestep(256)

    def encode_adm(self, **kwargs: Any) -> Tensor:
        pooled: Tensor = kwargs["pooled_output"]
        height, width = kwargs.get("height", 768), kwargs.get("width", 768)
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
        return torch.cat([pooled, self.embedder(sizes).flatten()[None].repeat(len(pooled), 1)], dim=1)


class SD3(BaseModel):
    def __init__(
        self, model_config: Any, model_type: ModelType = ModelType.FLOW, device: torch.device | None = None
    ) -> None:
        super().__init__(model_config, model_type, device=device, unet_model=OpenAISignatureMMDITWrapper)

    def encode_adm(self, **kwargs: Any) -> Tensor:
        pooled: Tensor = kwargs["pooled_output"]
        return pooled


class Flux(BaseModel):
    def __init__(
        self,
        model_config: Any,
        model_type: ModelType = ModelType.FLUX,
        device: torch.device | None = None,
        unet_model: Any = flux.Flux,
    ) -> None:
        super().__init__(model_config, model_type, device=device, unet_model=unet_model)

    def encode_adm(self, **kwargs: Any) -> Tensor:
        pooled: Tensor = kwargs["pooled_output"]
        return pooled

    def extra_conds(self, **kwargs: Any) -> dict[str, comfy.conds.CONDRegular]:
        guidance = torch.tensor([kwargs.get("guidance", 3.5)])
        return {**super().extra_conds(**kwargs), "guidance": comfy.conds.CONDRegular(guidance)}
