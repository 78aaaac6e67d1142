"""Every main road, against the operators and types that Apple's GPUs have in the oldest torch (2.1.2)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import contract
import pytest
import scorer_checkpoints as write
import torch
from checkpoints import write_imagereward
from sd_imagereward.core import load_scorer, score_images
from sd_imagereward.core.pictures import resize
from sd_imagereward.core.preference.rankings import Ranking
from sd_imagereward.core.preference.recipe import HEAD_ONLY, Recipe
from sd_imagereward.core.preference.train_reward import train_reward_model
from sd_imagereward.core.refl import ReflConfig, ReflTrainer
from sd_imagereward.core.training.backend import Backend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from toy_generator import ColourScorer, ToyGenerator

TABLE = json.loads((Path(__file__).parent / "operators_without_mps.json").read_text())
WITHOUT_MPS = frozenset(TABLE["without_mps"])
# Functions whose tensors stay on the CPU wherever the network is: what they use need not be on the device.
ON_THE_CPU = {
    "collapse_head": "the checkpoint's tensors, before the network is placed",
    "build_network": "the same",
    "from_checkpoint": "the same",
    "_reduce": "the places and shares of the pixels, made from numbers",
    "_mean_and_error": "over lists of numbers",
    "in_float64": "after .cpu()",
    "_finished": "mean and standard deviation of what it gives",
    "_mean_distance": "pictures that were gathered on the CPU",
}
ONLY_WHERE_THERE_ARE = "_foreach_"  # torch's own choice, one tensor after the other elsewhere


class Recorder(TorchDispatchMode):
    """Which operators are called where, and where float64 occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[str, str]] = set()
        self.float64: set[tuple[str, str]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        overload = function._schema.overload_name
        call = (f"{name}.{overload}" if overload else name, _caller())
        self.calls.add(call)
        values, _ = tree_flatten((args, kwargs or {}, result))
        if any(isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in values):
            self.float64.add(call)
        return result


def _caller() -> str:
    """The innermost function of the package that is running."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("sd_imagereward."):
            return str(frame.f_code.co_name)
        frame = frame.f_back
    return "backward"


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Attention takes the road of devices without a fused kernel, as it does on Apple's GPUs."""
    fused = torch.backends.cuda.flash_sdp_enabled()
    torch.backends.cuda.enable_flash_sdp(False)
    recorder = Recorder()
    try:
        with recorder:
            yield recorder
    finally:
        torch.backends.cuda.enable_flash_sdp(fused)


SCORERS: dict[str, Callable[[Path], Path | str]] = {
    "imagereward": write_imagereward,
    "technical": lambda _: "technical",
    "blip": write.write_blip,
    "clip": lambda folder: write.write_clip(folder, name="ViT-L-14.pt", layout="open_clip"),
    "aesthetic": lambda folder: (write.write_clip(folder), write.write_aesthetic(folder))[1],
    "pickscore": lambda folder: write.write_clip(folder, name="PickScore_v1.safetensors", **write.TINY_H),
    "hpsv2.1": lambda folder: write.write_clip(
        folder, name="HPS_v2.1_compressed.pt", layout="open_clip", **write.TINY_H
    ),
}


def score(source: Path | str) -> None:
    scorer = load_scorer(source, device="cpu")
    pixels = [contract.as_tensor(image) for image in contract.pictures()]
    score_images(scorer, [*pixels, *(each.float() / 255 for each in pixels)], contract.PROMPTS * 2)


def follow_gradient(source: Path | str) -> None:
    scorer = load_scorer(source, device="cpu")
    pixels = torch.rand(2, 3, 260, 240, requires_grad=True)
    scorer.score(pixels, contract.PROMPTS[:2]).sum().backward()


def train_a_reward_model(recipe: Recipe) -> Callable[[Path, Path, list[Ranking]], None]:
    def run(base: Path, folder: Path, rankings: list[Ranking]) -> None:
        one = Backend("cpu")
        train_reward_model(rankings[2:6], rankings[:2], str(base), folder, recipe, backend=one)

    return run


def expect_device_has_all(recorder: Recorder) -> None:
    assert len(recorder.calls) > 20
    on_device = {call for call in recorder.calls if call[1] not in ON_THE_CPU}
    assert not {c for c in on_device if c[0] in WITHOUT_MPS and not c[0].startswith(ONLY_WHERE_THERE_ARE)}
    assert not {call for call in recorder.float64 if call[1] not in ON_THE_CPU}


@pytest.mark.parametrize("name", SCORERS)
def test_scoring(name: str, tmp_path: Path) -> None:
    source = SCORERS[name](tmp_path)
    with recorded() as recorder:
        score(source)
    expect_device_has_all(recorder)


@pytest.mark.parametrize("name", SCORERS)
def test_gradients(name: str, tmp_path: Path) -> None:
    source = SCORERS[name](tmp_path)
    with recorded() as recorder:
        follow_gradient(source)
    expect_device_has_all(recorder)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=1, batch_size=8, per_device=8, lr=1e-3),
        Recipe(epochs=1, batch_size=8, per_device=4, lr=1e-3, clip_norm=1.0, long_prompts="mean"),
        HEAD_ONLY,
    ],
    ids=["all layers", "accumulated, clipped", "head only"],
)
def test_training_a_reward_model(
    recipe: Recipe, red_pictures_of_six: list[Ranking], small_checkpoint: Path, tmp_path: Path
) -> None:
    with recorded() as recorder:
        train_a_reward_model(recipe)(small_checkpoint, tmp_path / "out", red_pictures_of_six)
    expect_device_has_all(recorder)


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_reward_feedback_learning(tune: str) -> None:
    config = ReflConfig(
        prompts=("a cat",), steps=2, batch_size=2, lora_rank=2, denoising_steps=4, stop_window=(2, 3), evaluate_every=1,
        evaluation_images=2, dtype="float32", tracker="none", model="toy", tune=tune,
    )  # fmt: skip
    with recorded() as recorder:
        ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=ColourScorer(1)).train()
    expect_device_has_all(recorder)


def test_the_table_knows_what_once_failed() -> None:
    """The shift to the right and float64, with which the scores and the training failed on Macs."""
    assert TABLE["torch"] == "2.1.2"
    with recorded() as recorder:
        _ = torch.ones(2, dtype=torch.int32) >> 1
        torch.ones(2).double()
    assert {name for name, _ in recorder.calls} & WITHOUT_MPS
    assert recorder.float64


def test_a_device_without_the_integer_resize_leaves_it_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.stack([contract.as_tensor(contract.pictures()[0])])
    expected = resize.resize_crop(pixels, 64)
    assert not resize._has_integer_pass("meta")  # it cannot give numbers back
    asked: list[str] = []
    monkeypatch.setattr(resize, "_has_integer_pass", lambda kind: bool(asked.append(kind)))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: (asked.append("moved"), self)[1])
    assert torch.equal(resize.resize_crop(pixels, 64), expected)
    assert asked == ["cpu", "moved"]


def test_what_a_device_refuses_or_gets_wrong_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = resize._integer_pass
    for answer in (NotImplementedError("aten::bitwise_and"), TypeError("int32"), "wrong"):
        calls = []

        def passed(pixels: Any, taps: Any, answer: Any = answer, calls: list[Any] = calls) -> Any:
            calls.append(pixels)
            if len(calls) % 2 and isinstance(answer, Exception):
                raise answer
            return real(pixels, taps) + (len(calls) % 2)

        resize._has_integer_pass.cache_clear()
        monkeypatch.setattr(resize, "_integer_pass", passed)
        assert not resize._has_integer_pass("cpu:0")
        assert not resize._has_integer_pass("cpu:0")
        assert len(calls) <= 2
    resize._has_integer_pass.cache_clear()
    monkeypatch.setattr(resize, "_integer_pass", real)
    assert resize._has_integer_pass("cpu:0")
    resize._has_integer_pass.cache_clear()
