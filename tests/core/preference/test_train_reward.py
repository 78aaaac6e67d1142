"""Training from end to end on a planted preference: people like red."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image
from sd_imagereward.core import ImageRewardError, load_scorer, score_images
from sd_imagereward.core.cli import main
from sd_imagereward.core.files import progress
from sd_imagereward.core.networks.wordpiece import WordPiece
from sd_imagereward.core.preference.agreement import agreement
from sd_imagereward.core.preference.batches import PromptReader
from sd_imagereward.core.preference.rankings import Pair, Ranking
from sd_imagereward.core.preference.reading import read_rankings
from sd_imagereward.core.preference.recipe import HEAD_ONLY, Recipe
from sd_imagereward.core.preference.reward_model import load_base
from sd_imagereward.core.preference.sources import PicturePairs, items_of
from sd_imagereward.core.preference.states import compute_states
from sd_imagereward.core.preference.train_reward import Trained, train_reward_model
from sd_imagereward.core.preference.training import Step
from sd_imagereward.core.training.backend import Backend
from sd_imagereward.core.weights.read import read_checkpoint, read_metadata

from .conftest import red_is_better

ONE = Backend("cpu")
FAST = Recipe(epochs=1, batch_size=16, per_device=16, lr=1e-3, dropout=0.0, drop_path=0.0)
FEW = replace(FAST, batch_size=8, per_device=8)


def train(rankings: list[Ranking], base: Path, folder: Path, recipe: Recipe, **options: object) -> Trained:
    held = len(rankings) // 4
    return train_reward_model(rankings[held:], rankings[:held], str(base), folder, recipe, backend=ONE, **options)


def accuracy_of(scorer_path: Path, rankings: list[Ranking]) -> float:
    scorer = load_scorer(scorer_path, device="cpu")
    scores = [score_images(scorer, list(r.images), r.prompt).total.tolist() for r in rankings]
    scorer.unload()
    return agreement([r.ranks for r in rankings], scores).accuracy.value


@pytest.mark.parametrize(
    ("recipe", "fresh_head"),
    [(FAST, False), (replace(FAST, frozen=0.0), True), (replace(HEAD_ONLY, epochs=10), False)],
    ids=["frozen", "all layers, fresh head", "head only"],
)
def test_training_separates_a_planted_preference(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path, recipe: Recipe, fresh_head: bool
):
    result = train(red_pictures, small_base, tmp_path / "out", recipe, fresh_head=fresh_head)
    assert result.best.valid_accuracy > 0.95
    # Through the file and the scorer, on pictures that neither training nor validation saw.
    fresh = red_is_better(tmp_path / "fresh", 20, seed=1)
    assert accuracy_of(small_base, fresh) < 0.8
    assert accuracy_of(result.path, fresh) > 0.95


def test_scores_of_the_training_pictures_are_standard_normal(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path
):
    result = train(red_pictures, small_base, tmp_path / "out", replace(HEAD_ONLY, epochs=2))
    scorer = load_scorer(result.path, device="cpu")
    scores = torch.cat([score_images(scorer, list(r.images), r.prompt).total for r in red_pictures[20:]])
    assert scores.mean().item() == pytest.approx(0, abs=1e-3)
    assert scores.std(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_what_the_checkpoint_says_of_itself(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    result = train(red_pictures[:8], small_base, tmp_path / "out", FEW)
    metadata = read_metadata(result.path)
    assert metadata["base"] == "ImageReward.pt"
    assert len(metadata["data_sha256"]) == 64
    assert metadata["training_pairs"] == "36"
    assert float(metadata["validation_accuracy"]) == result.best.valid_accuracy
    assert json.loads(metadata["recipe"])["lr"] == 1e-3
    assert (tmp_path / "out" / "vocab.txt").is_file()
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history] == [0, 1]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path).read()


def assert_equal_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    """tolerance: where sums are taken in another order. Then parameters are left out whose true gradient is zero, so that
    Adam makes steps of their rounding errors: key biases, which the softmax does not see, and what shifts every reward
    alike, which no comparison sees."""
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name in first:
        a, b = first[name], second[name]
        if tolerance and name.endswith("attn.qkv.bias"):
            a, b = (torch.cat((t[: len(t) // 3], t[2 * len(t) // 3 :])) for t in (a, b))
        if not (tolerance and UNFELT.search(name)):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


UNFELT = re.compile(r"self\.key\.bias|mlp\.layers\.\d\.bias|layer\.1\.output\.LayerNorm\.bias")


class Stop(Exception):
    pass


def test_a_resumed_training_ends_in_the_same_weights(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    recipe = replace(FEW, epochs=3, dropout=0.1, drop_path=0.1)
    few = red_pictures[:8]
    whole = train(few, small_base, tmp_path / "whole", recipe)

    def stop(step: Step) -> None:
        if step.done == 8:  # in the middle of the second of three epochs of five steps
            raise Stop

    with pytest.raises(Stop):
        train(few, small_base, tmp_path / "parts", recipe, on_step=stop, save_steps=2)
    steps: list[int] = []
    parts = train(few, small_base, tmp_path / "parts", recipe, on_step=lambda s: steps.append(s.done), resume=True)
    assert steps[0] in (7, 8, 9)
    assert_equal_weights(whole.path, parts.path)
    with pytest.raises(ImageRewardError, match="is of another training"):
        train(few, small_base, tmp_path / "parts", replace(recipe, lr=1.0), resume=True)


def test_accumulated_pieces_are_one_step(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)  # pieces draw apart from the whole
    paths = [
        train(red_pictures[:12], small_base, tmp_path / str(pieces), replace(FAST, per_device=16 // pieces)).path
        for pieces in (1, 4)
    ]
    assert_equal_weights(*paths, tolerance=1e-4)


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}]
import conftest, torch
from pathlib import Path
from sd_imagereward.core.training.backend import start_backend
from sd_imagereward.core.preference.reading import read_rankings
from sd_imagereward.core.preference.recipe import Recipe
from sd_imagereward.core.preference.train_reward import train_reward_model
torch.nn.Dropout.forward = lambda self, x: x  # each process would draw its own
rankings = read_rankings({data!r})
backend = start_backend("cpu")
recipe = Recipe(epochs=1, batch_size=16, per_device=8, lr=1e-3, dropout=0.0, drop_path=0.0)
train_reward_model(rankings[4:], rankings[:4], {base!r}, Path({folder!r}), recipe, backend=backend)
assert backend.union({{str(backend.rank)}}) == {{"0", "1"}}
backend.stop()
"""


class OneProcess(NamedTuple):
    data: Path
    result: Trained


@pytest.fixture
def one_process(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OneProcess:
    """What two processes must come to as well; the last step has fewer pairs than the others, one picture is broken."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rankings = red_pictures[:13]
    some = rankings[6]
    rankings[6] = Ranking(some.id, some.prompt, (broken, *some.images[1:]), some.ranks)
    data = _as_file(rankings, tmp_path)
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    result = train_reward_model(rankings[4:], rankings[:4], str(small_base), tmp_path / "one", FAST, backend=ONE)
    assert [Path(name).name for name in result.unreadable] == ["broken.png"]
    return OneProcess(data, result)


def _assert_two_equal_one(launcher: list[str], base: Path, tmp_path: Path, one: OneProcess) -> None:
    script, folder = tmp_path / "two.py", tmp_path / "two"
    tests = str(Path(__file__).resolve().parents[2])
    script.write_text(SCRIPT.format(tests=tests, data=str(one.data), base=str(base), folder=str(folder)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal_weights(one.result.path, folder / "ImageReward.safetensors", tolerance=1e-4)
    metadata = read_metadata(folder / "ImageReward.safetensors")
    assert float(metadata["validation_accuracy"]) == one.result.best.valid_accuracy
    assert float(metadata["reward_std"]) == pytest.approx(one.result.reward_std, rel=1e-3)


def test_two_processes_equal_one_with_twice_the_batch(small_base: Path, tmp_path: Path, one_process: OneProcess):
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install -e '.[train]')")
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    _assert_two_equal_one([*run, f"--rdzv-endpoint=localhost:{_free_port()}"], small_base, tmp_path, one_process)


@pytest.mark.slow
def test_accelerate_launch_starts_several_processes(small_base: Path, tmp_path: Path, one_process: OneProcess):
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install -e '.[train]')")
    run = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    run += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={_free_port()}"]
    _assert_two_equal_one(run, small_base, tmp_path, one_process)


@pytest.mark.slow
def test_accelerate_launch_runs_the_command_as_a_module(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    """As the documentation writes it; `accelerate launch $(which imagereward)` does not work on Windows."""
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'sd-imagereward[train]')")
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sd_imagereward").symlink_to(root)  # a checkout may have any name
    run = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    run += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={_free_port()}"]
    run += ["-m", "sd_imagereward.core.cli", "train-reward", "--data", str(_as_file(red_pictures[:8], tmp_path))]
    run += ["--base", str(small_base), "--output", str(tmp_path / "out"), "--epochs", "1", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "path")}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert done.stdout.count("epoch   1") == 1  # one of the two talks
    assert read_metadata(tmp_path / "out" / "ImageReward.safetensors")["base"] == small_base.name


def _as_file(rankings: list[Ranking], folder: Path) -> Path:
    rows = [
        {"id": r.id, "prompt": r.prompt, "generations": [str(i) for i in r.images], "ranking": r.ranks}
        for r in rankings
    ]
    (folder / "data.json").write_text(json.dumps(rows))
    return folder / "data.json"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def test_missing_and_broken_pictures_are_listed_and_the_rest_is_trained_on(small_base: Path, tmp_path: Path):
    rankings = red_is_better(tmp_path / "red", 8)
    rankings[3].images[0].unlink()
    rankings[4].images[1].write_bytes(b"no picture")
    for recipe in (FEW, replace(HEAD_ONLY, epochs=1)):
        result = train(rankings, small_base, tmp_path / f"out{recipe.head_only}", recipe)
        assert [Path(name).name for name in result.missing] == [rankings[3].images[0].name]
        assert [Path(name).name for name in result.unreadable] == [rankings[4].images[1].name]
        assert result.pairs == 6 * 5 + 3
    for ranking in rankings:
        for image in ranking.images:
            image.write_bytes(b"no picture")
    with pytest.raises(
        ImageRewardError, match=r"not one image of the validation pairs|every .* cannot be read|no pair"
    ):
        train(rankings, small_base, tmp_path / "none", FEW)
    for ranking in rankings:
        for image in ranking.images:
            image.unlink()
    with pytest.raises(ImageRewardError, match="no pair is left to train on: 32 image files are missing"):
        train(rankings, small_base, tmp_path / "none", FEW)


def test_a_picture_that_cannot_be_read_is_grey_and_its_state_is_zero(small_base: Path, tmp_path: Path):
    (ranking,) = red_is_better(tmp_path / "red", 1, per_prompt=2)
    good, broken = ranking.images
    broken.write_bytes(b"no picture")
    start = load_base(str(small_base), torch.device("cpu"))
    reader = PromptReader(WordPiece(start.vocabulary))
    pair = Pair(ranking.prompt, good, broken)
    (batch,) = PicturePairs([pair], start.model.image_size, reader).batches([[(0, 1.0)]])
    assert (batch.images.pixels[batch.worse] == 127).all()
    assert not (batch.images.pixels[batch.better] == 127).all()
    assert batch.weight.tolist() == [0.0]
    assert batch.unreadable == (str(broken),)
    states = compute_states(start.model, items_of([pair]), reader, device=torch.device("cpu"))
    assert states.readable.tolist() == [True, False]
    assert states.rows[0].any()
    assert not states.rows[1].any()


def test_training_that_blows_up_stops_and_leaves_the_best(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path
):
    recipe = replace(FEW, epochs=20, batch_size=2, per_device=2, lr=1e30)
    with pytest.raises(ImageRewardError, match="not finite for 10 updates"):
        train(red_pictures[:8], small_base, tmp_path / "out", recipe)
    best = torch.load(tmp_path / "out" / "best.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in best.values())


def test_training_that_never_helps_gives_the_base_back(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    wrong = [replace_ranks(r) for r in red_pictures[:6]]
    result = train_reward_model(
        wrong,
        red_pictures[20:30],
        str(train_red(red_pictures, small_base, tmp_path)),
        tmp_path / "out",
        FEW,
        backend=ONE,
    )
    assert result.best.epoch == 0


def replace_ranks(ranking: Ranking) -> Ranking:
    return Ranking(ranking.id, ranking.prompt, ranking.images, tuple(-rank for rank in ranking.ranks))


def train_red(rankings: list[Ranking], base: Path, folder: Path) -> Path:
    return train(rankings, base, folder / "red", replace(HEAD_ONLY, epochs=5)).path


def test_half_precision_and_workers_train_too(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    recipe = replace(FAST, amp="bf16", gradient_checkpointing=True, ties="half", clip_norm=1.0, warmup=0.2)
    result = train(red_pictures, small_base, tmp_path / "out", recipe, workers=1)
    assert result.best.valid_accuracy > 0.9
    with pytest.raises(ImageRewardError, match="fp16 training needs a CUDA GPU"):
        train(red_pictures, small_base, tmp_path / "out", replace(recipe, amp="fp16"))


def test_cached_states_are_used_again_and_a_changed_picture_is_noticed(small_base: Path, tmp_path: Path):
    rankings = red_is_better(tmp_path / "red", 8)
    recipe = replace(HEAD_ONLY, epochs=1)

    def totals() -> set[int]:
        seen: set[int] = set()

        def see(what: str, done: int, total: int) -> None:
            if what == "states":
                seen.add(total)

        train(rankings, small_base, tmp_path / "out", recipe, on_images=see)
        return seen

    assert totals() == {32}
    assert totals() == set()
    Image.new("RGB", (8, 8)).save(rankings[0].images[0])
    assert totals() == {32}


def test_the_command(red_pictures: list[Ranking], small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = _as_file(red_pictures[:20], tmp_path)
    call = ["train-reward", "--data", str(data), "--base", str(small_base), "--output", str(tmp_path / "out")]
    call += ["--head-only", "--epochs", "6", "--valid-share", "0.2", "--device", "cpu"]
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert "epoch   6" in printed
    path = tmp_path / "out" / "ImageReward.safetensors"
    assert f"--scorer {path}" in printed
    scored = ["evaluate", "--data", str(data), "--scorers", str(path), "--output", str(tmp_path / "scored")]
    assert main([*scored, "--device", "cpu"]) == 0
    found = json.loads((tmp_path / "scored" / "evaluation.json").read_text())["scorers"][str(path)]
    assert found["accuracy"]["value"] > 0.9
    assert len(read_rankings(data)) == 20
    assert main([*call[:4], str(tmp_path / "none.pt"), *call[5:]]) in (2, 3)


def test_a_log_says_how_far_the_training_is(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = _as_file(red_pictures[:12], tmp_path)
    call = ["train-reward", "--data", str(data), "--base", str(small_base), "--epochs", "2", "--batch-size", "24"]
    call += ["--valid-share", "0.3", "--device", "cpu"]
    assert main([*call, "--output", str(tmp_path / "quiet")]) in (0, 1)
    assert "train: " not in capsys.readouterr().err  # it is over at once
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert main([*call, "--output", str(tmp_path / "out")]) in (0, 1)
    said = capsys.readouterr().err
    number = r"\d+\.\d+"
    line = rf"train: 3 of 4 steps \(75%\), epoch 2, loss {number}, accuracy {number}%, {number} images/s, .*, \d\d:\d\d left"
    assert re.search(line, said), said
    assert re.search(r"validate: 16 of 16 images \(100%\)", said)
    assert re.search(r"standardise: 32 of 32 images \(100%\)", said)
    assert "\r" not in said


def test_a_terminal_shows_the_bar_and_each_epoch_on_a_line_of_its_own(
    red_pictures: list[Ranking], small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    data = _as_file(red_pictures[:12], tmp_path)
    call = ["train-reward", "--data", str(data), "--base", str(small_base), "--output", str(tmp_path / "out")]
    assert main([*call, "--head-only", "--epochs", "3", "--valid-share", "0.3", "--device", "cpu"]) in (0, 1)
    shown = terminal.getvalue()
    assert re.search(r"train: +\d+%\|.*\| \d/6 .*epoch 1, loss", shown)
    assert re.search(r"\repoch   3  train loss", shown)


def test_tensorboard_is_written_when_it_is_there(red_pictures: list[Ranking], small_base: Path, tmp_path: Path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install -e '.[train]')")
    data = _as_file(red_pictures[:12], tmp_path)
    call = ["train-reward", "--data", str(data), "--base", str(small_base), "--output", str(tmp_path / "out")]
    assert main([*call, "--head-only", "--epochs", "1", "--device", "cpu", "--tensorboard"]) in (0, 1)
    assert list((tmp_path / "out" / "tensorboard").glob("events*"))
