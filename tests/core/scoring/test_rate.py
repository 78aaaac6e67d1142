from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sd_imagereward.core import judge, load_scorer, rate
from sd_imagereward.core.errors import BadImage, OutOfMemory
from sd_imagereward.core.scorers.base import Scorer, ScorerInfo
from torch import Tensor, nn

INFO = ScorerInfo("mean", "Mean", "How bright a picture is.", False, None, 0.5, 0.2, "MIT", "", "")


class Brightness(Scorer):
    """Scores mean brightness; runs out of memory above `room` images at once."""

    def __init__(self, room: int = 100, input_size: int | None = 8) -> None:
        super().__init__(INFO, nn.Module(), input_size)
        self.room = room
        self.batches: list[int] = []

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        self.batches.append(len(prompts))
        if len(prompts) > self.room:
            raise RuntimeError("CUDA error: out of memory")
        return self.prepare(pixels).mean((1, 2, 3))


def grey(level: int, size: tuple[int, int] = (20, 10)) -> Image.Image:
    return Image.new("RGB", size, (level,) * 3)


def test_order_and_batches_do_not_change_a_score(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    prompts = ["a cat", "", "a red castle over the river at night", "dog"]
    together = rate(scorer, pictures, prompts)
    one_by_one = torch.cat([rate(scorer, picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)])
    in_pairs = rate(scorer, pictures, prompts, batch_size=2)
    backwards = rate(scorer, pictures[::-1], prompts[::-1]).flip(0)
    for other in (one_by_one, in_pairs, backwards):
        assert torch.allclose(other, together, atol=2e-5)
    assert together.dtype == torch.float32
    assert together.std() > 1e-3


def test_every_road_gives_the_same_score(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    path = pictures[0]
    array = np.asarray(Image.open(path))
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    roads = [path, str(path), Image.open(path), array, array / 255.0, chw, chw.float() / 255, chw.half() / 255]
    scores = rate(scorer, roads, "a cat")
    assert (scores - scores[0]).abs().max() < 1e-4
    assert rate(scorer, chw[None].float() / 255, "a cat").shape == (1,)


def test_nothing_in_nothing_out(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint)
    ratings = judge(scorer, [], "a cat")
    assert ratings.total.shape == (0,)
    assert list(ratings.parts) == ["ImageReward"]
    assert scorer.score(torch.zeros(0, 3, 8, 8), []).shape == (0,)


def test_counts_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="one for each of the 2 images, got 3"):
        rate(Brightness(), [grey(1), grey(2)], ["a", "b", "c"])


@pytest.mark.parametrize("input_size", [8, None])
def test_unequal_sizes_are_batched_where_the_scorer_resizes(input_size: int | None) -> None:
    scorer = Brightness(input_size=input_size)
    scores = rate(scorer, [grey(0), grey(255, (9, 33)), grey(51)], "")
    assert scores.tolist() == pytest.approx([0.0, 1.0, 0.2])
    assert scorer.batches == ([3] if input_size else [2, 1])


def test_memory_that_runs_out_halves_the_batch_and_goes_on() -> None:
    scorer = Brightness(room=3)
    scores = rate(scorer, [grey(5 * i) for i in range(10)], "", batch_size=10)
    assert scores.tolist() == pytest.approx([5 * i / 255 for i in range(10)])
    assert max(b for b in scorer.batches if b <= 3) == 3


def test_no_room_for_one_image_is_said_so() -> None:
    with pytest.raises(OutOfMemory, match=r"no room for a single image.*on the CPU"):
        rate(Brightness(room=0), [grey(1), grey(2)], "")


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(Brightness):
        def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        rate(Broken(), [grey(1), grey(2)], "")


def test_a_missing_file_is_never_given_the_previous_images_score(pictures: list[Path]) -> None:
    with pytest.raises(BadImage, match=r"gone\.png"):
        rate(Brightness(), [pictures[0], "gone.png", pictures[1]], "")
    ratings = judge(Brightness(), [pictures[0], "gone.png", pictures[1]], "", skip_broken=True)
    assert ratings.total.isnan().tolist() == [False, True, False]
    assert "gone.png" in ratings.errors[1]


def test_nothing_readable_is_all_nan() -> None:
    ratings = judge(Brightness(), ["a.png", "b.png"], "", skip_broken=True, batch_size=1)
    assert ratings.total.isnan().all()
    assert list(ratings.errors) == [0, 1]


def test_parts_stay_aligned_when_a_whole_batch_is_unreadable() -> None:
    class TwoParts(Brightness):
        def parts(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
            return {"Mean": self.score(pixels, prompts), "Other": 2 * self.score(pixels, prompts)}

    ratings = judge(TwoParts(), ["gone.png", grey(51), "gone.png", grey(255)], "", skip_broken=True, batch_size=1)
    assert ratings.parts["Other"].nan_to_num(-1).tolist() == pytest.approx([-1, 0.4, -1, 2])
    assert ratings.total.nan_to_num(-1).tolist() == pytest.approx([-1, 0.2, -1, 1])


def test_progress_is_told_and_may_stop_the_work() -> None:
    heard: list[tuple[int, int]] = []
    judge(Brightness(), [grey(1)] * 5, "", batch_size=2, on_progress=lambda *p: heard.append(p))
    assert heard == [(2, 5), (4, 5), (5, 5)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    scorer = Brightness()
    with pytest.raises(KeyboardInterrupt):
        judge(scorer, [grey(1)] * 5, "", batch_size=2, on_progress=stop)
    assert scorer.batches == [2]
