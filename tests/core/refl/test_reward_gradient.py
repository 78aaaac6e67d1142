"""The gradient of the scoring half of an update, taken by itself."""

from __future__ import annotations

import pytest
import torch
from sd_imagereward.core.refl.evaluator import Evaluator
from sd_imagereward.core.refl.generator import Sampling
from sd_imagereward.core.refl.losses import reward_loss
from sd_imagereward.core.refl.reward_gradient import reward_gradient
from sd_imagereward.core.scorers.base import Scorer
from sd_imagereward.core.training.backend import Backend
from toy_generator import ColourScorer, ToyGenerator


class Swapping(ToyGenerator):
    """Writes down what it is asked to bring, and in between decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def bring_scorer(self, scorer: Scorer) -> None:
        self.events.append(f"scored by {scorer.info.name}")

    def bring_network(self) -> None:
        self.events.append("network")

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.events.append("decode")
        return super().decode(latents)


@pytest.mark.parametrize("loss_scale", [1.0, 65536.0])
def test_gradient_times_latents_has_the_gradients_of_the_loss(loss_scale: float) -> None:
    generator, scorer = ToyGenerator(), ColourScorer(1)
    weight = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    scored = reward_gradient(generator, scorer, torch.tanh(weight), ["a cat", "a dog"], reward_loss, loss_scale)
    (scored.gradient * torch.tanh(weight)).sum().backward()
    loss = reward_loss(scorer.score(generator.decode(torch.tanh(weight)), ["a cat", "a dog"]))
    (expected,) = torch.autograd.grad(loss, weight)
    assert expected.any()
    torch.testing.assert_close(weight.grad, expected, rtol=1e-6, atol=0)
    assert scored.loss.item() == loss.item()
    assert not any(each.requires_grad for each in (scored.pixels, scored.rewards, scored.loss, scored.gradient))


def test_a_scaled_loss_survives_float16_on_its_way_back() -> None:
    """A decoder in float16, as on a GPU: gradients below 6e-8 are nothing there."""

    class Half(ToyGenerator):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return super().decode(latents.half().float())

    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    plain, scaled = (
        reward_gradient(Half(), ColourScorer(0), latents, ["a cat"], reward_loss, scale).gradient
        for scale in (1.0, 65536.0)
    )
    expected = reward_gradient(ToyGenerator(), ColourScorer(0), latents, ["a cat"], reward_loss).gradient
    assert ((plain - expected).norm() / expected.norm()).item() > 0.1
    assert ((scaled - expected).norm() / expected.norm()).item() < 0.01


def test_the_scorers_come_before_the_decoder_and_the_network_after() -> None:
    generator = Swapping()
    reward_gradient(generator, ColourScorer(2), torch.randn(1, 4, 8, 8), ["a cat"], reward_loss)
    assert generator.events == ["scored by blue", "decode", "network"]


def test_an_evaluation_brings_each_scorer_before_it_scores() -> None:
    generator = Swapping()
    sampling = Sampling(width=64, height=64, steps=2)
    reward, held_out = ColourScorer(0), {"green": ColourScorer(1)}
    Evaluator(generator, reward, held_out, sampling, ["a cat"], 0, Backend("cpu"), 1).evaluate(0, 1.0)
    assert generator.events == ["scored by red", "decode", "scored by green"]
