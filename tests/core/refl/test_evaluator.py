"""The fixed pictures: drawn in batches, decoded and scored a few at a time, each from its own seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from sd_imagereward.core.refl.evaluator import Evaluator
from sd_imagereward.core.refl.generator import DRAWN_AT_ONCE, Sampling
from sd_imagereward.core.refl.guard import Evaluation
from sd_imagereward.core.scorers.base import Scorer
from sd_imagereward.core.training.backend import Backend
from torch import Tensor
from toy_generator import ColourScorer, ToyGenerator

PROMPTS = [f"prompt {n}" for n in range(11)]


class Counting(ToyGenerator):
    """Notes how many pictures are drawn and decoded at once, and in which order scorers are brought."""

    def __init__(self, apart: str = "") -> None:
        super().__init__()
        self.apart = apart
        self.drawn: list[int] = []
        self.decoded: list[int] = []
        self.brought: list[str] = []

    def denoise(self, prompts: Sequence[str], sampling: Sampling, noise: Any, rollout: Callable[..., Any]) -> Any:
        self.drawn.append(len(prompts))
        return super().denoise(prompts, sampling, noise, rollout)

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return super().decode(latents)

    def bring_scorer(self, scorer: Scorer) -> None:
        if self.brought[-1:] != [scorer.info.name]:
            self.brought.append(scorer.info.name)

    def fit_together(self, one: str, other: str) -> bool:
        return self.apart not in (one, other)


class Share(Backend):
    """One of several processes, without the others."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__()
        self.rank, self.world = rank, world


def evaluate(
    prompts: list[str] = PROMPTS,
    *,
    batch_size: int = 1,
    generator: ToyGenerator | None = None,
    backend: Backend | None = None,
) -> tuple[Evaluation, Tensor]:
    reward, held_out = ColourScorer(0), ColourScorer(1)
    sampling = Sampling(64, 64, steps=3)
    others = {"Green": held_out, "Blue": ColourScorer(2)}
    parts = (generator or ToyGenerator(), reward, others, sampling, prompts, 0, backend or Backend())
    return Evaluator(*parts, batch_size).evaluate(5, 1.0)


def scores(evaluation: Evaluation) -> Tensor:
    return torch.tensor([evaluation.reward, *evaluation.held_out.values()])


def test_many_are_drawn_at_once_and_as_many_decoded_as_an_update_decodes() -> None:
    generator = Counting()
    evaluate(generator=generator)
    assert generator.drawn == [DRAWN_AT_ONCE, len(PROMPTS) - DRAWN_AT_ONCE]
    assert generator.decoded == [1] * len(PROMPTS)
    assert generator.brought == ["red", "green", "blue"] * 2  # not once a picture: where memory is short, networks move
    generator = Counting()
    evaluate(generator=generator, batch_size=4)
    assert generator.drawn == [len(PROMPTS)]
    assert generator.decoded == [4, 4, 3]


def test_prompts_that_do_not_fit_together_are_drawn_apart() -> None:
    generator = Counting(apart=PROMPTS[2])
    found = evaluate(generator=generator)
    assert generator.drawn == [2, 1, 8]
    torch.testing.assert_close(scores(found[0]), scores(evaluate()[0]))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_picture_depends_on_its_own_seed_alone(batch_size: int) -> None:
    """To the rounding of sums, which differ in order from one size of batch to another."""
    evaluation, pixels = evaluate(batch_size=batch_size)
    fewer, first = evaluate(PROMPTS[:2])
    assert (evaluation.update, evaluation.strength) == (5, 1.0)
    assert pixels.shape == (len(PROMPTS), 3, 64, 64)
    assert len({tuple(one.flatten().tolist()) for one in pixels}) == len(PROMPTS)
    torch.testing.assert_close(scores(evaluation)[:, :2], scores(fewer), rtol=1e-5, atol=1e-6)
    assert (pixels[:2].int() - first.int()).abs().max() <= 1


def test_each_held_out_scorer_scores_by_its_title() -> None:
    evaluation, pixels = evaluate()
    assert list(evaluation.held_out) == ["Green", "Blue"]
    for title, channel in (("Green", 1), ("Blue", 2)):
        expected = 2 * pixels[:, channel].float().mean((1, 2)) / 255 - 1
        torch.testing.assert_close(torch.tensor(evaluation.held_out[title]), expected, rtol=0, atol=0.01)


def test_captions_with_several_noises_tell_how_different_their_pictures_are() -> None:
    assert evaluate()[0].diversity == ()
    evaluation, pixels = evaluate(["a cat", "a dog", "a cat", "a fox"])
    (diversity,) = evaluation.diversity
    small = torch.nn.functional.avg_pool2d(pixels[[0, 2]].float() / 255, 2)
    assert diversity == pytest.approx((small[0] - small[1]).square().mean().sqrt().item(), rel=1e-4)


def test_processes_share_the_pictures_and_find_the_same() -> None:
    whole, pixels = evaluate()
    shares = [evaluate(backend=Share(rank, 2)) for rank in range(2)]
    apart = torch.cat([scores(evaluation) for evaluation, _ in shares], dim=1)[:, : len(PROMPTS)]
    torch.testing.assert_close(apart, scores(whole), rtol=1e-5, atol=1e-6)
    drawn = torch.cat([share for _, share in shares])[: len(PROMPTS)]
    assert (drawn.int() - pixels.int()).abs().max() <= 1
