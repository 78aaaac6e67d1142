"""Memory that runs out: the host is asked, then the CPU takes over, and the scores stay the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sd_imagereward.core.scorers.base import Scorer, ScorerInfo
from sd_imagereward.core.scoring.fallback import dtype_on, move_if_room, score_with_fallback

INFO = ScorerInfo("mean", "Mean", "Brightness.", False, None, 0.0, 1.0, "Apache-2.0", "", "")
IMAGES = torch.rand(3, 3, 8, 8)


class Brightness(Scorer):
    """Says `meta` where a GPU would be, and has no room there for more than `room` images."""

    def __init__(self, place: str = "cpu", room: int = 0) -> None:
        super().__init__(replace(INFO), torch.nn.Linear(1, 1), None)
        self.place, self.room = place, room

    @property
    def device(self) -> torch.device:
        return torch.device(self.place)

    def to(self, device: Any) -> Scorer:
        self.place = str(device)
        if self.place != "cpu" and self.room == 0:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self

    def score(self, pixels: torch.Tensor, prompts: Any) -> torch.Tensor:
        if self.place != "cpu" and len(pixels) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return pixels.float().mean((1, 2, 3))


def never() -> Scorer:
    raise AssertionError("the CPU was not needed")


def test_dtype_follows_the_device() -> None:
    assert dtype_on("cuda") == torch.float16
    assert dtype_on("cpu") == torch.float32
    assert dtype_on("cpu", torch.float16) == torch.float32
    assert dtype_on("cuda", torch.bfloat16) == torch.bfloat16


def test_room_is_asked_for_before_moving() -> None:
    asked: list[tuple[int, torch.device]] = []
    scorer = Brightness(room=1)
    assert move_if_room(scorer, "meta", make_room=lambda needed, device: asked.append((needed, device)))
    assert asked[0][0] > scorer.memory()
    assert asked[0][1] == torch.device("meta")


def test_a_full_device_leaves_the_scorer_on_the_cpu() -> None:
    scorer = Brightness(room=0)
    assert not move_if_room(scorer, "meta")
    assert scorer.device.type == "cpu"


def test_another_error_is_not_taken_for_a_full_device() -> None:
    class Broken(Brightness):
        def to(self, device: Any) -> Scorer:
            raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="assert"):
        move_if_room(Broken(), "meta")


def test_a_smaller_batch_is_tried_before_the_cpu() -> None:
    scores = score_with_fallback(Brightness("meta", room=1), IMAGES, "x", on_cpu=never)
    assert torch.equal(scores.total, IMAGES.mean((1, 2, 3)))


def test_the_host_may_make_the_room_that_was_missing() -> None:
    scorer = Brightness("meta", room=0)

    def make_room(needed: int, device: torch.device) -> None:
        scorer.room = 1

    scores = score_with_fallback(scorer, IMAGES, "x", on_cpu=never, make_room=make_room)
    assert torch.equal(scores.total, IMAGES.mean((1, 2, 3)))


def test_the_cpu_is_the_last_resort_and_gives_the_same_scores() -> None:
    asked: list[int] = []
    scores = score_with_fallback(
        Brightness("meta"), IMAGES, "x", on_cpu=Brightness, make_room=lambda needed, device: asked.append(needed)
    )
    assert asked
    assert torch.equal(scores.total, IMAGES.mean((1, 2, 3)))


def test_on_the_cpu_there_is_nothing_left_to_fall_back_to() -> None:
    class Full(Brightness):
        def score(self, pixels: torch.Tensor, prompts: Any) -> torch.Tensor:
            raise MemoryError

    with pytest.raises(MemoryError):
        score_with_fallback(Full(), IMAGES, "x", on_cpu=never)
