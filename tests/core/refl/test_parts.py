"""Randomness, losses, the guard's rule, settings and prompt files, each alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl.config import ReflConfig, config_from, preset, preset_names, read_config, write_config
from sd_imagereward.core.refl.data import CaptionedImages, read_prompts
from sd_imagereward.core.refl.diversity import diversity_of, small
from sd_imagereward.core.refl.generator import Sampling
from sd_imagereward.core.refl.guard import Evaluation, Guard
from sd_imagereward.core.refl.losses import pretraining_loss, prior_loss, reward_loss
from sd_imagereward.core.refl.randomness import Draws, SampleNoise, derive_seed
from sd_imagereward.core.refl.reno import Settings
from sd_imagereward.core.training.ema import Ema
from sd_imagereward.core.training.optimisers import rate_factor
from torch import nn

# randomness


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(0, 20), st.integers(0, 2**32))
def test_two_processes_draw_what_one_with_twice_the_batch_draws(
    batch: int, accumulation: int, prompts: int, update: int, seed: int
) -> None:
    pair = Draws(seed, prompts, batch, accumulation, (30, 39), world=2)
    whole = Draws(seed, prompts, 2 * batch, accumulation, (30, 39))
    for micro in range(accumulation):
        a, b, both = (
            pair.micro_batch(update, micro, 0),
            pair.micro_batch(update, micro, 1),
            whole.micro_batch(update, micro),
        )
        assert (*a.prompts, *b.prompts) == both.prompts
        assert (*a.seeds, *b.seeds) == both.seeds
        assert a.stop == b.stop == both.stop
        assert set(a.seeds).isdisjoint(b.seeds)


def test_every_prompt_is_used_once_an_epoch_and_stops_fill_the_window() -> None:
    draws = Draws(0, 10, 2, 1, (30, 39))
    plans = [draws.micro_batch(update, 0) for update in range(500)]
    assert sorted(n for plan in plans[:5] for n in plan.prompts) == list(range(10))
    assert [n for plan in plans[:5] for n in plan.prompts] != [n for plan in plans[5:10] for n in plan.prompts]
    counts = torch.tensor([plan.stop for plan in plans]).bincount(minlength=40)[30:]
    assert counts.min() > 25
    assert len({seed for plan in plans for seed in plan.seeds}) == 1000


def test_noise_depends_on_the_picture_not_on_its_batch() -> None:
    alone, pair = SampleNoise.of_seeds([5]), SampleNoise.of_seeds([4, 5])
    for _ in range(3):
        assert torch.equal(pair.normal((4, 8, 8))[1], alone.normal((4, 8, 8))[0])


def test_seeds_are_the_same_in_every_version_and_fit_every_generator() -> None:
    expected = int(hashlib.sha256(b"0/noise/7").hexdigest()[:16], 16).to_bytes(8, "big")
    assert derive_seed(0, "noise", 7) == int.from_bytes(expected, "little") // 2
    assert all(derive_seed("any", n) < 2**63 for n in range(64))  # NumPy's and accelerate's are signed


# losses


def test_losses_are_their_formulas() -> None:
    rewards = torch.tensor([-1.0, 0.5, 3.0])
    assert reward_loss(rewards).item() == pytest.approx(1e-3 * (3 + 1.5 + 0) / 3)
    x, noise, alpha, sigma = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), 0.6, 0.8
    x0 = (x - sigma * noise) / alpha
    moved = (x - sigma * (noise + 0.1)) / alpha
    assert prior_loss(moved, x0, alpha**2 / sigma**2).item() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("velocity", [False, True])
def test_min_snr_weights(velocity: bool) -> None:
    prediction, target, snr = torch.ones(2, 4, 2, 2), torch.zeros(2, 4, 2, 2), torch.tensor([1.0, 20.0])
    expected = (1 / 2 + 5 / 21) / 2 if velocity else (1 + 5 / 20) / 2
    assert pretraining_loss(prediction, target, snr, 5.0, velocity).item() == pytest.approx(expected)
    assert pretraining_loss(prediction, target, snr).item() == 1


def test_ema_warms_up_and_swaps() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    ema = Ema({"p": parameter}, decay=0.5)
    values = []
    for value in (1.0, 2.0, 3.0):
        parameter.data.fill_(value)
        ema.update()
        values.append(ema.average["p"].item())
    assert values == pytest.approx([1.0, 1 + 9 / 11, 3 - (3 / 12) * (3 - 1 - 9 / 11)])
    with ema.applied():
        assert parameter.item() == pytest.approx(values[-1])
    assert parameter.item() == 3


def test_learning_rate_schedules() -> None:
    config = ReflConfig(learning_rate=1.0, warmup=4, steps=12)
    assert [rate_factor(config, n) for n in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate_factor(config.but(schedule="linear"), 8) == 0.5
    assert rate_factor(config.but(schedule="cosine"), 8) == pytest.approx(0.5)


# the guard


def evaluation(update: int, reward: float, held_out: list[float], strength: float = 1.0) -> Evaluation:
    return Evaluation(update, strength, (reward,) * len(held_out), {"CLIP": tuple(held_out)})


def test_the_guards_rule() -> None:
    guard = Guard(patience=2, tolerance=1.0)
    guard.add(evaluation(0, 0.0, [1.0, 2.0, 3.0]))
    guard.add(evaluation(10, 0.5, [1.1, 1.9, 3.0]))  # no change beyond its error
    guard.add(evaluation(20, 1.0, [0.5, 1.4, 2.6]))  # fallen everywhere
    assert guard.end == "finished"
    assert guard.best_tuned is guard.evaluations[1]
    guard.add(evaluation(30, 2.0, [0.4, 1.3, 2.5]))
    assert guard.end == "early_stopped"
    assert guard.best_tuned is guard.evaluations[1]
    strength, reason = guard.recommend(
        [evaluation(30, s, [1.0, 2.0, 3.0 - max(0, s - 0.5)], s) for s in (0.3, 0.5, 0.9)]
    )
    assert strength == 0.9  # one picture alone is within the error
    assert "no held-out score has fallen" in reason


def test_the_guards_defaults_are_the_runs() -> None:
    config = ReflConfig()
    assert Guard() == Guard(config.patience, config.tolerance)


def test_the_defaults_of_drawing_are_the_runs() -> None:
    drawn, config = Sampling(512, 512), ReflConfig()
    assert (drawn.steps, drawn.sampler) == (config.denoising_steps, config.sampler)
    assert (drawn.scheduler, drawn.guidance, drawn.negative_prompt) == (
        config.scheduler,
        config.guidance,
        config.negative_prompt,
    )


def test_a_run_whose_scores_all_fall_diverges() -> None:
    guard = Guard(patience=2)
    guard.add(evaluation(0, 0.0, [1.0, 2.0]))
    guard.add(evaluation(10, -1.0, [0.0, 1.0]))
    assert guard.end == "finished"  # once may be a dip
    guard.add(evaluation(20, float("nan"), [float("nan"), 1.0]))
    assert guard.end == "diverged"
    assert not guard.improves(guard.best_tuned)


def test_a_run_whose_held_out_score_falls_while_the_reward_stands_still_ends() -> None:
    guard = Guard(patience=2)
    guard.add(evaluation(0, 0.0, [1.0, 2.0]))
    guard.add(evaluation(10, 0.1, [0.0, 1.0]))
    guard.add(evaluation(20, 0.0, [0.0, 1.0]))
    assert guard.end == "diverged"
    guard.add(evaluation(30, 0.1, [0.0, 1.0]))
    assert guard.end == "early_stopped"


def test_a_gain_within_the_noise_is_no_improvement_and_not_recommended() -> None:
    guard = Guard()
    same = {"CLIP": (1.0, 1.0, 1.0)}
    guard.add(Evaluation(0, 1.0, (0.0, 0.0, 0.0), same))
    luck = Evaluation(10, 1.0, (1.0, -0.9, 0.0), same)  # one picture better, one as much worse
    gain = Evaluation(10, 0.5, (0.2, 0.1, 0.3), same)
    guard.add(luck)
    assert guard.best_tuned is luck
    assert not guard.improves(luck)
    strength, reason = guard.recommend([luck])
    assert strength is None
    assert "at no strength" in reason
    assert guard.recommend([luck, gain])[0] == 0.5
    hacked = Evaluation(10, 0.7, (2.0, 2.0, 2.0), {"CLIP": (0.0, 0.0, 0.0)})
    assert guard.recommend([hacked, luck]) == (
        None,
        "a held-out score has fallen at every strength that raises the reward",
    )
    assert guard.recommend([hacked, gain])[0] == 0.5


def test_nan_from_the_held_out_scorer_counts_as_fallen() -> None:
    guard = Guard()
    guard.add(evaluation(0, 0.0, [1.0, 2.0]))
    assert guard.has_fallen(evaluation(1, 1.0, [float("nan"), 2.0]))


def test_without_a_held_out_scorer_the_highest_reward_is_kept_and_only_its_fall_stops_the_run() -> None:
    guard = Guard(patience=1)
    for update, reward in enumerate((0.0, 2.0, 1.0)):
        guard.add(Evaluation(update, 1.0, (reward,) * 2, {}))
        assert guard.end == "finished"
    assert guard.best_tuned is guard.evaluations[1]
    again = Guard()
    again.restore(guard.state(), 2, [])
    assert again.evaluations == guard.evaluations
    assert guard.evaluations[1].in_words() == "reward +2.0000"
    guard.add(Evaluation(3, 1.0, (-1.0, -1.0), {}))
    assert guard.end == "diverged"


def both(update: int, reward: float, clip: list[float], taste: list[float], strength: float = 1.0) -> Evaluation:
    held_out = {"CLIP": tuple(clip), "Taste": tuple(taste)}
    return Evaluation(update, strength, (reward,) * len(clip), held_out, (0.1, 0.3))


def test_of_several_held_out_scorers_each_is_judged_by_itself() -> None:
    guard = Guard(patience=2)
    guard.add(both(0, 0.0, [1.0, 2.0], [100.0, 300.0]))
    rises, falls = [101.0, 301.0], [50.0, 250.0]
    guard.add(both(10, 1.0, [0.8, 1.8], rises))  # 0.2 is much for CLIP
    assert (guard.fallen(guard.evaluations[1]), guard.is_unsound(guard.evaluations[1])) == (["CLIP"], True)
    guard.add(both(20, 2.0, [2.0, 3.0], falls))
    assert (guard.fallen(guard.evaluations[2]), guard.end) == (["Taste"], "early_stopped")
    # both fell: CLIP by 0.4 standard deviations of the untuned pictures' scores, Taste by 0.5 of its own
    assert guard.best_tuned is guard.evaluations[1]
    guard.add(both(30, 0.5, [1.0, 2.0], [99.0, 299.0]))
    assert guard.best_tuned is guard.evaluations[3]
    sound = both(20, 0.5, [1.0, 2.0], [100.0, 300.0], 0.3)
    guard.evaluations[0] = Evaluation(0, 1.0, (0.0, 0.1), guard.untuned.held_out)
    assert guard.improves(sound)
    assert guard.recommend([guard.evaluations[2], sound])[0] == 0.3
    assert both(1, 1.0, [1.0], [2.0]).in_words() == (
        "reward +1.0000, held out CLIP +1.0000, held out Taste +2.0000, diversity 0.2000"
    )


def test_the_guards_state_is_read_as_it_was_written_and_checked() -> None:
    guard, again = Guard(), Guard()
    guard.add(both(0, 0.0, [1.0, 2.0], [3.0, 4.0]))
    state = json.loads(json.dumps(guard.state()))
    again.restore(state, 2, ["CLIP", "Taste"])
    assert again.evaluations == guard.evaluations
    for pictures, titles in ((3, ["CLIP", "Taste"]), (2, ["CLIP"]), (2, [])):
        with pytest.raises(ValueError, match="expected"):
            again.restore(state, pictures, titles)
    state[0]["held_out"]["Taste"] = [3.0]
    with pytest.raises(ValueError, match="expected 2 scores an evaluation, got 2, 2, 1"):
        again.restore(state, 2, ["CLIP", "Taste"])


def test_a_state_from_when_there_was_one_held_out_scorer_is_read() -> None:
    old = [{"update": 0, "strength": 1.0, "reward": [1.0, 2.0], "held_out": [3.0, 4.0]}]
    guard = Guard()
    guard.restore(old, 2, ["CLIP"])
    assert guard.evaluations == [Evaluation(0, 1.0, (1.0, 2.0), {"CLIP": (3.0, 4.0)})]
    with pytest.raises(ValueError, match="zip"):
        guard.restore(old, 2, ["CLIP", "Taste"])


def test_the_diversity_of_one_captions_pictures() -> None:
    grey = torch.full((4, 3, 64, 48), 51, dtype=torch.uint8)
    grey[1] += 51  # 0.2 brighter all over
    grey[2] += 102
    found = diversity_of(["a cat", "a cat", "a cat", "a dog"], small(grey))
    assert found == pytest.approx([(0.2 + 0.4 + 0.2) / 3])  # one picture of a dog is not different from another
    assert diversity_of(["a", "b", "c", "d"], small(grey)) == ()
    guard = Guard()
    guard.add(Evaluation(0, 1.0, (0.0,), {}, (0.4, 0.2)))
    assert guard.relative_diversity(Evaluation(1, 1.0, (0.0,), {}, (0.2, 0.1))) == pytest.approx(0.5)
    assert guard.relative_diversity(Evaluation(1, 1.0, (0.0,), {})) is None


# settings


def test_presets_are_the_references() -> None:
    pytest.importorskip("yaml")
    assert preset_names() == ["lora", "sd1-full", "sdxl-full", "sdxl-lora"]
    for name in preset_names():
        config = preset(name)
        config.check()
        same = (
            config.denoising_steps,
            config.stop_window,
            config.guidance,
            config.sampler,
            config.threshold,
            config.scale,
        )
        assert same == (40, (30, 39), 1.0, "ddpm", 2.0, 1e-3)
        assert (config.weight_decay, config.clip, config.optimizer) == (1e-2, 1.0, "adamw")
        assert (config.beta1, config.beta2, config.epsilon, config.seed) == (0.9, 0.999, 1e-8, 0)
    sd1, lora = preset("sd1-full"), preset("sdxl-lora")
    assert (sd1.learning_rate, sd1.batch_size, sd1.accumulation, sd1.steps, sd1.ema, sd1.width) == (
        1e-5,
        2,
        4,
        100,
        True,
        512,
    )
    assert (lora.learning_rate, lora.lora_rank, lora.lora_alpha, lora.warmup, lora.width) == (1e-4, 4, 4, 500, 1024)
    assert preset("lora") == ReflConfig()
    assert [preset(name).evaluation_guidance for name in preset_names()] == [None, 7.5, 5.0, 5.0]


def test_settings_survive_yaml(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    config = ReflConfig(
        prompts=("a cat", "ein Fuchs — 狐"), stop_window=(3, 9), lora_alpha=None, evaluation_guidance=3.0
    )
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    (tmp_path / "config.json").write_text(json.dumps(config.plain()))
    assert read_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"lerning_rate": 1}, r"no such setting: lerning_rate \(did you mean learning_rate\?\)"),
        ({"steps": "many"}, "steps: 'many'"),
        ({"steps": 1.5}, "whole number"),
        ({"guard": "yes"}, "true or false"),
        ({"steps": float("inf")}, "steps: inf"),
        ({"steps": True}, "a number expected"),
        ({"name": {"a": 1}}, "a text expected"),
        ({"stop_window": [1, 2, 3]}, "stop_window"),
        ({"learning_rate": None}, "a value is needed"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ImageRewardError, match=error):
        config_from(values)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": -1.0},
        {"clip": float("inf")},
        {"threshold": float("nan")},
        {"tolerance": float("nan")},
        {"steps": 1.5},
        {"steps": -1},
        {"keep_checkpoints": 0},
        {"keep_checkpoints": True},
        {"warmup": -1},
        {"beta1": 1.0},
        {"ema_decay": 1.5},
        {"lora_alpha": 0.0},
        {"evaluation_guidance": 0.0},
        {"snr_gamma": -5.0},
        {"guard": 1},
        {"seed": "x"},
        {"stop_window": (1.5, 3)},
        {"stop_window": 3},
        {"prompts": (1,)},
        {"name": "a/b"},
        {"name": "con"},
        {"name": "end."},
        {"name": "a:b"},
    ],
)
def test_settings_from_python_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ImageRewardError, match=next(iter(values))):
        ReflConfig(**values).check()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    config = ReflConfig(steps=np.int64(3), learning_rate=np.float64(0.5))
    config.check()
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == ReflConfig(steps=3, learning_rate=0.5)


@pytest.mark.parametrize(
    "values", [{"iterations": 0}, {"learning_rate": float("nan")}, {"momentum": 2.0}, {"clip": 0.0}]
)
def test_settings_of_reno_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ImageRewardError, match=next(iter(values))):
        Settings(**values)


@pytest.mark.parametrize(
    ("given", "scorers"),
    [
        ("technical", ("technical",)),
        ("clip, mix(aesthetic=1, pickscore=2),clip", ("clip", "mix(aesthetic=1, pickscore=2)")),
        (["clip", "mix(aesthetic=1, pickscore=2)"], ("clip", "mix(aesthetic=1, pickscore=2)")),
        ("none", ()),
        ([], ()),
    ],
)
def test_held_out_names_one_scorer_or_several(given: Any, scorers: tuple[str, ...]) -> None:
    config = config_from({"held_out": given})
    config.check()
    assert config.held_out_scorers == scorers


def test_yaml_numbers_without_a_dot_are_numbers() -> None:
    assert config_from({"learning_rate": "1e-4"}).learning_rate == 1e-4  # YAML 1.1 reads 1e-4 as text


# prompts


def test_prompts_from_every_kind_of_file(tmp_path: Path) -> None:
    expected = ["a cat", "a dog, running"]
    files = {
        "p.txt": "a cat\na dog, running\n\n",
        "p.tsv": "id\tprompt\n1\ta cat\n2\ta dog, running\n",
        "p.csv": 'id,prompt\n1,a cat\n2,"a dog, running"\n',
        "p.jsonl": '{"caption": "a cat"}\n{"caption": "a dog, running"}\n',
        "p.json": json.dumps([{"text": "a cat", "image": "000044-0048"}, {"text": "a dog, running", "image": "x"}]),
        "list.json": json.dumps(expected),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert read_prompts(str(tmp_path / name)) == expected, name


def test_the_references_prompts_are_read(shared_data: Path) -> None:
    assert len(read_prompts(str(shared_data / "refl_data.json"))) == 10000


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("p.txt", "a cat\n\na dog\n", "prompt 2 of"),
        ("p.txt", "", "holds no prompts"),
        ("p.csv", "title\nx\n", "has columns title; one of text, prompt, caption"),
        ("p.json", "{", r"cannot read .*p\.json as JSON"),
        ("p.json", '{"text": "a cat"}', "expected a list of rows"),
        ("p.json", "[" * 100_000, "more than 64 levels"),
        ("p.jsonl", '"\\ud800"', "half of a surrogate pair"),
        ("p.docx", "x", "its ending must be"),
    ],
)
def test_bad_prompt_files_are_named(tmp_path: Path, name: str, text: str, error: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ImageRewardError, match=error):
        read_prompts(str(tmp_path / name))


def test_a_list_without_pictures_cannot_drive_the_pretraining_loss(tmp_path: Path) -> None:
    (tmp_path / "refl_data.json").write_text(json.dumps([{"text": "a cat", "image": "000044-0048"}]))
    with pytest.raises(ImageRewardError, match="needs the pictures themselves"):
        CaptionedImages.read(str(tmp_path / "refl_data.json"))
