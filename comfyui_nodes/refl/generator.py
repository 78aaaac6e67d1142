"""ComfyUI's MODEL, CLIP and VAE as something ReFL can tune. Sampling, guidance, conditioning and x0 are the host's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management as model_management
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...core.errors import ImageRewardError
from ...core.infotext.syntax import plain_prompt
from ...core.refl.families import Family
from ...core.refl.generator import DRAWN_AT_ONCE, Denoiser, Generator, Sampling, T
from ...core.refl.lora import Lora
from ...core.refl.randomness import SampleNoise
from ...core.scorers.base import Scorer
from ..hosting import RewardModel
from . import samplers
from .blocks import VAE_BLOCKS, cover, differentiable, recomputing, uncover
from .conditioning import Conditioning, EncodedPrompts, plain_copy
from .dynamic_vram import standing
from .families import family_of, layers_of
from .memory import release
from .stage import Stage


class ComfyGenerator(Generator):
    """Call everything under `memory.training_mode()`. `rewards`: whatever scores the pictures."""

    def __init__(
        self,
        model: ModelPatcher,
        clip: Any,
        vae: Any,
        *,
        negative: Conditioning | None = None,
        dtype: torch.dtype | None = None,
        rewards: Sequence[RewardModel] = (),
        on_rollout: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        if clip is None or vae is None:
            raise ImageRewardError(
                f"The checkpoint holds no {'CLIP' if clip is None else 'VAE'}: load one and connect it."
            )
        self.family, self.traits = family_of(model.model)
        self.v_prediction = model.model.model_type == comfy.model_base.ModelType.V_PREDICTION
        self.native_resolution = self.family.resolution
        model, self.vae = standing(model, vae)
        self._has_own_vae = self.vae is not vae
        self.patcher = _for_training(model, dtype)
        self.network: nn.Module = self.patcher.model.diffusion_model
        self.prompts = EncodedPrompts(clip)
        self.negative = plain_copy(negative) if negative is not None else None
        self.stage = Stage(self.patcher, self.vae.patcher, rewards)
        self.on_rollout = on_rollout
        self._attached: list[Lora] = []
        self.scale = int(getattr(vae, "downscale_ratio", 8))
        self.sizes_divide_by = self.scale * _fewest_latents(self.patcher.model.model_config.unet_config)
        if self.traits.in_place:
            cover(self.network, self.traits.blocks, differentiable)

    @property
    def device(self) -> torch.device:
        return torch.device(self.patcher.load_device)

    @property
    def latent_channels(self) -> int:
        return int(self.patcher.get_model_object("latent_format").latent_channels)

    @property
    def computes_in(self) -> torch.dtype:
        """The type of the network's own arithmetic: the type set for training, or what the host chose at loading."""
        chosen = self.patcher.object_patches.get("manual_cast_dtype")
        own = getattr(self.patcher.model, "manual_cast_dtype", None)
        return chosen or own or self.patcher.model.get_dtype()

    # memory

    def bring_scorer(self, scorer: Scorer) -> None:
        self.stage.bring_scorer(scorer)

    def bring_network(self) -> None:
        self.stage.bring_network()

    def close(self) -> None:
        """Leave MODEL and VAE as they were found; copies made for training leave their device."""
        for lora in list(self._attached):
            self.detach(lora)
        self.gradient_checkpointing(False)
        uncover(self.network, differentiable)
        release(self.patcher)
        if self._has_own_vae:
            release(self.vae.patcher)

    # prompts

    def precompute_embeddings(self, prompts: Sequence[str]) -> None:
        self.prompts.encode(prompts)
        self.prompts.free()

    def fit_together(self, one: str, other: str) -> bool:
        return self.prompts.fit_together(one, other)

    def plain(self, prompt: str) -> str:
        return plain_prompt(prompt, "ComfyUI") or prompt

    # drawing

    def denoise(
        self, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise, rollout: Callable[[Denoiser], T]
    ) -> T:
        trained = len(prompts) if torch.is_grad_enabled() else -(-len(prompts) // DRAWN_AT_ONCE)
        self.stage.begin(sampling.width, sampling.height, trained)
        guider = comfy.samplers.CFGGuider(self.patcher)
        negative = self.negative or (self.prompts.batch([sampling.negative_prompt]) if sampling.guidance != 1 else [])
        guider.set_conds(self.prompts.batch(prompts), negative)
        guider.set_cfg(sampling.guidance)
        sampler, scheduler = samplers.choose(sampling.sampler, sampling.scheduler, self.family.flow)
        levels = self.patcher.get_model_object("model_sampling")
        sigmas = samplers.noise_levels(levels, sampler, scheduler, sampling.steps)
        rollout_sampler = _RolloutSampler(self.family, sampler, noise, rollout)
        size = (sampling.height // self.scale, sampling.width // self.scale)
        empty = torch.zeros(len(prompts), self.latent_channels, *size)
        guider.sample(empty, empty, rollout_sampler, sigmas, disable_pbar=True, seed=0)
        self.on_rollout(len(prompts))
        return rollout_sampler.result

    def decode(self, latents: Tensor) -> Tensor:
        model_management.throw_exception_if_processing_interrupted()
        latents = self.patcher.get_model_object("latent_format").process_out(latents)
        decoded = self.vae.first_stage_model.decode(latents.to(self.vae.device, self.vae.vae_dtype))
        return self.vae.process_output(decoded.float()).clamp(0, 1)

    # what is tuned

    def layers(self) -> Mapping[str, nn.Module]:
        return layers_of(self.patcher.model, self.family)

    def attach(self, lora: Lora) -> None:
        """Forward hooks, on the device where the model will be. No weight changes, so none needs to be put back."""
        lora.to(self.device)
        lora.hook(self.layers())
        self._attached.append(lora)

    def detach(self, lora: Lora) -> None:
        lora.unhook()
        self._attached = [one for one in self._attached if one is not lora]

    def gradient_checkpointing(self, on: bool) -> None:
        for network, blocks in ((self.network, self.traits.blocks), (self.vae.first_stage_model, VAE_BLOCKS)):
            if on:
                cover(network, blocks, recomputing)
            else:
                uncover(network, recomputing)


class _RolloutSampler(comfy.samplers.Sampler):
    """A host's sampler that lets the caller do the rollout, while the host lends its model, conditioning and guidance."""

    def __init__(self, family: Family, name: str, noise: SampleNoise, rollout: Callable[[Denoiser], Any]) -> None:
        self.family, self.name, self.noise, self.rollout = family, name, noise, rollout
        self.result: Any = None

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        self.result = self.rollout(_HostDenoiser(self, model_wrap, sigmas, extra_args, noise))
        return noise  # the guider returns this, and nobody reads it


class _HostDenoiser(Denoiser):
    def __init__(
        self, sampler: _RolloutSampler, model: Any, sigmas: Tensor, extra: dict[str, Any], empty: Tensor
    ) -> None:
        self.sampler, self.model, self.sigmas, self.extra, self.empty = sampler, model, sigmas, extra, empty

    def start(self) -> Tensor:
        levels = self.model.inner_model.model_sampling
        highest = bool(self.sampler.max_denoise(self.model, self.sigmas))
        return levels.noise_scaling(self.sigmas[0], self._draw(), self.empty, highest)

    def advance(self, latents: Tensor, start: int, stop: int) -> Tensor:
        if start == stop:
            return latents
        sigmas = self.sigmas[start : stop + 1]
        latents = samplers.advance(self.sampler.name, _Predictor(self), latents, sigmas, self.extra, self._draw)
        if stop == len(self.sigmas) - 1:
            return self.model.inner_model.model_sampling.inverse_noise_scaling(sigmas[-1], latents)
        return latents

    def x0(self, latents: Tensor, step: int) -> Tensor:
        return self.predict(latents, self.sigmas[step].expand(len(latents)), **self.extra)

    def signal_to_noise(self, step: int) -> float:
        return self.sampler.family.signal_to_noise(float(self.sigmas[step]))

    def predict(self, latents: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """x0 by the host's denoiser, guidance included; every call is a place where Interrupt takes hold."""
        model_management.throw_exception_if_processing_interrupted()
        return self.model(latents, sigma, **extra).float()

    def _draw(self) -> Tensor:
        return self.sampler.noise.normal(self.empty.shape[1:]).to(self.empty.device)


class _Predictor:
    """What the host's sampler functions call, and where some of them look up the kind of model."""

    def __init__(self, denoiser: _HostDenoiser) -> None:
        self.denoiser, self.inner_model = denoiser, denoiser.model

    def __call__(self, latents: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        return self.denoiser.predict(latents, sigma, **extra)


def _fewest_latents(config: Mapping[str, Any]) -> int:
    """A side of the latents must be a multiple of this: of the U-Net's halvings, or of the transformer's patch."""
    return 2 ** (len(config["channel_mult"]) - 1) if "channel_mult" in config else int(config.get("patch_size", 2))


def _for_training(model: ModelPatcher, dtype: torch.dtype | None) -> ModelPatcher:
    """A clone whose attention has autograd, computing in `dtype` (None: in the type it was loaded for)."""
    patcher = model.clone()
    if dtype is not None:
        patcher.set_model_compute_dtype(dtype)
    attention = comfy.ldm.modules.attention.attention_pytorch

    def differentiable(host_attention: Callable[..., Tensor], *args: Any, **keywords: Any) -> Tensor:
        return attention(*args, **keywords)

    options = patcher.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = differentiable
    patcher.add_wrapper(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, _already_prepared)
    return patcher


def _already_prepared(executor: Any, model: ModelPatcher, noise_shape: Any, conds: Any, *_: Any, **__: Any) -> Any:
    """In place of the host's loading before each sampling: `hold` has loaded more, and a partial load must not follow."""
    return model.model, conds, []
