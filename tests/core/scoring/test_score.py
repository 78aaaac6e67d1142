from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sd_imagereward
import torch
from damage import exif
from PIL import Image, ImageOps
from sd_imagereward.core import load_scorer, score_images
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.errors import BadImage, ImageRewardError, OutOfMemory
from sd_imagereward.core.pictures.opening import open_image, open_picture
from sd_imagereward.core.pictures.saving import save_image
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
    together = score_images(scorer, pictures, prompts).total
    one_by_one = torch.cat(
        [score_images(scorer, picture, prompt).total for picture, prompt in zip(pictures, prompts, strict=True)]
    )
    in_pairs = score_images(scorer, pictures, prompts, batch_size=2).total
    backwards = score_images(scorer, pictures[::-1], prompts[::-1]).total.flip(0)
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
    scores = score_images(scorer, roads, "a cat").total
    assert (scores - scores[0]).abs().max() < 1e-4
    assert score_images(scorer, chw[None].float() / 255, "a cat").total.shape == (1,)


def test_nothing_in_nothing_out(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint)
    scores = score_images(scorer, [], "a cat")
    assert scores.total.shape == (0,)
    assert list(scores.components) == ["ImageReward"]
    assert scorer.score(torch.zeros(0, 3, 8, 8), []).shape == (0,)


def test_counts_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="one for each of 2 images, got 3"):
        score_images(Brightness(), [grey(1), grey(2)], ["a", "b", "c"])


@pytest.mark.parametrize("input_size", [8, None])
def test_unequal_sizes_are_batched_where_the_scorer_resizes(input_size: int | None) -> None:
    scorer = Brightness(input_size=input_size)
    scores = score_images(scorer, [grey(0), grey(255, (9, 33)), grey(51)], "").total
    assert scores.tolist() == pytest.approx([0.0, 1.0, 0.2])
    assert scorer.batches == ([3] if input_size else [2, 1])


def test_memory_that_runs_out_halves_the_batch_and_goes_on() -> None:
    scorer = Brightness(room=3)
    scores = score_images(scorer, [grey(5 * i) for i in range(10)], "", batch_size=10).total
    assert scores.tolist() == pytest.approx([5 * i / 255 for i in range(10)])
    assert max(b for b in scorer.batches if b <= 3) == 3


def test_no_room_for_one_image_is_said_so() -> None:
    with pytest.raises(OutOfMemory, match=r"no room for a single image.*on the CPU"):
        score_images(Brightness(room=0), [grey(1), grey(2)], "")


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(Brightness):
        def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        score_images(Broken(), [grey(1), grey(2)], "")


def test_a_missing_file_is_never_given_the_previous_images_score(pictures: list[Path]) -> None:
    with pytest.raises(BadImage, match=r"gone\.png"):
        score_images(Brightness(), [pictures[0], "gone.png", pictures[1]], "")
    scores = score_images(Brightness(), [pictures[0], "gone.png", pictures[1]], "", skip_broken=True)
    assert scores.total.isnan().tolist() == [False, True, False]
    assert "gone.png" in scores.errors[1]


def test_nothing_readable_is_all_nan() -> None:
    scores = score_images(Brightness(), ["a.png", "b.png"], "", skip_broken=True, batch_size=1)
    assert scores.total.isnan().all()
    assert list(scores.errors) == [0, 1]


def test_parts_stay_aligned_when_a_whole_batch_is_unreadable() -> None:
    class TwoParts(Brightness):
        def components(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
            return {"Mean": self.score(pixels, prompts), "Other": 2 * self.score(pixels, prompts)}

    scores = score_images(TwoParts(), ["gone.png", grey(51), "gone.png", grey(255)], "", skip_broken=True, batch_size=1)
    assert scores.components["Other"].nan_to_num(-1).tolist() == pytest.approx([-1, 0.4, -1, 2])
    assert scores.total.nan_to_num(-1).tolist() == pytest.approx([-1, 0.2, -1, 1])


def test_progress_is_told_and_may_stop_the_work() -> None:
    heard: list[tuple[int, int]] = []
    score_images(Brightness(), [grey(1)] * 5, "", batch_size=2, on_progress=lambda *p: heard.append(p))
    assert heard == [(2, 5), (4, 5), (5, 5)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    scorer = Brightness()
    with pytest.raises(KeyboardInterrupt):
        score_images(scorer, [grey(1)] * 5, "", batch_size=2, on_progress=stop)
    assert scorer.batches == [2]


READER = replace(INFO, reads_prompt=True)


class Reader(Brightness):
    """Scores how long the prompt is."""

    def __init__(self) -> None:
        super().__init__()
        self.info = READER

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([float(len(prompt)) for prompt in prompts])


def test_no_prompts_at_all_are_right_for_a_scorer_that_reads_none(pictures: list[Path]) -> None:
    assert torch.equal(score_images(Brightness(), pictures).total, score_images(Brightness(), pictures, "").total)
    with pytest.raises(
        ImageRewardError, match="Mean reads the prompt: expected one prompt, or one for each of 4 images"
    ):
        score_images(Reader(), pictures)


def test_a_missing_prompt_is_the_files_own(tmp_path: Path) -> None:
    save_image(grey(9), tmp_path / "a.png", parameters="a fox\nSteps: 1, Sampler: x, Seed: 2")
    grey(9).save(tmp_path / "b.png")
    grey(9).save(tmp_path / "c.png")
    (tmp_path / "c.txt").write_text("a red cat")
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "a.png")]
    scores = score_images(Reader(), files, [None, None, None, "given"], skip_broken=True)
    assert scores.prompts == ["a fox", "", "a red cat", "given"]
    assert scores.total.nan_to_num(-1).tolist() == [5, -1, 9, 5]
    assert scores.errors == {1: "no prompt for it: none was given, and the image brings none along"}
    assert score_images(Reader(), open_image(files[0]), [None]).prompts == ["a fox"]
    assert score_images(Brightness(), files, [None] * 4).errors == {}


@pytest.mark.parametrize(
    ("low", "high", "cure"), [(0, 255, "divide them by 255"), (-1, 1, r"\(pixels \+ 1\) / 2"), (-40, 900, "scale them")]
)
def test_floats_beyond_0_and_1_are_refused_with_their_range(low: float, high: float, cure: str) -> None:
    pixels = np.linspace(low, high, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
    for image in (pixels, torch.from_numpy(pixels).permute(2, 0, 1)):
        with pytest.raises(BadImage, match=rf"values from {low} to {high}: .*{cure}"):
            score_images(Brightness(), image)


def test_a_small_overshoot_and_nan_are_scored_as_they_are_saved() -> None:
    pixels = torch.tensor([-0.1, 0.0, 1.0, 1.1]).repeat(3, 4, 1)
    assert score_images(Brightness(input_size=None), pixels).total.item() == pytest.approx(0.5)
    pixels[:, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    assert score_images(Brightness(input_size=4), pixels).total.isfinite().all()


def test_a_turned_photograph_has_one_score_by_every_road(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).resize((900, 600)).save(
        path, exif=exif(6)
    )
    scorer = load_scorer(tiny_checkpoint)
    upright = ImageOps.exif_transpose(Image.open(path))
    expected = score_images(scorer, np.array(upright), "a cat").total.item()
    stored = score_images(scorer, np.array(Image.open(path)), "a cat").total.item()
    assert abs(expected - stored) > 1e-3
    roads = [path, Image.open(path), open_image(path), open_picture(path), upright]
    assert score_images(scorer, roads, "a cat").total.tolist() == pytest.approx([expected] * len(roads), abs=2e-5)
    assert score_images(scorer, path, "a cat", upright=False).total.item() == pytest.approx(stored, abs=2e-5)
    assert sd_imagereward.load(str(tiny_checkpoint), "cpu").score("a cat", str(path)) == pytest.approx(stored, abs=2e-5)
    with Store(tmp_path / "store.sqlite3") as store:
        score_files(tmp_path, [("tiny", scorer)], store, prompt="a cat")
        rows = store.query("SELECT score, width, height FROM scores JOIN files USING (hash)", ())
        assert [tuple(row) for row in rows] == [(pytest.approx(expected, abs=2e-5), 600, 900)]
    assert main(["score", "a cat", str(path), "--scorer", str(tiny_checkpoint)]) == 0
    assert f"{expected:.3f}" in capsys.readouterr().out
