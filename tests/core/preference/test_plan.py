"""An image runs once for all of its comparisons, and the step that comes of it is the one of comparisons run apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.networks.wordpiece import WordPiece
from sd_imagereward.core.preference.batches import PromptReader
from sd_imagereward.core.preference.plan import Plan
from sd_imagereward.core.preference.rankings import Pair, Ranking, pairs_of
from sd_imagereward.core.preference.recipe import Recipe
from sd_imagereward.core.preference.reward_model import RewardModel, freeze, load_base
from sd_imagereward.core.preference.sources import PicturePairs
from sd_imagereward.core.preference.training import RewardTrainer, pair_losses
from sd_imagereward.core.training.backend import Backend

CPU = torch.device("cpu")


def plan_of(*rankings: int) -> Plan:
    """Rankings of so many images, with all of their comparisons."""
    ends, first = [], 0
    for images in rankings:
        ends += list(combinations(range(first, first + images), 2))
        first += images
    return Plan(*zip(*ends, strict=True))


def steps_of(plan: Plan, size: int, seed: int = 0) -> list[list[list[int]]]:
    return plan.steps(size, torch.Generator().manual_seed(seed))


ENDS = st.lists(st.tuples(st.integers(0, 30), st.integers(31, 60)), min_size=1, max_size=80)


@given(ends=ENDS, size=st.integers(1, 20), images=st.integers(2, 12), world=st.integers(1, 4))
def test_every_comparison_is_computed_once_an_epoch(
    ends: list[tuple[int, int]], size: int, images: int, world: int
) -> None:
    plan = Plan(*zip(*ends, strict=True))
    steps = steps_of(plan, size)
    assert len(steps) == -(-len(ends) // size)
    assert all(steps)
    computed: list[int] = []
    for groups in steps:
        for rank in range(world):
            for batch in plan.batches(groups, images, rank, world):
                assert len(plan.images(batch)) <= images
                computed += batch
    assert sorted(computed) == list(range(len(ends)))


def test_a_ranking_stays_in_one_step_and_its_images_in_one_batch() -> None:
    plan = plan_of(*[4] * 30, *[3] * 10)
    steps = steps_of(plan, 16)
    seen = Counter(image for groups in steps for image in plan.images(i for group in groups for i in group))
    assert set(seen.values()) == {1}
    run = [len(plan.images(batch)) for groups in steps for batch in plan.batches(groups, 8)]
    assert sum(run) == 30 * 4 + 10 * 3
    assert all(8 <= sum(map(len, groups)) <= 22 for groups in steps)  # 16, and less than a ranking more


def test_what_is_larger_than_a_step_is_cut_anew_each_epoch() -> None:
    plan = plan_of(12)  # 66 comparisons
    first, second = steps_of(plan, 16, seed=0), steps_of(plan, 16, seed=1)
    assert sorted(sum(map(len, groups)) for groups in first) == [2, 16, 16, 16, 16]
    assert first != second


def test_a_ranking_with_too_many_images_runs_few_of_them_twice() -> None:
    plan = plan_of(9)
    batches = plan.batches(plan.groups, 8)
    assert sum(len(plan.images(batch)) for batch in batches) == 18  # its 36 comparisons one by one: 72
    assert len(plan.batches(plan.groups, 2)) == 36


def test_processes_share_the_rankings_of_a_step() -> None:
    plan = plan_of(4, 4, 4, 4, 4)
    shares = [[plan.images(batch) for batch in plan.batches(plan.groups, 4, rank, 2)] for rank in range(2)]
    assert [len(share) for share in shares] == [3, 2]
    assert set.union(*shares[0]).isdisjoint(set.union(*shares[1]))


def test_comparisons_that_share_images_are_one_group_in_whatever_order() -> None:
    plan = Plan([0, 5, 1, 8], [1, 6, 2, 2])
    assert plan.groups == [[0, 2, 3], [1]]


@pytest.fixture
def pairs(red_pictures: list[Ranking]) -> list[Pair]:
    return pairs_of(red_pictures[:3])


@pytest.fixture
def model(small_base: Path, monkeypatch: pytest.MonkeyPatch) -> RewardModel:
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)  # it is drawn for each run of an image
    model = load_base(str(small_base), CPU).model
    freeze(model, 0.0)
    return model


def trainer_of(
    model: RewardModel, pairs: list[Pair], base: Path, folder: Path, backend: Backend, per_device: int
) -> RewardTrainer:
    reader = PromptReader(WordPiece(base.parent / "vocab.txt"))
    source = PicturePairs(pairs, model.image_size, reader)
    recipe = Recipe(epochs=1, batch_size=len(pairs), per_device=per_device)
    return RewardTrainer(model, source, source, recipe, folder, backend, "")


def gradients_of_a_step(trainer: RewardTrainer, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(trainer, "apply", lambda: None)
    trainer.one_update()
    found = {name: p.grad.clone() for name, p in trainer.updates.parameters.items() if p.grad is not None}
    trainer.updates.optimizer.zero_grad()
    return found


def gradients_apart(model: RewardModel, pairs: list[Pair], base: Path) -> dict[str, torch.Tensor]:
    """Of the mean loss, each comparison run for itself with both of its images."""
    source = PicturePairs(pairs, model.image_size, PromptReader(WordPiece(base.parent / "vocab.txt")))
    model.train()
    for batch in source.batches([[(i, 1.0)] for i in range(len(pairs))]):
        (pair_losses(model(batch), batch.target).sum() / len(pairs)).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("per_device", [1, 3, 8])
def test_a_step_s_gradient_is_that_of_its_comparisons_run_apart(
    model: RewardModel, pairs: list[Pair], small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    per_device: int,
) -> None:  # fmt: skip
    pairs[2] = pairs[2]._replace(tie=True)
    expected = gradients_apart(model, pairs, small_base)
    trainer = trainer_of(model, pairs, small_base, tmp_path, Backend("cpu"), per_device)
    found = gradients_of_a_step(trainer, monkeypatch)
    assert expected.keys() == found.keys()
    assert max(gradient.abs().max().item() for gradient in expected.values()) > 0.02
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0, msg=name)


class Rank(Backend):
    """One of several processes, of which only this one is there."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__("cpu")
        self.rank, self.world = rank, world


def test_the_processes_gradients_are_those_of_one(
    model: RewardModel, pairs: list[Pair], small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients_apart(model, pairs, small_base)
    shares = [
        gradients_of_a_step(trainer_of(model, pairs, small_base, tmp_path, Rank(rank, 4), 8), monkeypatch)
        for rank in range(4)  # with three rankings: one has nothing to do
    ]
    for name in expected:
        mean = torch.stack([share[name] for share in shares]).mean(0)
        torch.testing.assert_close(mean, expected[name], atol=1e-6, rtol=0, msg=name)


def test_training_and_validation_run_each_picture_once_an_epoch(
    model: RewardModel, pairs: list[Pair], small_base: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(model, pairs, small_base, tmp_path, Backend("cpu"), 4)
    run = {True: 0, False: 0}

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], _output: object) -> None:
        run[module.training] += len(inputs[0])

    model.visual_encoder.register_forward_hook(count)
    trainer.train()
    assert run == {True: 12, False: 2 * 12}  # validated before the epoch and after it


def test_an_unreadable_picture_takes_its_comparisons_along_and_no_others(
    model: RewardModel, red_pictures: list[Ranking], small_base: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    ranking = replace(red_pictures[0], images=(broken, *red_pictures[0].images[1:]))
    pairs = pairs_of([ranking])
    source = PicturePairs(pairs, model.image_size, PromptReader(WordPiece(small_base.parent / "vocab.txt")))
    (batch,) = source.batches([[(i, 1.0) for i in range(len(pairs))]])
    assert batch.weight.tolist() == [0.0 if broken in (pair.better, pair.worse) else 1.0 for pair in pairs]
    assert batch.unreadable == (str(broken),)
    assert len(batch.images.pixels) == 4
