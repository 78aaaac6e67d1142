from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from run_node import PROMPT, run
from sd_imagereward.comfyui_nodes import captions, hosting, scoring
from sd_imagereward.comfyui_nodes.captions import preview
from sd_imagereward.comfyui_nodes.nodes.score import ScoreImages
from sd_imagereward.comfyui_nodes.scores import Scores
from sd_imagereward.core.errors import BadImage, ImageRewardError
from sd_imagereward.core.pages.drawing import text_width
from sd_imagereward.core.pictures.resize import quantise
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

OF_ANY_SIZE = pytest.mark.skipif(
    "size" not in inspect.signature(ImageFont.load_default).parameters,
    reason="Pillow before 10.1 has letters of one size",
)


def score(model: hosting.RewardModel, image: Any, prompt: Any = PROMPT, **more: Any) -> dict[str, Any]:
    return run(ScoreImages, reward_model=model, image=image, prompt=prompt, **more)


def test_gives_images_scores_numbers_and_text(model: hosting.RewardModel, pictures: Any) -> None:
    batch = pictures(3)
    out = score(model, batch)
    assert out["images"][0] is batch
    assert out["values"] == list(out["scores"].total)
    assert len(set(out["values"])) == 3
    assert out["best"] == max(out["values"])
    assert out["mean"] == pytest.approx(sum(out["values"]) / 3)
    for i, value in enumerate(out["values"]):
        assert f"image {i}: ImageReward {value:.4f}" in out["text"]


def test_the_same_picture_scores_the_same_as_from_a_file(
    model: hosting.RewardModel, checkpoint: Path, pictures: Any, tmp_path: Path
) -> None:
    batch = pictures(2, 300, 420)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for picture, path in zip(batch, paths, strict=True):
        Image.fromarray(quantise(picture).numpy()).save(path)
    from_files = score_images(load_scorer(checkpoint, device="cpu"), paths, PROMPT).total
    torch.testing.assert_close(torch.tensor(score(model, batch)["values"]), from_files, atol=1e-4, rtol=0)


def test_pixels_go_to_the_network_without_pil_or_numpy(
    model: hosting.RewardModel, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("an image left torch on its way to the network")

    monkeypatch.setattr(Image, "fromarray", forbidden)
    monkeypatch.setattr(np, "asarray", forbidden)
    monkeypatch.setattr(torch.Tensor, "numpy", forbidden)
    scoring.score(model, list(pictures(2).permute(0, 3, 1, 2)), [PROMPT] * 2)


def test_images_of_unequal_sizes_as_a_list(model: hosting.RewardModel, pictures: Any) -> None:
    images = [pictures(1, 40, 56), pictures(2, 64, 32), pictures(1, 30, 30)]
    out = score(model, images)
    assert len(out["values"]) == 4
    alone = [value for image in images for value in score(model, image)["values"]]
    assert out["values"] == pytest.approx(alone, abs=1e-4)


def test_a_prompt_for_each_image(model: hosting.RewardModel, pictures: Any) -> None:
    batch = pictures(1).repeat(3, 1, 1, 1)
    values = score(model, batch, ["a red cat", "a city at night", "a red cat"])["values"]
    assert values[0] == values[2] != values[1]


def test_comfyui_syntax_leaves_the_prompt_unless_told_otherwise(model: hosting.RewardModel, pictures: Any) -> None:
    written = "a (red cat:1.3), embedding:easynegative"
    assert score(model, pictures(1), written)["scores"].prompts[0] == "a red cat"
    assert score(model, pictures(1), written, plain_prompt=False)["scores"].prompts[0] == written


@pytest.mark.parametrize("prompt", ["", "  \n", "embedding:easynegative"])
def test_no_prompt_is_said(model: hosting.RewardModel, pictures: Any, prompt: str) -> None:
    with pytest.raises(ImageRewardError, match="prompt"):
        score(model, pictures(1), prompt)


def test_unequal_counts_are_said_with_both_numbers(model: hosting.RewardModel, pictures: Any) -> None:
    with pytest.raises(ImageRewardError, match="2 prompts for 3 images"):
        score(model, pictures(3), ["a", "b"])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 8, 8), "MASK"),
        ((8, 8), "MASK"),
        ((1, 8, 8, 4), "alpha"),
        ((1, 8, 8, 2), "2 channels"),
        ((1, 0, 8, 3), "1 x 1"),
        ((0, 8, 8, 3), "batch of none"),
        ((1, 2, 8, 8, 3), r"\(1, 2, 8, 8, 3\)"),
    ],
)
def test_what_is_no_image_is_said(model: hosting.RewardModel, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(BadImage, match=said):
        score(model, torch.zeros(shape))


def test_a_latent_where_an_image_should_be_is_said(model: hosting.RewardModel) -> None:
    with pytest.raises(BadImage, match="VAE Decode"):
        score(model, {"samples": torch.zeros(1, 4, 8, 8)})


def test_a_model_of_another_pack_is_said(pictures: Any) -> None:
    with pytest.raises(ImageRewardError, match="ImageReward Load Reward Model"):
        score(object(), pictures(1))  # type: ignore[arg-type]


def test_broken_and_black_images_are_scored_and_said(model: hosting.RewardModel, pictures: Any) -> None:
    batch = pictures(3)
    batch[1, :2] = math.nan
    batch[2] = 0
    out = score(model, batch)
    assert all(math.isfinite(value) for value in out["values"])
    assert out["scores"].notes.keys() == {1, 2}
    assert "112 of 2240 pixels are NaN" in out["text"]
    assert "black image" in out["text"]


def shown(ui: dict[str, Any]) -> list[Image.Image]:
    files = [Path(folder_paths.get_temp_directory()) / one["subfolder"] / one["filename"] for one in ui["images"]]
    return [Image.open(file).convert("RGB") for file in files]


def test_each_preview_carries_its_score(model: hosting.RewardModel, pictures: Any) -> None:
    out = score(model, pictures(3, 40, 200))
    assert out["ui"]["scores"] == out["values"]
    assert out["ui"]["text"] == [out["text"]]
    for sheet in shown(out["ui"]):
        strip = np.asarray(sheet.convert("L"))[-captions.STRIP :]
        assert strip.max() > 180 > 60 > strip.min()  # light letters on a dark strip below the image


def letter_heights(sheets: list[Image.Image]) -> list[int]:
    """How many lines of pixels the letters take, below the image."""
    strips = [np.asarray(sheet.convert("L"))[-captions.STRIP :] for sheet in sheets]
    return [int((strip.max(axis=1) > 120).sum()) for strip in strips]


@OF_ANY_SIZE
def test_scores_have_one_size_whatever_the_size_of_the_image(pictures: Any) -> None:
    sizes = [(8, 8), (64, 640), (900, 90), (1, 300), (1200, 1600)]
    images = [pictures(1, *size)[0].permute(2, 0, 1) for size in sizes]
    together = captions.captions([*images, images[0]], Scores("x", (0.5001,) * 5 + (1.0,)))[:5]
    assert len({sheet.size for sheet in together}) == 1
    alone = [captions.captions([image], Scores("x", (0.5001,)))[0] for image in images]
    assert len({*letter_heights(together), *letter_heights(alone)}) == 1
    assert letter_heights(alone)[0] > 0.12 * max(max(sheet.size) for sheet in together)


def green(picture: Image.Image) -> int:
    return int((np.abs(np.asarray(picture, dtype=int) - captions.BEST).sum(axis=2) < 20).sum())


def test_the_best_stands_out(pictures: Any) -> None:
    pixels = list(pictures(3).mul(0).permute(0, 3, 1, 2))
    assert [green(one) > 100 for one in captions.captions(pixels, Scores("x", (0.5, 2.0, math.nan)))] == [
        False,
        True,
        False,
    ]
    assert not any(map(green, captions.captions(pixels, Scores("x", (math.nan,) * 3))))
    assert not any(map(green, captions.captions(pixels[:1], Scores("x", (1.0,)))))


def test_more_than_sixteen_are_a_table_best_first(pictures: Any) -> None:
    grey = [torch.full((3, 8, 8), i / 63) for i in range(64)]
    one_a_piece = preview(grey[:16], Scores("x", tuple(map(float, range(16)))))
    assert len(shown(one_a_piece)) == 16
    (table,) = shown(preview(grey, Scores("x", tuple(map(float, range(64))))))
    cells = [
        (column * captions.CELL[0] + 38, captions.HEAD + row * captions.CELL[1] + 34)
        for column in range(4)
        for row in range(16)
    ]
    found = [table.getpixel(place)[0] for place in cells]  # type: ignore[index]
    assert found == pytest.approx([255 * i / 63 for i in reversed(range(64))], abs=6)


def test_a_table_of_more_shows_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = captions.write_line
    monkeypatch.setattr(captions, "write_line", lambda *line: (written.append(line[2]), real(*line)))
    few, many = (captions.table([torch.zeros(3, 8, 8)] * n, Scores("x", tuple(range(n)))) for n in (64, 200))
    assert few.size == many.size
    headings = [text for text in written if ":" in text]
    assert headings == [
        "x, 64 images: best 63.0000, mean 31.5000",
        "x, the first 64 of 200: best 199.0000, mean 99.5000",
    ]


def test_names_are_shown_and_travel(model: hosting.RewardModel, pictures: Any) -> None:
    out = score(model, pictures(2), names=["cat.png", "dog.png"])
    assert out["scores"].names == ("cat.png", "dog.png")
    assert "dog.png: ImageReward " in out["text"]
    assert shown(out["ui"])[0].height > shown(score(model, pictures(2))["ui"])[0].height
    with pytest.raises(ImageRewardError, match="1 name for 2 scores"):
        score(model, pictures(2), names=["cat.png"])


@OF_ANY_SIZE
def test_a_long_name_keeps_its_end() -> None:
    scores = Scores("x", (1.0,), names=("my_holiday_pictures_0042",))
    name = captions._name(scores, 0, 160, captions.CELL_NAME)
    assert name.startswith("my_")
    assert "..." in name
    assert name.endswith("0042")
    assert text_width(name, captions.CELL_NAME) <= 160
    assert captions._name(scores, 0, 1000, captions.CELL_NAME) == scores.names[0]


def test_softmax_is_a_share_each(model: hosting.RewardModel, pictures: Any) -> None:
    out = score(model, pictures(3))
    assert out["softmax"] == pytest.approx(torch.tensor(out["values"]).softmax(0).tolist(), abs=1e-6)
    assert Scores("x", (1000.0, 1000.0, math.nan)).softmax() == (0.5, 0.5, 0.0)
    assert Scores("x", (math.inf, 3.0, -math.inf)).softmax() == (1.0, 0.0, 0.0)
    assert Scores("x", (-math.inf, -math.inf)).softmax() == (0.5, 0.5)
    assert Scores("x", (math.nan,) * 2).softmax() == (0.0, 0.0)


def test_scores_read_well_where_other_nodes_print_them() -> None:
    scores = Scores("x", (0.5, math.nan, math.inf), {"part": (1.0, math.nan, 2.0)}, notes={1: "black image"})
    assert str(scores).splitlines() == [
        "image 0: x 0.5000 (part 1.0000)",
        "image 1: x no score (part no score)  [black image]",
        "image 2: x inf (part 2.0000)",
        "best inf, mean 0.5000 (left out: 1 without a score, 1 infinite)",
    ]
    assert str(Scores("x", (math.nan,))).endswith("no image has a score")
    assert str(Scores("x", (math.inf,))).endswith("best inf, no mean (left out: 1 infinite)")
    assert str(Scores("x", ())) == "no images"
    assert scores.order() == [2, 0, 1]


def test_a_score_without_end_leaves_the_history_readable(model: hosting.RewardModel, pictures: Any) -> None:
    values = (math.inf, -math.inf, math.nan, 0.5)
    ui = preview(list(pictures(4).permute(0, 3, 1, 2)), Scores("x", values))
    assert json.loads(json.dumps(ui, allow_nan=False))["scores"] == [None, None, None, 0.5]
    assert "inf" in ui["text"][0]


def test_an_unchanged_image_is_never_scored_twice(model: hosting.RewardModel, pictures: Any, scored: list[int]) -> None:
    batch = pictures(4)
    first = score(model, batch)["values"]
    assert sum(scored) == 4
    assert score(model, batch.clone())["values"] == first
    assert sum(scored) == 4
    score(model, torch.cat([batch, pictures(1, seed=9)]))
    assert sum(scored) == 5
    score(model, batch, "another prompt")
    assert sum(scored) == 9


def test_the_memory_of_scores_is_bounded(
    model: hosting.RewardModel, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "KEPT_SCORES", 2)
    score(model, pictures(4))
    assert len(scoring._memories[model.scorer]) == 2


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not make chunks smaller."""
    monkeypatch.setattr(scoring, "CHUNK_SECONDS", math.inf)


@pytest.mark.usefixtures("unhurried")
def test_works_in_chunks_and_shows_progress(model: hosting.RewardModel, pictures: Any, scored: list[int]) -> None:
    score(model, pictures(5), chunk=2)
    assert scored == [1, 2, 2]
    assert comfy.utils.shown == [(1, 5), (3, 5), (5, 5)]


def test_chunks_take_half_a_second_each(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(scoring, "perf_counter", lambda: now[0])

    def sizes(work: list[float], most: int, seconds_a_unit: float) -> list[int]:
        found = []
        for chunk in scoring.chunks(work, most):
            found.append(len(work[chunk]))
            now[0] += sum(work[chunk]) * seconds_a_unit
        return found

    assert sizes([1] * 40, 256, 0.01) == [1, 4, 16, 19]
    assert sizes([1] * 40, 8, 0.01) == [1, 4, 8, 8, 8, 8, 3]
    assert sizes([1] * 12, 8, 0.1) == [1, 4, 5, 2]
    assert sizes([1] * 3, 8, 1.7) == [1, 1, 1]
    assert sizes([1, 1, 1, 1, 1, 16, 16, 1], 8, 0.02) == [1, 4, 1, 2]  # a large picture counts by its pixels
    assert sizes([1] * 3, 1, 0.0) == [1, 1, 1]


def test_a_scorer_in_full_size_is_paced_by_pixels(model: hosting.RewardModel, pictures: Any) -> None:
    technical = load_scorer("technical", device="cpu")
    pixels = [pictures(1, 8, 4)[0].permute(2, 0, 1), pictures(1, 30, 20)[0].permute(2, 0, 1)]
    assert scoring._work(technical, pixels) == [32, 600]
    assert scoring._work(model.scorer, pixels) == [1, 1]


def test_interrupt_keeps_what_is_scored(model: hosting.RewardModel, pictures: Any, scored: list[int]) -> None:
    def interrupt(*_: int) -> None:
        model_management.interrupted = True

    comfy.utils.on_update = interrupt
    with pytest.raises(model_management.InterruptProcessingException):
        score(model, pictures(6), chunk=2)
    assert scored == [1]
    comfy.utils.reset()
    model_management.interrupted = False
    score(model, pictures(6))
    assert sum(scored) == 6


def test_interrupt_stops_between_two_layers(model: hosting.RewardModel, pictures: Any) -> None:
    layers = [module for module in model.scorer.network.modules() if not list(module.children())]
    ran: list[int] = []

    def interrupt(number: int) -> None:
        ran.append(number)
        model_management.interrupted = True

    hooks = [layer.register_forward_hook(lambda *_, n=n: interrupt(n)) for n, layer in enumerate(layers)]
    with pytest.raises(model_management.InterruptProcessingException):
        score(model, pictures(2))
    assert len(ran) == 1
    for hook in hooks:
        hook.remove()
    assert not any(layer._forward_pre_hooks for layer in layers)  # nothing of ours stays behind
    model_management.interrupted = False
    assert len(score(model, pictures(2))["values"]) == 2


@pytest.mark.usefixtures("unhurried")
def test_memory_that_runs_out_halves_the_chunk(
    model: hosting.RewardModel, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(model, pictures(5))["values"]
    scoring._memories.clear()
    real, sizes = type(model.scorer).score, []

    def tight(self: Any, pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise RuntimeError("CUDA out of memory")
        return real(self, pixels, prompts)

    monkeypatch.setattr(type(model.scorer), "score", tight)
    assert score(model, pictures(5))["values"] == pytest.approx(expected, abs=1e-4)
    assert max(sizes) == 4
