from __future__ import annotations

import pytest
import torch
from sd_imagereward.core.refl.generator import Sampling
from sd_imagereward.core.refl.randomness import SampleNoise
from sd_imagereward.core.refl.reno import Settings, norm_penalty, optimise_noise
from toy_generator import ColourScorer, ToyGenerator

SAMPLING = Sampling(width=64, height=64, steps=2)


def optimise(**changes: object):  # type: ignore[no-untyped-def]
    seeds = [1, 2]
    noise = SampleNoise.of_seeds(seeds).normal((4, 8, 8))
    settings = Settings(**{"iterations": 12, "learning_rate": 5.0, "regularisation": 0.0, **changes})  # type: ignore[arg-type]
    found = optimise_noise(ToyGenerator(), ColourScorer(), SAMPLING, ["a cat", "a dog"], seeds, noise, settings)
    return noise, found


def test_each_picture_gets_its_best_noise_never_worse_than_the_first() -> None:
    _, found = optimise()
    assert found.rewards.shape == (13, 2)
    best = found.rewards.max(0).values
    assert (best > found.rewards[0]).all()
    again = optimise_noise(
        ToyGenerator(), ColourScorer(), SAMPLING, ["a cat", "a dog"], [1, 2], found.noise, Settings(iterations=1)
    )
    torch.testing.assert_close(again.rewards[0], best)
    torch.testing.assert_close(again.first, found.pixels)


def test_a_gradient_step_is_sgd_with_nesterov_and_a_clip_of_each_picture() -> None:
    noise, found = optimise(iterations=1, clip=0.1, learning_rate=1.0)
    moved = (found.noise - noise).flatten(1).norm(dim=1)
    # the first step of Nesterov momentum is (1 + momentum) * lr * gradient; a picture that got worse stays where it was
    better = found.rewards[1] > found.rewards[0]
    assert (moved[better] <= 0.19 + 1e-6).all()
    assert (moved[~better] == 0).all()
    assert better.any()


def test_the_penalty_is_least_where_the_norm_of_normal_noise_lies() -> None:
    direction = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    direction = direction / direction.norm()
    penalties = {radius: norm_penalty(direction * radius).item() for radius in (8.0, 255**0.5, 24.0)}
    assert min(penalties, key=lambda radius: penalties[radius]) == 255**0.5


def test_raising_from_the_callback_stops() -> None:
    seen: list[int] = []

    def stop(iteration: int, rewards: torch.Tensor, pixels: torch.Tensor) -> None:
        seen.append(iteration)
        if iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise_noise(
            ToyGenerator(),
            ColourScorer(),
            SAMPLING,
            ["a"],
            [1],
            torch.zeros(1, 4, 8, 8) + 1,
            Settings(),
            on_iteration=stop,
        )
    assert seen == [0, 1, 2]
