"""What trackers receive: TensorBoard's event file read back, W&B's calls, and its own offline files where it is installed."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl import Evaluation, Observer, ReflConfig, ReflResult, ReflTrainer
from sd_imagereward.core.refl.observers import Curves, ProgressBar
from sd_imagereward.core.training.optimisers import make_optimizer
from sd_imagereward.core.training.trackers import TensorBoard, WeightsAndBiases
from toy_generator import ColourScorer, ToyGenerator

CONFIG = ReflConfig(
    prompts=("a cat", "a dog"),
    steps=4,
    accumulation=1,
    lora_rank=2,
    denoising_steps=3,
    stop_window=(1, 2),
    evaluate_every=2,
    evaluation_images=3,  # one prompt twice
    dtype="float32",
)


def watched(observer: Observer) -> ReflResult:
    held_out = [ColourScorer(1), ColourScorer(2)]
    return ReflTrainer(ToyGenerator(), ColourScorer(0), CONFIG, held_out=held_out, observers=[observer]).train()


def test_tensorboard_holds_every_number_and_the_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason='tensorboard is not installed (pip install -e ".[refl]")')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = watched(Curves(TensorBoard(tmp_path)))
    events = EventAccumulator(str(tmp_path)).Reload()
    for key in ("reward", "loss", "gradient_norm", "learning_rate", "seconds"):
        found = [(each.step, each.value) for each in events.Scalars(f"train/{key}")]
        assert found == [(r["update"], pytest.approx(r[key], rel=1e-6)) for r in result.records]
    for key, of in {
        "reward": lambda e: e.mean_reward,
        "held_out/Green": lambda e: e.means_held_out["Green"],
        "held_out/Blue": lambda e: e.means_held_out["Blue"],
        "diversity": lambda e: e.mean_diversity,
    }.items():
        found = [(each.step, each.value) for each in events.Scalars(f"evaluation/{key}")]
        assert found == [(e.update, pytest.approx(of(e), rel=1e-6)) for e in result.evaluations]
    assert [each.step for each in events.Images("evaluation/pictures")] == [0, 2, 4]


class Wandb:
    """A stand-in for the package: keeps what it receives."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = False
        self.Image = lambda pixels: SimpleNamespace(pixels=pixels)

    def init(self, **given: Any) -> Wandb:
        self.begun = given
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_wandb_receives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    result = watched(Curves(WeightsAndBiases("my_refl", CONFIG.plain(), tmp_path)))
    assert (wandb.begun["name"], wandb.begun["config"]["lora_rank"]) == ("my_refl", 2)
    assert wandb.begun["dir"] == str(tmp_path)
    updates = [(step, values) for step, values in wandb.logged if "train/reward" in values]
    assert [(step, values["train/reward"]) for step, values in updates] == [
        (record["update"], record["reward"]) for record in result.records
    ]
    evaluations = [(step, values) for step, values in wandb.logged if "evaluation/reward" in values]
    assert [step for step, _ in evaluations] == [0, 2, 4]
    assert [step for step, _ in wandb.logged] == sorted(
        step for step, _ in wandb.logged
    )  # W&B drops steps that go back
    picture = evaluations[0][1]["evaluation/pictures"][0].pixels
    assert (picture.shape, picture.dtype.name) == ((64, 64, 3), "uint8")
    assert wandb.finished


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed (pip install wandb)")
def test_the_real_wandb_takes_it_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    tracker = WeightsAndBiases("my_refl", CONFIG.plain(), tmp_path)
    watched(Curves(tracker))
    tracker.wandb.teardown()  # its own process writes until teardown
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert written.stat().st_size > 1000
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/evaluation/*.png"))) == 9


def test_the_bar_shows_reward_loss_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    result = watched(ProgressBar(4))
    shown = terminal.getvalue()
    assert f"reward {result.records[-1]['reward']:+.4f}, loss {result.records[-1]['loss']:.2e}" in shown
    assert "4/4" in shown
    assert "update/s" in shown or "s/update" in shown
    assert "evaluation after 2 updates: reward" in shown


def test_a_log_gets_the_messages_and_no_line_for_each_update(capsys: pytest.CaptureFixture[str]) -> None:
    watched(ProgressBar(4))
    shown = capsys.readouterr().err
    assert "evaluation after 2 updates: reward" in shown
    assert "loss" not in shown  # it took less than 5 seconds
    assert "\r" not in shown


@pytest.mark.parametrize(
    ("package", "use", "command"),
    [
        ("torch.utils.tensorboard", lambda folder: TensorBoard(folder), "pip install tensorboard"),
        ("wandb", lambda folder: WeightsAndBiases("run", {}, folder), "pip install wandb"),
        (
            "bitsandbytes.optim",
            lambda folder: make_optimizer([torch.nn.Parameter(torch.zeros(1))], CONFIG.but(optimizer="adamw8bit")),
            "pip install bitsandbytes",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    package: str, use: Any, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageRewardError, match=command):
        use(tmp_path)


def test_an_evaluation_at_another_strength_is_not_drawn_into_the_curve(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason='tensorboard is not installed (pip install -e ".[refl]")')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = Curves(TensorBoard(tmp_path))
    board.on_evaluation(Evaluation(3, 0.5, (1.0,), {"Green": (2.0,)}), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    board.close()
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == []
