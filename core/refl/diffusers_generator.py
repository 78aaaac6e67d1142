"""Stable Diffusion pipelines of diffusers as what ReFL tunes. The one file that knows diffusers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError, extra_needed
from ..networks.devices import default_device, mixed_precision
from ..weights.read import read_checkpoint
from .families import DIFFUSERS_TITLES, FAMILIES, DiffusersFamily, Family, fits
from .generator import Denoiser, Generator, Sampling, T
from .randomness import SampleNoise
from .single_file import UNET, family_of_file, write_single_file

SAMPLERS = ("ddpm", "ddim")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class Conditioning(NamedTuple):
    """What the U-Net reads beside the latents, one row per picture."""

    embeddings: Tensor  # (B, tokens, width)
    pooled: Tensor | None  # (B, width), where the family has one

    def to(self, *args: Any) -> Conditioning:
        return Conditioning(self.embeddings.to(*args), None if self.pooled is None else self.pooled.to(*args))


class DiffusersGenerator(Generator):
    """A StableDiffusionPipeline or StableDiffusionXLPipeline. `DiffusersGenerator.load` makes one from a name or a path.

    Args:
        pipeline: a loaded pipeline; its networks are frozen and moved.
        dtype: of the U-Net and the text encoders; the VAE stays in float32 where that is float16.
        device: where the networks go; None takes the fastest there is.
    """

    def __init__(self, pipeline: Any, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None):
        missing = [part for part in PARTS if getattr(pipeline, part, None) is None]
        if missing:
            raise ImageRewardError(
                f"{type(pipeline).__name__} has no {', '.join(missing)}: expected a pipeline of {DIFFUSERS_TITLES}, with "
                f"{', '.join(PARTS)}"
            )
        self.pipeline, self.dtype, self.source = pipeline, dtype, ""
        self.network: nn.Module = pipeline.unet
        self.vae, self.vae_dtype = pipeline.vae, torch.float32 if dtype == torch.float16 else dtype  # fp16 overflows
        self.family, self.traits = family_of(pipeline)
        self.v_prediction = pipeline.scheduler.config.prediction_type == "v_prediction"
        self.latent_channels = pipeline.unet.config.in_channels
        if self.latent_channels != self.vae.config.latent_channels:
            raise ImageRewardError(
                f"the U-Net takes {self.latent_channels} channels, the VAE gives {self.vae.config.latent_channels}: "
                f"inpainting and instruct-pix2pix models cannot be tuned from prompts alone; take the plain text-to-image model"
            )
        self.scale = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.sizes_divide_by = self.scale * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
        self.native_resolution = pipeline.unet.config.sample_size * self.scale
        self._embeddings: dict[str, Conditioning] = {}
        self._freeze_and_place(torch.device(device) if device else default_device())

    @classmethod
    def load(
        cls, model: str, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> DiffusersGenerator:
        """From a Hub id, a diffusers folder or a single .safetensors checkpoint; the kind is recognised."""
        generator = cls(load_pipeline(model), dtype=dtype, device=device)
        generator.source = model
        return generator

    def _freeze_and_place(self, device: torch.device) -> None:
        for module, dtype in [(self.network, self.dtype), (self.vae, self.vae_dtype)] + [
            (encoder, self.dtype) for encoder in self.encoders
        ]:
            nn.Module.to(module.requires_grad_(False).eval(), device=device, dtype=dtype)  # diffusers' own `to` warns

    @property
    def encoders(self) -> list[nn.Module]:
        both = (self.pipeline.text_encoder, getattr(self.pipeline, "text_encoder_2", None))
        return [encoder for encoder in both if encoder is not None]

    # prompts

    def precompute_embeddings(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            if prompt not in self._embeddings:
                self._embeddings[prompt] = self._encode(prompt).to("cpu")
        for encoder in self.encoders:
            encoder.to("cpu")

    @torch.no_grad()
    def _encode(self, prompt: str) -> Conditioning:
        """(1, ...) in the networks' type, as the pipeline itself encodes it."""
        for encoder in self.encoders:
            encoder.to(self.device)
        encoded = self.pipeline.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(encoded[0], encoded[2] if self.traits.pooled else None)

    def conditioning(self, prompts: Sequence[str]) -> Conditioning:
        rows = [self._embeddings[prompt] if prompt in self._embeddings else self._encode(prompt) for prompt in prompts]
        rows = [row.to(self.device) for row in rows]
        pooled = torch.cat([row.pooled for row in rows]) if self.traits.pooled else None  # type: ignore[misc]
        return Conditioning(torch.cat([row.embeddings for row in rows]), pooled)

    def negative(self, prompt: str, count: int) -> Conditioning:
        """The other side of guidance; zeros for an empty negative prompt where the pipeline has it so (SDXL)."""
        one = self.conditioning([prompt])
        if self.traits.pooled and not prompt and self.pipeline.config.force_zeros_for_empty_prompt:
            one = Conditioning(torch.zeros_like(one.embeddings), torch.zeros_like(one.pooled))  # type: ignore[arg-type]
        return Conditioning(
            one.embeddings.repeat(count, 1, 1), None if one.pooled is None else one.pooled.repeat(count, 1)
        )

    # drawing

    def scheduler(self, sampler: str) -> Any:
        diffusers = _diffusers()
        kinds = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler}
        expect_sampler(sampler)
        return kinds[sampler].from_config(self.pipeline.scheduler.config, clip_sample=False)  # latents leave [-1, 1]

    def denoise(
        self, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise, rollout: Callable[[Denoiser], T]
    ) -> T:
        return rollout(_Denoiser(self, prompts, sampling, noise))

    def time_ids(self, rows: Sequence[Sequence[int]], sampling_size: tuple[int, int]) -> Tensor:
        """Size and crop conditioning, as SDXL has it: (original h, w, crop top, left) of each row, then the target size."""
        return torch.tensor([[*row, *sampling_size] for row in rows], device=self.device, dtype=self.dtype)

    def predict(self, latents: Tensor, timestep: Tensor, conditioning: Conditioning, time_ids: Tensor | None) -> Tensor:
        """One pass of the U-Net, in its own type: float32 (B, C, h, w) -> float32 (B, C, h, w)."""
        extra = None if time_ids is None else {"text_embeds": conditioning.pooled, "time_ids": time_ids}
        with self._precision():
            output = self.active(
                latents.to(self._network_dtype),
                timestep,
                encoder_hidden_states=conditioning.embeddings.to(self._network_dtype),
                added_cond_kwargs=extra,
                return_dict=False,
            )
        return output[0].float()

    @property
    def _network_dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def _precision(self) -> AbstractContextManager[Any]:
        """Full tuning keeps float32 weights, which compute in the run's type under autocast."""
        mixed = self._network_dtype == torch.float32 and self.dtype != torch.float32
        return mixed_precision(self.device, self.dtype) if mixed else nullcontext()

    def decode(self, latents: Tensor) -> Tensor:
        latents = (latents / self.vae.config.scaling_factor).to(self.vae_dtype)
        return (self.vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)

    # the pre-training loss

    def encode(self, pixels: Tensor, noise: SampleNoise) -> Tensor:
        spread = self.vae.encode((pixels * 2 - 1).to(self.device, self.vae_dtype)).latent_dist
        drawn = spread.mean.float() + spread.std.float() * noise.normal(spread.mean.shape[1:]).to(self.device)
        return drawn * self.vae.config.scaling_factor

    def pretraining_terms(
        self, latents: Tensor, prompts: Sequence[str], noise: SampleNoise, micro_conditioning: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor, Tensor, bool]:
        scheduler = self.scheduler("ddpm")
        epsilon = noise.normal(latents.shape[1:]).to(self.device)
        timesteps = noise.integers(scheduler.config.num_train_timesteps).to(self.device)
        noisy = scheduler.add_noise(latents, epsilon, timesteps)
        size = (latents.shape[-2] * self.scale, latents.shape[-1] * self.scale)
        time_ids = self.time_ids(micro_conditioning, size) if self.traits.pooled else None
        prediction = self.predict(noisy, timesteps, self.conditioning(prompts), time_ids)
        kind = scheduler.config.prediction_type
        target = {"epsilon": epsilon, "sample": latents}.get(kind)
        if target is None:
            target = scheduler.get_velocity(latents, epsilon, timesteps)
        signal = scheduler.alphas_cumprod.to(self.device)[timesteps]
        return prediction, target, signal / (1 - signal), kind == "v_prediction"

    # what is tuned

    def layers(self) -> Mapping[str, nn.Module]:
        return {
            name: module for name, module in self.network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
        }

    def gradient_checkpointing(self, on: bool) -> None:
        networks: tuple[Any, ...] = (self.network, self.vae)
        for module in networks:
            if on:
                module.enable_gradient_checkpointing()
            else:
                module.disable_gradient_checkpointing()
            module.train(on)  # diffusers before 0.32 recomputes in training mode only; neither network has dropout

    def save(self, folder: str | Path, single_file: str | Path | None = None) -> None:
        """The whole pipeline as a diffusers folder, and, if a path is given, as one float16 checkpoint file for the hosts."""
        pipeline = self._whole()
        pipeline.save_pretrained(str(folder), safe_serialization=True)
        if single_file is not None:
            write_single_file(pipeline, self.traits, single_file)

    def _whole(self) -> Any:
        """The pipeline with its untuned parts as they were: `self.pipeline` holds them rounded to the run's own type."""
        if not self.source or self.dtype == torch.float32:
            return self.pipeline
        pipeline = load_pipeline(self.source)
        pipeline.register_modules(unet=self.network)
        return pipeline


class _Denoiser(Denoiser):
    scheduler: Any

    def __init__(self, generator: DiffusersGenerator, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise):
        self.generator, self.sampling, self.noise = generator, sampling, noise
        self.scheduler = generator.scheduler(sampling.sampler)
        self.scheduler.set_timesteps(sampling.steps, device=generator.device)
        count = len(prompts)
        self.conditioning = generator.conditioning(prompts)
        if sampling.guidance != 1:
            negative = generator.negative(sampling.negative_prompt, count)
            self.conditioning = Conditioning(
                torch.cat([negative.embeddings, self.conditioning.embeddings]),
                torch.cat([negative.pooled, self.conditioning.pooled]) if generator.traits.pooled else None,  # type: ignore[list-item]
            )
        size = (sampling.height, sampling.width)
        rows = len(self.conditioning.embeddings)
        self.time_ids = generator.time_ids([(*size, 0, 0)] * rows, size) if generator.traits.pooled else None

    def start(self) -> Tensor:
        scale = self.generator.scale
        shape = (self.generator.latent_channels, self.sampling.height // scale, self.sampling.width // scale)
        return self.noise.normal(shape).to(self.generator.device) * self.scheduler.init_noise_sigma

    def advance(self, latents: Tensor, start: int, stop: int) -> Tensor:
        for step in range(start, stop):
            latents = self._step(latents, step).prev_sample
        return latents

    def x0(self, latents: Tensor, step: int) -> Tensor:
        return self._step(latents, step).pred_original_sample

    def signal_to_noise(self, step: int) -> float:
        signal = self.scheduler.alphas_cumprod[int(self.scheduler.timesteps[step])].item()
        return signal / (1 - signal)

    def _step(self, latents: Tensor, step: int) -> Any:
        timestep = self.scheduler.timesteps[step]
        prediction = self._guided(self.scheduler.scale_model_input(latents, timestep), timestep)
        stochastic = {"generator": self.noise.generators} if self.sampling.sampler == "ddpm" else {}
        return self.scheduler.step(prediction, timestep, latents, **stochastic)

    def _guided(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Classifier-free guidance (arXiv 2207.12598); both halves in one pass."""
        if self.sampling.guidance == 1:
            return self.generator.predict(latents, timestep, self.conditioning, self.time_ids)
        both = self.generator.predict(torch.cat([latents, latents]), timestep, self.conditioning, self.time_ids)
        negative, positive = both.chunk(2)
        return negative + self.sampling.guidance * (positive - negative)


def load_pipeline(model: str) -> Any:
    """A diffusers pipeline from a Hub id, a diffusers folder or a single .safetensors checkpoint; the kind is recognised."""
    diffusers = _diffusers()
    if not Path(model).is_file():
        try:
            parts = diffusers.DiffusionPipeline.load_config(model)
            left_out = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in parts else {}
            return diffusers.DiffusionPipeline.from_pretrained(model, **left_out)
        except (OSError, ValueError) as error:
            raise ImageRewardError(
                f"model '{model}' is neither a .safetensors file, nor a diffusers folder, nor a Hub id that "
                f"can be loaded: {error}"
            ) from error
    if Path(model).suffix.lower() != ".safetensors":
        raise ImageRewardError(
            f"{model}: single-file checkpoints must be .safetensors (other formats can carry code); convert it first"
        )
    kind = getattr(diffusers, _pipeline_of_file(Path(model)))
    try:
        return kind.from_single_file(model)
    except (OSError, ValueError) as error:
        raise ImageRewardError(
            f"{model}: diffusers could not make a pipeline of it, for which it takes the model's configuration from the Hub, "
            f"once ({error}). Connect for that one time, or give the model as a diffusers folder"
        ) from error


def expect_sampler(sampler: str) -> None:
    if sampler not in SAMPLERS:
        raise ImageRewardError(f"sampler must be one of {', '.join(SAMPLERS)} with diffusers, not '{sampler}'")


def family_of(pipeline: Any) -> tuple[Family, DiffusersFamily]:
    """The row of a pipeline, by its U-Net's settings."""
    for family in FAMILIES.values():
        if family.diffusers is not None and fits(pipeline.unet.config, family.diffusers.unet):
            return family, family.diffusers
    raise ImageRewardError(
        f"expected {DIFFUSERS_TITLES}, got {type(pipeline).__name__} with a U-Net of another kind "
        f"(addition_embed_type: {pipeline.unet.config.addition_embed_type})"
    )


def _pipeline_of_file(path: Path) -> str:
    """The pipeline's class; the plainest where the file holds no text encoder of the table's."""
    keys = read_checkpoint(path).tensors
    if not any(key.startswith(UNET) for key in keys):
        raise ImageRewardError(f"{path} is not a Stable Diffusion checkpoint: none of its keys begins with {UNET}")
    family = family_of_file(keys)
    return "StableDiffusionPipeline" if family is None else family.pipeline


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ImageRewardError(f"tuning outside a host needs diffusers: {extra_needed('refl')}") from error
    return diffusers
