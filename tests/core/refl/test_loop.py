"""The loop on a toy generator: it learns, resumes to the bit, survives NaN and interruption, and heeds the guard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl import Observer, ReflConfig, ReflTrainer, read_lora
from sd_imagereward.core.refl.checks import check_scorer
from sd_imagereward.core.refl.data import RunInputs
from sd_imagereward.core.refl.lora_files import lora_from_tensors
from sd_imagereward.core.scorers.mix import MixScorer
from torch import Tensor
from toy_generator import ColourScorer, ToyGenerator

pytest.importorskip("yaml", reason="run folders hold YAML")

TINY = ReflConfig(
    prompts=("a cat", "a dog", "a fox"),
    steps=6,
    batch_size=2,
    accumulation=2,
    learning_rate=1e-2,
    lora_rank=2,
    denoising_steps=4,
    stop_window=(2, 3),
    evaluate_every=2,
    evaluation_images=2,
    checkpoint_every=2,
    dtype="float32",
    tracker="none",
    model="toy",
)


def train(config: ReflConfig, *, observers: tuple[Observer, ...] = (), resume: bool = False, **parts: Any) -> Any:
    generator = ToyGenerator()
    trainer = ReflTrainer(
        parts.pop("generator", generator),
        parts.pop("scorer", ColourScorer(0)),
        config,
        held_out=parts.pop("held_out", ColourScorer(0)),
        observers=observers,
        resume=resume,
        **parts,
    )
    return trainer, trainer.train()


class StopAt(Observer):
    def __init__(self, update: int, error: type[BaseException]) -> None:
        self.update, self.error, self.closed = update, error, False

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        if record["update"] == self.update:
            raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_the_reward_rises_on_the_fixed_pictures(tune: str) -> None:
    _, result = train(TINY.but(tune=tune, steps=20, evaluate_every=20, learning_rate=3e-2))
    assert result.ended == "finished"
    first, last = result.evaluations[0], result.evaluations[-1]
    assert last.mean_reward > first.mean_reward + 0.1
    assert result.before.shape == result.after.shape == (2, 3, 64, 64)
    assert not torch.equal(result.before, result.after)


def test_the_loss_is_what_the_paper_says() -> None:
    _, result = train(TINY.but(steps=1, batch_size=1, accumulation=1, guard=False))
    record = result.records[0]
    assert record["loss"] == pytest.approx(1e-3 * (2.0 - record["reward"]), rel=1e-6)


def test_more_gradient_steps_give_another_gradient() -> None:
    norms = [train(TINY.but(steps=1, guard=False, gradient_steps=k))[1].records[0]["gradient_norm"] for k in (1, 2, 3)]
    assert len({round(norm, 12) for norm in norms}) == 3


def test_prior_loss_pulls_back_to_the_untuned_network() -> None:
    free = train(TINY.but(steps=15, evaluate_every=15))[1]
    held = train(TINY.but(steps=15, evaluate_every=15, prior_weight=1.0))[1]
    start = free.evaluations[0].mean_reward
    assert free.evaluations[-1].mean_reward - start > 2 * abs(held.evaluations[-1].mean_reward - start)


def test_the_recorded_loss_is_the_sum_of_its_weighted_parts() -> None:
    config = TINY.but(steps=3, guard=False, prior_weight=0.5)
    record = train(config)[1].records[-1]
    assert record["prior_loss"] > 0
    assert record["loss"] == pytest.approx(record["reward_loss"] + 0.5 * record["prior_loss"], rel=1e-12)


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_resume_is_exact(tmp_path: Path, tune: str) -> None:
    config = TINY.but(tune=tune, ema=True, warmup=2, schedule="cosine", checkpoint_every=0)
    whole, expected = train(config.but(output=str(tmp_path / "whole")))
    cut = config.but(output=str(tmp_path / "cut"))
    with pytest.raises(KeyboardInterrupt):
        train(cut, observers=(StopAt(3, KeyboardInterrupt),))
    resumed, result = train(cut, resume=True)
    for name, tensor in whole.tuning.state().items():
        assert torch.equal(tensor, resumed.tuning.state()[name]), name
    forget = ("seconds",)
    strip = [[{k: v for k, v in r.items() if k not in forget} for r in each.records] for each in (expected, result)]
    assert strip[0] == strip[1]
    assert expected.evaluations == result.evaluations
    assert torch.equal(expected.after, result.after)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_a_checkpoint_and_a_usable_lora(tmp_path: Path, error: type[BaseException]) -> None:
    observer = StopAt(3, error)
    with pytest.raises(error):
        train(TINY.but(output=str(tmp_path / "run")), observers=(observer,))
    assert observer.closed
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "update-00000003.pt"
    file = read_lora(tmp_path / "run" / "run.safetensors")
    assert lora_from_tensors(file.tensors, ToyGenerator().layers()).names
    assert file.metadata["refl_steps"] == "3"
    assert "3 of 6" in file.metadata["refl_note"]


def test_nan_skips_the_update_and_ten_stop_the_run() -> None:
    class Sometimes(ColourScorer):
        calls, bad = 0, 10**9

        def score(self, pixels: Tensor, prompts: Any) -> Tensor:
            Sometimes.calls += 1
            score = super().score(pixels, prompts)
            return score * float("nan") if Sometimes.calls in range(4, 4 + Sometimes.bad) else score

    messages: list[str] = []

    class Ear(Observer):
        def on_message(self, text: str) -> None:
            messages.append(text)

    config = TINY.but(steps=30, accumulation=1, guard=False)
    Sometimes.bad = 2
    _, result = train(config, scorer=Sometimes(), observers=(Ear(),))
    assert [record["update"] for record in result.records if record["skipped"]] == [3, 4]
    assert all(torch.isfinite(parameter).all() for parameter in result.lora.parameters())
    assert messages[0] == "2 pictures an update (batch 2 x accumulation 1, one process)"
    assert "skipped" in messages[1]
    Sometimes.calls, Sometimes.bad = 0, 10**9
    with pytest.raises(ImageRewardError, match="10 updates in a row"):
        train(config, scorer=Sometimes())


def test_the_guard_stops_a_planted_hack_and_keeps_the_weights_before_it() -> None:
    """The reward asks for red, the held-out scorer dislikes it: every gain is a loss."""
    config = TINY.but(steps=40, patience=2, learning_rate=3e-2, tolerance=0.0)
    _, result = train(config, held_out=ColourScorer(0, sign=-1.0))
    assert result.ended == "early_stopped"
    assert result.updates < 40
    disliked = [e.means_held_out["Red"] for e in result.evaluations]
    assert all(mean < disliked[0] for mean in disliked[-2:])
    assert result.best.means_held_out["Red"] == max(disliked[1:])
    assert result.recommended_strength is None
    assert "fallen at every strength" in result.reason
    assert result.improved is False
    assert "use the untuned one" in result.verdict


def test_one_of_several_held_out_scorers_is_enough_to_stop_a_hack(tmp_path: Path) -> None:
    """The second dislikes red; the first likes it, and has the same title."""
    messages: list[str] = []

    class Ear(Observer):
        def on_message(self, text: str) -> None:
            messages.append(text)

    config = TINY.but(output=str(tmp_path / "run"), steps=40, patience=2, learning_rate=3e-2, tolerance=0.0)
    scorers = [ColourScorer(0), ColourScorer(0, sign=-1.0)]
    _, result = train(config, held_out=scorers, observers=(Ear(),))
    assert result.ended == "early_stopped"
    assert list(result.best.held_out) == ["Red", "Red 2"]
    assert any(text.endswith("2 evaluations in a row (held out: Red 2)") for text in messages)
    trainer = ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=scorers, resume=True)
    assert trainer.guard.evaluations == result.evaluations
    with pytest.raises(ImageRewardError, match="expected held-out scores by Red, got Red, Red 2"):
        ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=scorers[0], resume=True)


def test_the_best_weights_are_the_ones_kept(tmp_path: Path) -> None:
    trainer, result = train(TINY.but(output=str(tmp_path / "run"), steps=8))
    saved = lora_from_tensors(read_lora(result.files[0]).tensors, ToyGenerator().layers())
    for (name, kept), (_, now) in zip(saved.items(), trainer.tuning.lora.items(), strict=True):
        assert torch.equal(kept.up, now.up), name
    metadata = read_lora(result.files[0]).metadata
    assert metadata["refl_recommended_strength"] == f"{result.recommended_strength:.2f}"
    assert [evaluation.strength for evaluation in result.sweep] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == list(range(1, 9))


def test_the_sweep_can_be_left_out(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watch(Observer):
        def on_evaluation(self, evaluation: Any, pixels: Tensor) -> None:
            seen.append(evaluation.strength)

    config = TINY.but(output=str(tmp_path / "run"), sweep=False)
    _, result = train(config, observers=(Watch(),))
    assert seen == [1.0] * 4  # before the first update, then every second
    assert (result.sweep, result.recommended_strength, result.reason) == ([], None, "the strength was not swept")
    metadata = read_lora(result.files[0]).metadata
    assert metadata["refl_steps"] == "6"
    assert "refl_recommended_strength" not in metadata
    assert metadata["refl_note"] == "the strength was not swept"


def test_full_tuning_has_no_strength_to_recommend() -> None:
    _, result = train(TINY.but(tune="full", steps=2))
    assert (result.sweep, result.recommended_strength, result.reason) == ([], None, "only a LoRA has a strength")


def test_going_on_with_fewer_updates_than_were_made_is_refused(tmp_path: Path) -> None:
    config = TINY.but(output=str(tmp_path / "run"), guard=False, steps=4)
    train(config)
    with pytest.raises(ImageRewardError, match="already made 4 updates, and steps is 3"):
        train(config.but(steps=3), resume=True)


def test_going_on_from_a_lora_file(tmp_path: Path) -> None:
    first = train(TINY.but(output=str(tmp_path / "first"), guard=False))[1]
    trainer, _ = train(TINY.but(lora_from=str(first.files[0]), guard=False, learning_rate=1e-12))
    for (_, a), (_, b) in zip(first.lora.items(), trainer.tuning.lora.items(), strict=True):
        torch.testing.assert_close(a.up, b.up)


def test_detach_leaves_the_network_as_it_was() -> None:
    generator = ToyGenerator()
    before = {name: tensor.clone() for name, tensor in generator.network.state_dict().items()}
    trainer, _ = train(TINY.but(guard=False), generator=generator)
    trainer.tuning.detach()
    after = generator.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(module._forward_hooks for module in generator.network.modules())


def test_only_the_prompts_that_will_be_used_are_encoded() -> None:
    generator = ToyGenerator()
    prompts = tuple(f"prompt {n}" for n in range(100))
    train(TINY.but(prompts=prompts, steps=2, guard=False), generator=generator)
    assert len([prompt for prompt in generator.embedded if prompt]) == 8


class Guided(ToyGenerator):
    """Notes at which guidance it draws; autograd is on in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.training: set[float] = set()
        self.evaluation: set[tuple[float, str]] = set()

    def denoise(self, prompts: Any, sampling: Any, noise: Any, rollout: Any) -> Any:
        if torch.is_grad_enabled():
            self.training.add(sampling.guidance)
        else:
            self.evaluation.add((sampling.guidance, sampling.negative_prompt))
        return super().denoise(prompts, sampling, noise, rollout)


@pytest.mark.parametrize(("given", "expected"), [(None, 7.5), (3.0, 3.0), (1.0, 1.0)])
def test_evaluations_are_drawn_at_the_guidance_that_people_draw_with(
    tmp_path: Path, given: float | None, expected: float
) -> None:
    generator, messages = Guided(), []

    class Ear(Observer):
        def on_message(self, text: str) -> None:
            messages.append(text)

    config = TINY.but(output=str(tmp_path / "run"), evaluation_guidance=given, guidance=2.0, negative_prompt="blurry")
    _, result = train(config, generator=generator, observers=(Ear(),))
    assert generator.training == {2.0}
    assert generator.evaluation == {(expected, "blurry")}
    assert "blurry" in generator.embedded
    metadata = read_lora(result.files[0]).metadata
    assert metadata["refl_evaluation_guidance"] == f"{expected:g}"
    assert metadata["modelspec.usage_hint"].endswith(f" at guidance {expected:g}")
    assert f"drawing 2 fixed pictures of the untuned model at guidance {expected:g}, to compare with" in messages


def test_a_run_without_a_guard_says_no_guidance_of_evaluations(tmp_path: Path) -> None:
    _, result = train(TINY.but(output=str(tmp_path / "run"), steps=1, guard=False))
    assert "refl_evaluation_guidance" not in read_lora(result.files[0]).metadata


RED = ColourScorer(0)
MIXED = MixScorer([RED, ColourScorer(1)], [1.0, 0.5])


def test_a_run_without_a_folder_goes_to_its_file_by_one_call(tmp_path: Path) -> None:
    _, result = train(TINY.but(steps=2, evaluate_every=1))
    path = result.write_lora(tmp_path / "mine.safetensors")
    file = read_lora(path)
    written = lora_from_tensors(file.tensors, ToyGenerator().layers())
    assert all(torch.equal(a.up, b.up) for (_, a), (_, b) in zip(written.items(), result.lora.items(), strict=True))
    assert file.metadata["ss_output_name"] == "mine"
    assert file.metadata["refl_reward"] == "Red"  # the scorer that was given, whatever the config calls it
    assert file.metadata["refl_note"] == result.reason
    assert file.metadata["refl_note"] == result.reason
    _, whole = train(TINY.but(steps=1, tune="full"))
    with pytest.raises(ImageRewardError, match="no LoRA to write"):
        whole.write_lora(tmp_path / "none.safetensors")


def test_files_of_a_run_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    config = TINY.but(prompts=str(tmp_path / "prompts.txt"), steps=1)
    inputs = RunInputs.read(config)
    (tmp_path / "prompts.txt").unlink()
    trainer, _ = train(config, inputs=inputs)
    assert trainer.prompts == ["a cat", "a dog"]
    with pytest.raises(ImageRewardError, match="no such file"):
        train(config)


class NoNumber(ColourScorer):
    """A score like any other, whose gradient is `value` in one place."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def score(self, pixels: Tensor, prompts: Any) -> Tensor:
        passed = 1 * pixels
        passed.register_hook(lambda gradient: gradient.index_fill(-1, torch.tensor([3]), self.value))
        return super().score(passed, prompts)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_whose_gradient_is_not_finite_is_refused(value: float) -> None:
    check_scorer(NoNumber(0.5))
    with pytest.raises(ImageRewardError, match="no finite gradient"):
        check_scorer(NoNumber(value))


def test_a_reward_is_asked_about_a_picture_that_could_be_one() -> None:
    seen: list[Tensor] = []

    class Watched(ColourScorer):
        def score(self, pixels: Tensor, prompts: Any) -> Tensor:
            seen.append(pixels.detach())
            return super().score(pixels, prompts)

    check_scorer(Watched())
    (pixels,) = seen
    assert 0 < pixels.min() < pixels.max() < 1
    assert (pixels.flatten(2).std(-1) > 0.1).all(), "a flat picture may have no gradient"


def test_a_reward_whose_gradient_is_zero_is_refused() -> None:
    class Constant(ColourScorer):
        def score(self, pixels: Tensor, prompts: Any) -> Tensor:
            return 0 * super().score(pixels, prompts)

    with pytest.raises(ImageRewardError, match="a zero gradient"):
        check_scorer(Constant())


class Flat(ColourScorer):
    def score(self, pixels: Tensor, prompts: Any) -> Tensor:
        return super().score(pixels.detach().round(), prompts)


@pytest.mark.parametrize(
    ("changes", "parts", "error"),
    [
        ({"prompts": ()}, {}, r"no prompts"),
        ({"prompts": ("a cat", " ")}, {}, r"prompt 2"),
        ({"stop_window": (2, 4)}, {}, r"2..4.*0..3"),
        ({"gradient_steps": 4}, {}, "lower gradient_steps to 3"),
        ({"width": 60, "height": 64}, {}, r"60 x 64.*multiples of 8"),
        ({}, {"scorer": RED, "held_out": RED}, "is the reward model itself"),
        ({}, {"scorer": MIXED, "held_out": RED}, "is a component of the reward model 'mix"),
        ({}, {"scorer": Flat()}, "no gradient"),
        ({}, {"scorer": RED, "held_out": [ColourScorer(1), RED]}, "is the reward model itself"),
        ({}, {"held_out": None}, "needs a held-out scorer"),
        ({}, {"held_out": []}, "needs a held-out scorer"),
    ],
)
def test_bad_input_is_refused_before_training(changes: dict[str, Any], parts: dict[str, Any], error: str) -> None:
    with pytest.raises(ImageRewardError, match=error):
        train(TINY.but(**changes), **parts)


def test_a_folder_with_other_files_is_refused_and_not_called_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageRewardError, match=r"is not empty: choose another folder for the run$"):
        train(TINY.but(output=str(tmp_path), guard=False, steps=1))


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    config = TINY.but(output=str(tmp_path / "run"), guard=False, steps=1)
    train(config)
    with pytest.raises(ImageRewardError, match=r"holds another run.*--resume"):
        train(config)
