"""What the training of a reward model does with damaged files and refused writes: it goes on, and says what it did."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sd_imagereward.core import ImageRewardError, load_scorer, score_images
from sd_imagereward.core.cli import EXIT_INTERRUPTED, main
from sd_imagereward.core.cli.train_reward import _Shown
from sd_imagereward.core.files import atomic
from sd_imagereward.core.preference.rankings import Ranking
from sd_imagereward.core.preference.reading import read_rankings
from sd_imagereward.core.preference.recipe import HEAD_ONLY, Recipe
from sd_imagereward.core.preference.score_log import Key, ScoreLog
from sd_imagereward.core.preference.train_reward import UNFINISHED, Trained, Unfinished, train_reward_model
from sd_imagereward.core.preference.training import Step
from sd_imagereward.core.training.backend import Backend, start_backend
from sd_imagereward.core.training.checkpoints import BEST, CHECKPOINTS, Checkpoints
from sd_imagereward.core.training.interrupts import interrupt_later, terminated_as_interrupted
from sd_imagereward.core.training.states import load_state, save_state
from sd_imagereward.core.weights.read import read_checkpoint, read_metadata

RECIPE = replace(HEAD_ONLY, epochs=4)
ONE = Backend("cpu")


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def few(red_pictures: list[Ranking]) -> list[Ranking]:
    return red_pictures[:10]


def train(rankings: list[Ranking], base: Path, folder: Path, **options: Any) -> Trained:
    return train_reward_model(rankings[3:], rankings[:3], str(base), folder, RECIPE, backend=ONE, **options)


def stop_at(step: int) -> Any:
    def on_step(made: Step) -> None:
        if made.done == step:
            raise Stop

    return on_step


@pytest.fixture(scope="module")
def whole(few: list[Ranking], small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return tensors_of(train(few, small_base, tmp_path_factory.mktemp("whole")).path)


@pytest.fixture(scope="module")
def stopped(few: list[Ranking], small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After the third of four epochs."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stop):
        train(few, small_base, folder, on_step=stop_at(5))
    return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.read() for name, tensor in read_checkpoint(path).tensors.items()}


def assert_same(path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = tensors_of(path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return Checkpoints(folder / CHECKPOINTS).paths()[::-1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_exception_saves_the_step_it_came_at(
    folder: Path, few: list[Ranking], small_base: Path, whole: dict[str, torch.Tensor]
) -> None:
    newest, before = checkpoints(folder)
    assert load_state(newest)["update"] == 5
    assert load_state(before)["update"] < 5
    steps: list[int] = []
    result = train(few, small_base, folder, resume=True, on_step=lambda step: steps.append(step.done))
    assert steps[0] == 6
    assert [epoch.epoch for epoch in result.history] == [0, 1, 2, 3, 4]
    assert_same(result.path, whole)


@pytest.mark.parametrize("step", [2, 4])
def test_an_exception_between_the_last_step_and_the_validation(
    tmp_path: Path, few: list[Ranking], small_base: Path, whole: dict[str, torch.Tensor], step: int
) -> None:
    with pytest.raises(Stop):
        train(few, small_base, tmp_path, on_step=stop_at(step))
    assert_same(train(few, small_base, tmp_path, resume=True).path, whole)


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    folder: Path, few: list[Ranking], small_base: Path, whole: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    cut(checkpoints(folder)[0])
    with caplog.at_level(logging.WARNING):
        result = train(few, small_base, folder, resume=True)
    assert "going on from the checkpoint before it" in caplog.text
    assert_same(result.path, whole)


def test_with_no_state_left_the_error_says_what_to_do(folder: Path, few: list[Ranking], small_base: Path) -> None:
    for path in checkpoints(folder):
        cut(path)
    with pytest.raises(ImageRewardError, match=r"cannot go on.*update-00000005.*update-00000004.*leave out --resume"):
        train(few, small_base, folder, resume=True)
    assert train(few, small_base, folder).path.is_file()


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_lost_best_weights_are_reported(
    folder: Path, few: list[Ranking], small_base: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    damage(folder / BEST)
    result = train(few, small_base, folder, resume=True)
    assert "the best weights so far are lost" in caplog.text
    assert result.best.epoch >= 3


@pytest.mark.parametrize("held", ["best.pt", "update-", "history.json", "ImageReward.safetensors"])
def test_a_refused_write_ends_no_training(
    tmp_path: Path, few: list[Ranking], small_base: Path, whole: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch, held: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", 0.01)
    real = os.replace

    def refusing(source: Any, target: Any) -> None:
        if Path(target).name.startswith(held):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        real(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    result = train(few, small_base, tmp_path)
    assert_same(result.path, whole)
    assert (result.path.name == "ImageReward.safetensors") == (held != "ImageReward.safetensors")


@pytest.mark.windows_rules
def test_a_base_in_the_output_folder_under_windows_rules(tmp_path: Path, few: list[Ranking], small_base: Path) -> None:
    base = train(few, small_base, tmp_path).path
    before = base.read_bytes()
    assert train(few, base, tmp_path).path == base
    assert base.read_bytes() != before
    assert read_checkpoint(base).tensors


def test_a_place_that_takes_no_files_is_reported_before_the_base_is_read(tmp_path: Path, few: list[Ranking]) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ImageRewardError, match="cannot write into"):
        train(few, tmp_path / "no base", tmp_path / "file" / "run")


def test_a_disk_without_room_is_reported_before_the_first_epoch(
    tmp_path: Path, few: list[Ranking], small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(ImageRewardError, match="GB of free disk space"):
        train(few, small_base, tmp_path)


ODD: list[Any] = [None, -1, 10**30, 2.5, "x", [], [1], {}, {"a": 1}, torch.zeros(0), torch.zeros(3, 3), True]


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_ends_in_the_projects_own_errors(
    folder: Path, few: list[Ranking], small_base: Path, seed: int
) -> None:
    dice = random.Random(seed)
    path = dice.choice([*checkpoints(folder), folder / BEST])
    state = load_state(path)
    key = dice.choice(sorted(state))
    if isinstance(state[key], dict) and state[key] and dice.random() < 0.6:
        state[key][dice.choice(sorted(state[key], key=str))] = dice.choice(ODD)
    elif dice.random() < 0.3:
        del state[key]
    else:
        state[key] = dice.choice(ODD)
    save_state(state, path)
    if dice.random() < 0.3:
        cut(checkpoints(folder)[0])
    try:
        result = train(few, small_base, folder, resume=True)
    except ImageRewardError:
        return
    assert len(result.history) == 5


SEED_ROW = '[{"id": "1", "prompt": "a cat", "generations": ["a.png", "b.png"], "ranking": [1, 2]}, {"prompt": "x"}]'


@pytest.mark.parametrize("seed", range(80))
def test_random_damage_of_rankings_ends_in_the_projects_own_errors(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    text = list(SEED_ROW)
    for _ in range(dice.randint(1, 5)):
        place = dice.randrange(len(text))
        text[place : place + dice.randint(0, 4)] = dice.choice(
            ["{", "]", "NaN", '"', "null", "1e999", "[", ":", "", "-", "\x00"]
        )
    path = tmp_path / f"data{dice.choice(['.json', '.jsonl', '.csv'])}"
    path.write_text("".join(text))
    try:
        rankings = read_rankings(path)
    except ImageRewardError:
        return
    assert all(rank == rank for ranking in rankings for rank in ranking.ranks)


def test_a_damaged_score_log_gives_what_can_be_read(tmp_path: Path) -> None:
    path, key = tmp_path / "scores.jsonl", Key("a.png", "1:2", "a\u2028cat")
    log = ScoreLog(path, "scorer")
    log.add([(key, 0.5)])
    good = path.read_bytes()
    for line in (
        b"[" * 100_000,
        b'[["a"], "b", "c", 1.0]',
        b'["a", "b", "c", "d"]',
        b"\xff\xfe",
        b'["a", "b"',
        b"null",
    ):
        path.write_bytes(good + line + b"\n" + b'["b.png", "", "x", NaN]')
        assert ScoreLog(path, "scorer").get(key) == 0.5


def test_scores_that_cannot_be_written_are_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sd_imagereward.core.preference import score_log

    log = ScoreLog(tmp_path / "scores.jsonl", "scorer")
    first, second = (Key(name, "", "x") for name in ("a", "b"))
    with monkeypatch.context() as patch:
        patch.setattr(
            score_log, "append_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        log.add([(first, 1.0)])
    log.add([(second, 2.0)])
    again = ScoreLog(tmp_path / "scores.jsonl", "scorer")
    assert (again.get(first), again.get(second)) == (1.0, 2.0)


@pytest.mark.parametrize(
    "number", [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
)
def test_what_would_end_the_process_interrupts_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminated_as_interrupted():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_waits_until_the_file_is_whole() -> None:
    done: list[int] = []

    def work() -> None:
        with terminated_as_interrupted(), interrupt_later():
            signal.raise_signal(signal.SIGTERM)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done


def test_in_a_thread_no_signal_is_touched() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with terminated_as_interrupted(), interrupt_later():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


@pytest.mark.parametrize(
    "values",
    [
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": -1.0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"frozen": 1.5},
        {"drop_path": 1.0},
        {"clip_norm": 0.0},
        {"weight_decay": -1.0},
        {"seed": None},
        {"warmup": "much"},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ImageRewardError, match=next(iter(values))):
        Recipe(**values)


@pytest.mark.parametrize("given", ["two", "-1", "0", "1.5"])
def test_an_odd_world_size_is_named(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", given)
    with pytest.raises(ImageRewardError, match="WORLD_SIZE"):
        start_backend("cpu")


def test_processes_that_cannot_meet_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install -e '.[train]')")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ImageRewardError, match=r"cannot meet.*torchrun"):
        start_backend("cpu")


# what an interrupted training leaves


def left_of(rankings: list[Ranking], base: Path, folder: Path, step: int, **options: Any) -> Unfinished:
    """What a training leaves that is broken off after that step."""
    left: list[Unfinished] = []
    with pytest.raises(Stop):
        train(rankings, base, folder, on_step=stop_at(step), on_unfinished=left.append, **options)
    (only,) = left
    return only


def trained_in(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors_of(path).items() if name.startswith("mlp.")}


def test_before_the_first_validation_the_weights_of_now_are_left(
    tmp_path: Path, few: list[Ranking], small_base: Path
) -> None:
    left = left_of(few, small_base, tmp_path, 1)
    assert left.path == tmp_path / UNFINISHED
    assert not (tmp_path / "ImageReward.safetensors").exists()
    weights = load_state(checkpoints(tmp_path)[0])["weights"]
    found = trained_in(left.path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    metadata = read_metadata(left.path)
    assert metadata["unfinished"] == "stopped after 1 of 8 steps"
    assert not {"epoch", "validation_accuracy"} & metadata.keys()
    assert "1 of 8 steps" in str(left)
    assert "not yet validated (accuracy on the training pairs so far" in str(left)


def test_a_training_stopped_in_its_first_validation_leaves_the_weights_of_now(
    tmp_path: Path, few: list[Ranking], small_base: Path
) -> None:
    left: list[Unfinished] = []
    validations: list[str] = []

    def stop_in_the_second(what: str, done: int, total: int) -> None:
        validations.extend([what] if what == "validate" else [])
        if len(validations) == 2:
            raise Stop

    with pytest.raises(Stop):
        train(few, small_base, tmp_path, on_images=stop_in_the_second, on_unfinished=left.append)
    assert left[0].step == 2
    assert left[0].best is None
    assert left[0].path is not None


def test_later_the_best_epoch_is_left_as_a_scorer(tmp_path: Path, few: list[Ranking], small_base: Path) -> None:
    left = left_of(few, small_base, tmp_path, 5)
    assert left.path is not None
    assert left.best is not None
    best = load_state(tmp_path / BEST)
    found = trained_in(left.path)
    assert all(torch.equal(found[name], best[name]) for name in best)
    metadata = read_metadata(left.path)
    assert (metadata["epoch"], metadata["unfinished"]) == (str(left.best.epoch), "stopped after 5 of 8 steps")
    assert float(metadata["validation_accuracy"]) == left.accuracy == left.best.valid_accuracy
    assert f"epoch {left.best.epoch} (validation accuracy {100 * left.accuracy:.1f}%)" in str(left)
    scorer = load_scorer(left.path, device="cpu")
    scores = torch.cat([score_images(scorer, list(r.images), r.prompt).total for r in few[:3]])
    assert scores.mean().item() == pytest.approx(0, abs=1e-3)  # of the validation pictures
    assert scores.std(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_an_earlier_scorer_stays_and_the_end_clears_up(
    tmp_path: Path, few: list[Ranking], small_base: Path, whole: dict[str, torch.Tensor]
) -> None:
    earlier = train(few, small_base, tmp_path).path
    before = earlier.read_bytes()
    left = left_of(few, small_base, tmp_path, 3)
    assert earlier.read_bytes() == before
    assert left.path is not None
    again = left_of(few, small_base, tmp_path, 6, resume=True)
    assert (again.step, again.path) == (6, left.path)
    assert_same(train(few, small_base, tmp_path, resume=True).path, whole)
    assert not left.path.exists()


def test_nothing_is_left_where_nothing_was_trained(tmp_path: Path, few: list[Ranking], small_base: Path) -> None:
    left: list[Unfinished] = []

    def stop(what: str, done: int, total: int) -> None:
        if what == "validate":
            raise Stop

    with pytest.raises(Stop):
        train(few, small_base, tmp_path, on_images=stop, on_unfinished=left.append)
    assert not left
    assert not (tmp_path / UNFINISHED).exists()


def test_a_resume_that_is_refused_leaves_no_scorer(folder: Path, few: list[Ranking], small_base: Path) -> None:
    kept = (folder / UNFINISHED).read_bytes()
    with pytest.raises(ImageRewardError, match="is of another training"):
        train(few[1:], small_base, folder, resume=True)
    assert (folder / UNFINISHED).read_bytes() == kept


def test_a_training_stopped_while_it_is_standardised_leaves_its_best(
    tmp_path: Path, few: list[Ranking], small_base: Path
) -> None:
    recipe = replace(RECIPE, head_only=False, epochs=1, frozen=0.9)
    left: list[Unfinished] = []

    def stop(what: str, done: int, total: int) -> None:
        if what == "standardise":
            raise Stop

    with pytest.raises(Stop):
        train_reward_model(
            few[3:], few[:3], str(small_base), tmp_path, recipe, backend=ONE, on_images=stop, on_unfinished=left.append
        )
    assert left[0].best is not None
    assert left[0].path == tmp_path / UNFINISHED


def test_what_cannot_be_written_hides_no_error(
    tmp_path: Path, few: list[Ranking], small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sd_imagereward.core.preference.train_reward.export", full)
    left = left_of(few, small_base, tmp_path, 3)
    assert left.path is None
    assert str(left).startswith("stopped after 3 of 8 steps; no scorer could be written: ")
    assert "No space left on device" in str(left)


def test_weights_that_are_not_finite_are_no_scorer(tmp_path: Path, few: list[Ranking], small_base: Path) -> None:
    left: list[Unfinished] = []
    recipe = replace(RECIPE, lr=1e30)
    with pytest.raises(ImageRewardError, match="not finite"):
        train_reward_model(
            few[3:], few[:3], str(small_base), tmp_path, replace(recipe, batch_size=2), backend=ONE,
            on_unfinished=left.append,
        )  # fmt: skip
    assert left[0].path is None
    assert "finite" in left[0].reason or "deviation" in left[0].reason
    assert not (tmp_path / UNFINISHED).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stopped_by_a_signal_says_what_it_leaves_and_how_to_go_on(
    few: list[Ranking], small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals,
) -> None:  # fmt: skip
    rows = [{"prompt": r.prompt, "generations": list(map(str, r.images)), "ranking": r.ranks} for r in few]
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows))
    call = ["train-reward", "--data", str(data), "--base", str(small_base), "--head-only", "--epochs", "4"]
    call += ["--valid-share", "0.3", "--device", "cpu", "--output"]
    assert main([*call, str(tmp_path / "whole")]) in (0, 1)
    capsys.readouterr()
    shown = _Shown.on_step

    def stop(self: _Shown, step: Step) -> None:
        shown(self, step)
        if step.done == 5:
            signal.raise_signal(number)

    monkeypatch.setattr(_Shown, "on_step", stop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([*call, str(tmp_path / "parts")]) == EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err
    assert f"imagereward: stopped after 5 of 8 steps; {tmp_path / 'parts' / UNFINISHED} is a scorer" in said
    assert "validation accuracy" in said
    assert "--resume" in said
    monkeypatch.setattr(_Shown, "on_step", shown)
    assert main([*call, str(tmp_path / "parts"), "--resume"]) in (0, 1)
    one, other = (tmp_path / name / "ImageReward.safetensors" for name in ("whole", "parts"))
    assert_same(one, tensors_of(other))
