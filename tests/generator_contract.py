"""What every generator must do, whatever host it draws with: the checks that each adapter's tests run over it.

They need torch and this package alone, so that a host's own Python can run them too (tests/hosts/comfyui).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.generator import Denoiser, Generator, Sampling
from sd_imagereward.core.refl.lora import Lora
from sd_imagereward.core.refl.randomness import SampleNoise
from torch import Tensor, nn

PROMPTS = ("a cat", "a painting of a house by the sea")
STEPS = 4


@dataclass
class Scene:
    """An adapter to be checked. `make` gives a fresh generator with the same weights each time."""

    make: Callable[[], Generator]
    guides: bool = True
    """Knows classifier-free guidance (the tests' toy does not)."""
    sampler: str = "ddpm"
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        self.generator = self.make()

    @property
    def sampling(self) -> Sampling:
        side = 64 // self.generator.sizes_divide_by * self.generator.sizes_divide_by
        return Sampling(width=side, height=side, steps=STEPS, sampler=self.sampler, guidance=1.0)

    def rollout(self, body: Callable[[Denoiser], Any], *, count: int = 1, seed: int = 1, **changes: Any) -> Any:
        noise = SampleNoise.of_seeds(range(seed, seed + count))
        return self.generator.denoise(PROMPTS[:count], replace(self.sampling, **changes), noise, body)

    @torch.no_grad()
    def draw(self, count: int = 1, seed: int = 1, **changes: Any) -> Tensor:
        """Finished latents."""
        found: Tensor = self.rollout(lambda one: one.advance(one.start(), 0, STEPS), count=count, seed=seed, **changes)
        return found

    def same(self, one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=self.tolerance, atol=self.tolerance)


def check_what_it_says_of_itself(scene: Scene) -> None:
    generator = scene.generator
    assert generator.family is FAMILIES[generator.family.name]
    assert generator.native_resolution > 0
    assert generator.native_resolution % generator.sizes_divide_by == 0
    parameters = scene.rollout(lambda _: list(generator.network.parameters()))
    assert not any(parameter.requires_grad for parameter in parameters)
    assert all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in generator.layers().values())
    assert generator.plain("a cat") == "a cat"


def check_start(scene: Scene) -> None:
    """Float32 noise of the picture's size that comes from the seeds and nowhere else."""
    before = torch.get_rng_state()
    one, again, other = (scene.rollout(lambda d: d.start(), seed=seed) for seed in (1, 1, 5))
    assert one.dtype == torch.float32
    assert one.shape[0] == 1
    wide = scene.rollout(lambda d: d.start(), width=2 * scene.sampling.width)
    assert wide.shape[2:] == (one.shape[2], 2 * one.shape[3])
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert abs(one.mean() / one.std()) < 0.5  # noise, at whatever scale


def check_steps(scene: Scene) -> None:
    """No steps change nothing; some and then the rest are all; and the rollout leads somewhere else than it began."""

    @torch.no_grad()
    def in_parts(denoiser: Denoiser) -> Tensor:
        latents = denoiser.start()
        assert torch.equal(denoiser.advance(latents, 0, 0), latents)
        return denoiser.advance(denoiser.advance(latents, 0, 2), 2, STEPS)

    whole = scene.draw()
    scene.same(scene.rollout(in_parts), whole)
    assert torch.isfinite(whole).all()
    assert not torch.allclose(whole, scene.rollout(lambda d: d.start()))
    assert torch.equal(scene.draw(), whole)


def check_pictures_do_not_touch(scene: Scene) -> None:
    """A batch draws what each of its pictures draws alone; prompt and seed are its own."""
    together = scene.draw(count=2)
    scene.same(together[:1], scene.draw())

    def alone() -> Tensor:
        noise = SampleNoise.of_seeds([2])
        with torch.no_grad():
            return scene.generator.denoise(PROMPTS[1:], scene.sampling, noise, lambda d: d.advance(d.start(), 0, STEPS))

    scene.same(together[1:], alone())


def check_x0(scene: Scene) -> None:
    """The prediction has the latents' shape and a gradient in them."""

    def body(denoiser: Denoiser) -> tuple[Tensor, Tensor]:
        latents = denoiser.start().requires_grad_(True)
        with torch.enable_grad():
            x0 = denoiser.x0(latents, 1)
            (gradient,) = torch.autograd.grad(x0.square().sum(), latents)
        return x0.detach(), gradient

    x0, gradient = scene.rollout(body, count=2)
    assert x0.shape == gradient.shape
    assert x0.dtype == torch.float32
    assert torch.isfinite(x0).all()
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def check_the_last_x0_is_the_picture(scene: Scene) -> None:
    """At the last step, what is predicted is what the rollout ends with."""

    @torch.no_grad()
    def body(denoiser: Denoiser) -> tuple[Tensor, Tensor]:
        latents = denoiser.advance(denoiser.start(), 0, STEPS - 1)
        return denoiser.x0(latents, STEPS - 1), denoiser.advance(latents, STEPS - 1, STEPS)

    x0, finished = scene.rollout(body)
    scene.same(x0, finished)


def check_gradient_through_steps(scene: Scene) -> None:
    """`advance` is differentiable where autograd is on (DRaFT-K, ReNO)."""

    def body(denoiser: Denoiser) -> Tensor:
        latents = denoiser.start().requires_grad_(True)
        with torch.enable_grad():
            finished = denoiser.advance(latents, 0, STEPS)
            (gradient,) = torch.autograd.grad(finished.square().sum(), latents)
        return gradient

    gradient = scene.rollout(body)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def check_decode(scene: Scene) -> None:
    latents = scene.draw(count=2)

    def body(_: Denoiser) -> tuple[Tensor, Tensor]:
        given = latents.clone().requires_grad_(True)
        with torch.enable_grad():
            pixels = scene.generator.decode(given)
            (gradient,) = torch.autograd.grad(pixels.sum(), given)
        return pixels.detach(), gradient

    pixels, gradient = scene.rollout(body, count=2)
    assert pixels.shape == (2, 3, scene.sampling.height, scene.sampling.width)
    assert pixels.dtype == torch.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.std() > 0
    assert gradient.abs().max() > 0


def check_lora(scene: Scene) -> None:
    """A fresh LoRA changes nothing, a filled one something; at strength 0 and after it has gone, not one bit."""
    untouched = scene.draw()
    lora = filled(lora_on(scene.generator), up=False)
    scene.generator.attach(lora)
    try:
        scene.same(scene.draw(), untouched)
        filled(lora)
        tuned = scene.draw()
        assert (tuned - untouched).abs().max() > 100 * scene.tolerance * untouched.abs().max().clamp(max=0.1)
        with lora.at(0):
            assert torch.equal(scene.draw(), untouched)
        assert torch.equal(scene.draw(), tuned)
    finally:
        scene.generator.detach(lora)
    assert torch.equal(scene.draw(), untouched)


def check_checkpointing(scene: Scene) -> None:
    """Recomputing activations changes no gradient, and leaves with its switch."""
    lora = filled(lora_on(scene.generator))
    scene.generator.attach(lora)
    lora.requires_grad_(True)

    def body(denoiser: Denoiser) -> list[Tensor]:
        with torch.enable_grad():
            pixels = scene.generator.decode(denoiser.x0(denoiser.start(), STEPS - 1))
            return list(torch.autograd.grad(pixels.square().mean(), list(lora.parameters())))

    try:
        plain = scene.rollout(body, count=2)
        scene.generator.gradient_checkpointing(True)
        recomputed = scene.rollout(body, count=2)
        scene.generator.gradient_checkpointing(False)
        again = scene.rollout(body, count=2)
    finally:
        scene.generator.detach(lora)
    largest = max(float(each.abs().max()) for each in plain)
    assert largest > 0
    for one, other, third in zip(plain, recomputed, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=scene.tolerance * largest)
        torch.testing.assert_close(one, third, rtol=1e-3, atol=scene.tolerance * largest)


def check_guidance(scene: Scene) -> None:
    """Away from the negative prompt; away from the prompt itself is nowhere; without guidance nobody reads it."""
    if not scene.guides:
        return
    plain = scene.draw()
    scene.same(scene.draw(guidance=3.0, negative_prompt=PROMPTS[0]), plain)
    assert (scene.draw(guidance=3.0, negative_prompt="a dog") - plain).abs().max() > 10 * scene.tolerance
    assert torch.equal(scene.draw(negative_prompt="a dog"), plain)


def check_signal_to_noise(scene: Scene) -> None:
    ratios = scene.rollout(lambda denoiser: [denoiser.signal_to_noise(step) for step in range(STEPS)])
    assert all(ratio > 0 for ratio in ratios[1:])
    assert ratios == sorted(ratios)


def check_precomputed_prompts_draw_the_same(scene: Scene) -> None:
    fresh = replace(scene)
    before = fresh.draw(count=2)
    fresh.generator.precompute_embeddings([*PROMPTS, ""])
    scene.same(fresh.draw(count=2), before)


def check_an_error_leaves_it_usable(scene: Scene) -> None:
    before = scene.draw()

    def fail(denoiser: Denoiser) -> None:
        denoiser.x0(denoiser.start(), 0)
        raise KeyboardInterrupt

    try:
        scene.rollout(fail)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("an exception of the callback must reach the caller")
    assert torch.equal(scene.draw(), before)


CHECKS = tuple(check for name, check in list(globals().items()) if name.startswith("check_"))


def lora_on(generator: Generator) -> Lora:
    return Lora.on(generator.layers(), rank=2, which="linear", of=generator.family.layers)


def filled(lora: Lora, *, up: bool = True) -> Lora:
    """Small random weights, the same each time; with `up=False` it stays without effect."""
    generator = torch.Generator().manual_seed(0)
    for _, layer in lora.items():
        layer.down.data = 0.1 * torch.randn(layer.down.shape, generator=generator).to(layer.down)
        if up:
            layer.up.data = torch.randn(layer.up.shape, generator=generator).to(layer.up)
    return lora
