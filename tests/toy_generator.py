"""The smallest thing ReFL can tune: a one-block network on latents of 4 channels, with a U-Net's layer names. Torch alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.generator import Denoiser, Generator, Sampling
from sd_imagereward.core.refl.randomness import SampleNoise, derive_seed
from sd_imagereward.core.scorers.base import Scorer, ScorerInfo
from torch import Tensor, nn

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(4, 4) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out[0](torch.tanh(self.to_q(x) + self.to_k(x)) * self.to_v(x))


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.Module()])
        self.down_blocks[0].attentions = nn.ModuleList([nn.Module()])
        block = nn.Module()
        block.attn1 = _Attention()
        self.down_blocks[0].attentions[0].transformer_blocks = nn.ModuleList([block])
        self.conv_out = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, latents: Tensor, prompt: Tensor) -> Tensor:
        block = self.down_blocks[0].attentions[0].transformer_blocks[0]
        hidden = (latents + prompt).movedim(1, -1)  # BCHW -> BHWC
        return self.conv_out((hidden + block.attn1(hidden)).movedim(-1, 1))


class ToyGenerator(Generator):
    family = FAMILIES["sd1"]
    native_resolution = 64

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = _Network().requires_grad_(False)
        self.embedded: list[str] = []

    def precompute_embeddings(self, prompts: Sequence[str]) -> None:
        self.embedded = list(prompts)

    def denoise(
        self, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise, rollout: Callable[[Denoiser], Any]
    ) -> Any:
        return rollout(_ToyDenoiser(self, prompts, sampling, noise))

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(nn.functional.interpolate(latents[:, :3], scale_factor=8))

    def layers(self) -> Mapping[str, nn.Module]:
        return {n: m for n, m in self.network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


class _ToyDenoiser(Denoiser):
    def __init__(self, generator: ToyGenerator, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise) -> None:
        self.generator, self.steps, self.noise = generator, sampling.steps, noise
        self.shape = (4, sampling.height // 8, sampling.width // 8)
        seeds = [torch.Generator().manual_seed(derive_seed(prompt)) for prompt in prompts]
        self.prompts = torch.stack([torch.randn(4, 1, 1, generator=seed) for seed in seeds])

    def start(self) -> Tensor:
        return self.noise.normal(self.shape)

    def x0(self, latents: Tensor, step: int) -> Tensor:
        return self.generator.active(latents, self.prompts)

    def advance(self, latents: Tensor, start: int, stop: int) -> Tensor:
        for step in range(start, stop):
            level = 1 - (step + 1) / self.steps
            latents = (1 - level) * self.x0(latents, step) + level * self.noise.normal(self.shape)
        return latents

    def signal_to_noise(self, step: int) -> float:
        return ((step + 1) / self.steps) ** 2


class ColourScorer(Scorer):
    """How much of one colour there is, from -1 to 1; differentiable, reads no prompt."""

    def __init__(self, channel: int = 0, sign: float = 1.0) -> None:
        name = ("red", "green", "blue")[channel]
        info = ScorerInfo(name, name.title(), f"how {name} it is", False, None, 0.0, 1.0, "", "", "")
        super().__init__(info, nn.Identity(), None)
        self.channel, self.sign = channel, sign

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = self.prepare(pixels)
        return self.sign * (2 * pixels[:, self.channel].mean((1, 2)) - 1)

    @classmethod
    def recognises(cls, checkpoint: Any) -> bool:
        return False

    @classmethod
    def from_checkpoint(cls, checkpoint: Any, info: ScorerInfo, **kwargs: Any) -> Scorer:
        raise NotImplementedError
