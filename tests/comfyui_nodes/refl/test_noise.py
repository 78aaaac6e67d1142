"""The node 'Optimise Noise (ReNO)' on the stand-ins; in tests/hosts the same on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import pytest
import torch
from comfyui_scenes import Networks, bits, draw
from run_node import run
from sd_imagereward.comfyui_nodes.hosting import RewardModel
from sd_imagereward.comfyui_nodes.nodes.optimise_noise import OptimiseNoise
from sd_imagereward.core.errors import ImageRewardError


def optimise(networks: Networks, reward: RewardModel, *, count: int = 1, **changes: Any) -> dict[str, Any]:
    model, clip, vae = networks
    channels = model.get_model_object("latent_format").latent_channels
    given = {"prompt": ["a cat"], "iterations": 3, "steps": 2, "seed": 1, **changes}
    latent = {"samples": torch.zeros(count, channels, 8, 8)}
    return run(OptimiseNoise, model=model, clip=clip, vae=vae, reward_model=reward, latent=latent, **given)


@pytest.mark.parametrize("kind", ["sd1", "flux"])
def test_the_start_is_better_and_the_models_stay(
    networks: Callable[..., Networks], model: RewardModel, kind: str
) -> None:
    given = networks(kind)
    before = bits(given)
    outputs = optimise(given, model, count=2, iterations=6)
    assert outputs["best"] >= optimise(given, model, count=2, iterations=1)["best"]
    assert outputs["images"].shape == (2, 64, 64, 3)
    assert bits(given) == before
    start, noise = outputs["start"]["samples"], outputs["noise"]
    if kind == "flux":  # whose sampler without noise begins at nothing
        assert not start.any()
    else:
        torch.testing.assert_close(draw(given, start[:1], steps=2), outputs["images"][:1], atol=1e-3, rtol=0)
    assert noise.generate_noise({"samples": torch.zeros_like(start)}).shape == start.shape
    with pytest.raises(ImageRewardError, match="connect the same latent"):
        noise.generate_noise({"samples": start[:1]})


def test_prompts_that_do_not_fit_the_latents(networks: Callable[..., Networks], model: RewardModel) -> None:
    with pytest.raises(ImageRewardError, match="2 prompts for 3 latents"):
        optimise(networks(), model, count=3, prompt=["a cat", "a dog"])


def test_interrupt_leaves_the_models(networks: Callable[..., Networks], model: RewardModel) -> None:
    given = networks()
    before = bits(given)

    def interrupt(done: int, _: int) -> None:
        model_management.interrupted = done == 2

    comfy.utils.on_update = interrupt
    with pytest.raises(model_management.InterruptProcessingException):
        optimise(given, model, iterations=50)
    assert bits(given) == before
