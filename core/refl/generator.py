"""The protocol of what ReFL tunes: anything that turns noise and a prompt into pixels, step by step, with autograd.

The loop, the losses, the guard and the report know nothing else of a host. A host brings one adapter: a `Generator`, which owns
the networks and the conditioning, and its `Denoiser`, which takes one batch down the noise schedule.

`Generator.denoise` takes a callback on purpose: it prepares the host, calls back with a ready `Denoiser`, and cleans up when
the callback returns. So the same code drives a host that gives its networks for the length of one sampling call (ComfyUI) and
one that keeps them (diffusers). The callback may run the backward pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError

if TYPE_CHECKING:
    from ..scorers.base import Scorer
    from .families import Family
    from .lora import Lora
    from .randomness import SampleNoise

T = TypeVar("T")

# Pictures, with guidance, that a network draws at once without gradient in the memory that an update takes for one:
# benchmarks/refl_memory.py counts 1.0 of 1.7 GiB for SD1.5 at 512 pixels, 2.5 of 6.5 GiB for SDXL at 1024 pixels.
DRAWN_AT_ONCE = 8


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn."""

    width: int
    height: int  # size of the picture in pixels
    steps: int = 40  # steps of the noise schedule; step 0 is pure noise, step `steps - 1` the last
    sampler: str = "ddpm"  # a name the adapter knows; "ddpm" is the reference's (stochastic steps)
    scheduler: str = ""  # spacing of the noise levels, for adapters that have several; "" is the adapter's own
    guidance: float = 1.0  # classifier-free guidance scale; 1 draws with the prompt alone and costs half
    negative_prompt: str = ""  # what guidance leads away from; not read when `guidance` is 1


class Denoiser(ABC):
    """One batch on its way from noise to picture. Latents are float32, (B, C, h, w); steps count from 0."""

    @abstractmethod
    def start(self) -> Tensor:
        """The latents before step 0: noise at the schedule's highest level, (B, C, h, w)."""

    @abstractmethod
    def advance(self, latents: Tensor, start: int, stop: int) -> Tensor:
        """Latents before step `start` -> latents before step `stop` (`stop - start` steps; none when they are equal).

        Differentiable when autograd is on. `advance(denoiser.start(), 0, steps)` is the finished picture's latents.
        """

    @abstractmethod
    def x0(self, latents: Tensor, step: int) -> Tensor:
        """The clean latents that the network predicts at `step`, in the VAE's own scale before `decode`. Differentiable."""

    @abstractmethod
    def signal_to_noise(self, step: int) -> float:
        """alpha^2 / sigma^2 of the noise level at `step`; an x0 error times its root is an error in predicted noise."""


class Generator(ABC):
    """What is tuned. The parameters of all networks are frozen; a tuning unfreezes those that it trains."""

    family: Family  # a row of the table: which layers a LoRA may change, and what its file says of the model
    # Whether the network predicts velocity (arXiv 2202.00512), which goes into the metadata of LoRA files.
    v_prediction: bool = False
    # The bare denoising network (the U-Net): what full tuning trains and LoRA layers are attached to.
    network: nn.Module
    # Calls the network as a backend wrapped it (DDP, FSDP); an adapter calls `self.active` so that gradients are exchanged.
    wrapped: Callable[..., Any] | None = None
    sizes_divide_by: int = 8  # width and height must be multiples of this
    native_resolution: int = 512  # side of the pictures the model was trained on, in pixels

    @property
    def active(self) -> Callable[..., Any]:
        return self.network if self.wrapped is None else self.wrapped

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @abstractmethod
    def denoise(
        self, prompts: Sequence[str], sampling: Sampling, noise: SampleNoise, rollout: Callable[[Denoiser], T]
    ) -> T:
        """Call `rollout` with a denoiser for these prompts (one per picture of the batch) and return what it returns.

        All randomness comes from `noise`. Gradient mode is the caller's. The denoiser is of no use after `rollout`.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as `Denoiser.x0` gives them -> pixels (B, 3, H, W) float32, clamped to 0..1. Differentiable."""

    @abstractmethod
    def layers(self) -> Mapping[str, nn.Module]:
        """Every linear and convolution layer of the network by the name that LoRA files of its family give it.

        Those are a U-Net's names in *diffusers* (`down_blocks.0.attentions.0...`), and of a transformer the original ones
        (`LoraLayers.original_names`), so an adapter for another layout translates its own names here.
        """

    def attach(self, lora: Lora) -> None:
        """Make the network draw with these LoRA layers. The base's way is a forward hook on each layer."""
        lora.hook(self.layers())
        self.network.add_module("refl_lora", lora)  # so that DDP and FSDP see the parameters they must reduce

    def detach(self, lora: Lora) -> None:
        """Undo `attach`; the network is as it was, bit for bit."""
        lora.unhook()
        del self.network.refl_lora

    def precompute_embeddings(self, prompts: Sequence[str]) -> None:  # noqa: B027 (optional on purpose)
        """The run will use these prompts and no others: an adapter may encode them now and free its text encoder."""

    def fit_together(self, one: str, other: str) -> bool:
        """Whether a batch of the two prompts draws for each what it would draw alone."""
        return True

    def bring_scorer(self, scorer: Scorer) -> None:  # noqa: B027 (optional on purpose)
        """The decoder and this scorer are needed next and the network is not: an adapter short of memory may swap."""

    def bring_network(self) -> None:  # noqa: B027 (optional on purpose)
        """The network is needed again, for its backward pass."""

    def plain(self, prompt: str) -> str:
        """The prompt as a scorer should read it: without the host's own syntax. Most hosts have none."""
        return prompt

    def gradient_checkpointing(self, on: bool) -> None:  # noqa: B027 (optional on purpose)
        """Recompute activations of the network and the decoder in the backward pass instead of keeping them."""

    def encode(self, pixels: Tensor, noise: SampleNoise) -> Tensor:
        """Pixels (B, 3, H, W) in 0..1 -> clean latents (B, C, h, w). Only the pre-training loss needs it."""
        raise ImageRewardError(
            f"{type(self).__name__} cannot encode images, which the pre-training loss needs: set pretraining_data to none"
        )

    def pretraining_terms(
        self, latents: Tensor, prompts: Sequence[str], noise: SampleNoise, micro_conditioning: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor, Tensor, bool]:
        """(prediction, target, signal-to-noise ratio (B,), v-prediction?) of the training objective at random noise levels.

        `micro_conditioning` holds (original height, original width, crop top, crop left) of each image, for SDXL.
        """
        raise ImageRewardError(f"{type(self).__name__} has no pre-training loss: set pretraining_data to none")
