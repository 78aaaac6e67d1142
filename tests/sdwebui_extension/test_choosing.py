"""Filter, order, best N, until N pass: gallery, texts, seeds, prompts, masks, grid and files move together."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.registry import scorer_infos
from sd_imagereward.core.scoring.score import ImageScores

from .test_generation import files, score_of


@pytest.fixture
def scores(run: Any) -> list[float]:
    """Of the four pictures as they come."""
    return [score_of(text) for text in run().infotexts[1:]]


def shown(processed: Any) -> list[float]:
    return [score_of(text) for text in processed.infotexts[processed.index_of_first_image :]]


def new_files(folder: Path, before: list[Path]) -> list[Path]:
    return [file for file in files(folder) if file not in before]


def test_sorting_moves_everything(scores: list[float], run: Any, p: Any, host: SimpleNamespace) -> None:
    p.prompt = [f"prompt {i}" for i in range(4)]
    processed = run(sort=True)
    assert shown(processed) == sorted(shown(processed), reverse=True)
    assert shown(processed) != [score_of(text) for text in run().infotexts[1:]]
    for image, text, seed, prompt, subseed in zip(
        processed.images[1:],
        processed.infotexts[1:],
        processed.all_seeds,
        processed.all_prompts,
        processed.all_subseeds,
        strict=True,
    ):
        assert image.tobytes() == host.processing.noise(seed).tobytes()
        assert f"Seed: {seed}," in text
        assert text.startswith(f"prompt {seed - 5}\n")
        assert prompt == f"prompt {seed - 5}"
        assert subseed == seed + 95
    assert processed.seed == processed.all_seeds[0]


def test_filter(scores: list[float], run: Any, tmp_path: Path) -> None:
    before = files(tmp_path)
    threshold = sorted(scores)[2]
    processed = run(filter=True, threshold=threshold)
    assert shown(processed) == [score for score in scores if score >= threshold]
    assert len(new_files(tmp_path / "images", before)) == 2
    grid = processed.images[0]
    assert grid.size == (80, 40)  # of two pictures
    assert [read_parameters(file) for file in new_files(tmp_path / "images", before)] == processed.infotexts[1:]


def test_a_score_equal_to_the_threshold_as_shown_passes(scores: list[float], run: Any) -> None:
    assert max(scores) in shown(run(filter=True, threshold=max(scores)))


def test_all_below(scores: list[float], run: Any, tmp_path: Path) -> None:
    before = files(tmp_path)
    processed = run(filter=True, threshold=99)
    assert processed.images == []
    assert processed.infotexts == []
    assert f"{max(scores):.4f}" in processed.info
    assert "ImageReward note" in processed.extra_generation_params
    assert processed.all_prompts  # the host reads the first
    assert new_files(tmp_path, before) == []


def test_rejected_files_may_be_kept_in_a_subfolder(
    scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace
) -> None:
    host.shared.opts.data["image_reward_rejected"] = "Save to a subfolder"
    run(filter=True, threshold=99)
    run(filter=True, threshold=99)
    rejected = files(tmp_path / "images" / "rejected")
    assert len(rejected) == 8  # none overwritten
    assert sorted({score_of(read_parameters(file)) for file in rejected}) == sorted(scores)


def test_the_subfolder_never_leads_out(host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_rejected"] = "Save to a subfolder"
    names = {
        "../../x": "x",
        "/etc": "etc",
        "..": "rejected",
        "": "rejected",
        "low": "low",
        "a\\b": "b",
        "C:\\low": "low",
    }
    names |= dict.fromkeys(
        ("/", "\\", "C:", "C:\\", "C:low:x", "con", "nul.txt", "low.", "ab:c", "x" * 300), "rejected"
    )
    for name, expected in names.items():
        host.shared.opts.data["image_reward_rejected_folder"] = name
        assert host.settings.rejected_subfolder() == expected


def test_a_subfolder_that_is_none_is_said_once(host: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    host.shared.opts.data |= {"image_reward_rejected": "Save to a subfolder", "image_reward_rejected_folder": "C:\\"}
    for _ in range(3):
        host.settings.rejected_subfolder()
    assert capsys.readouterr().out.count("names no folder") == 1


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be replaced or removed: another program has them all open."""
    from sd_imagereward.core.files import atomic

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    for name in ("replace", "unlink", "remove"):
        monkeypatch.setattr(atomic.os, name, refuse)
    monkeypatch.setattr(Path, "unlink", refuse)


@pytest.mark.parametrize("subfolder", [False, True])
def test_files_that_are_held_cost_no_picture(
    scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace, held: None, subfolder: bool
) -> None:
    host.shared.opts.data["image_reward_rejected"] = "Save to a subfolder" if subfolder else "Drop"
    before = files(tmp_path / "images")
    processed = run(keep_best=1, sort=True)
    assert shown(processed) == [max(scores)]
    assert len(new_files(tmp_path / "images", before)) == 4
    assert processed.comments.count("stays where it is") == 3


def test_a_subfolder_that_cannot_be_made_costs_no_picture(
    scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace
) -> None:
    host.shared.opts.data["image_reward_rejected"] = "Save to a subfolder"
    (tmp_path / "images").mkdir(exist_ok=True)
    before = files(tmp_path / "images")
    (tmp_path / "images" / "rejected").write_text("a file of that name")
    processed = run(filter=True, threshold=99)
    assert "no place for it can be made" in processed.comments
    assert len(new_files(tmp_path / "images", before)) == 5


def test_a_grid_that_cannot_be_saved_costs_no_picture(
    scores: list[float], run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = host.images.save_image

    def full(image: Any, path: str, *arguments: Any, **more: Any) -> Any:
        if more.get("grid"):
            raise OSError(28, "No space left on device")
        return real(image, path, *arguments, **more)

    monkeypatch.setattr(host.images, "save_image", full)
    processed = run(sort=True)
    assert sorted(scores, reverse=True) == shown(processed)
    assert "The grid could not be made or saved" in processed.comments


def test_a_try_that_fails_keeps_the_pictures_of_those_before(
    scores: list[float], run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = host.processing.process_images, []

    def failing(p: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA out of memory")
        return real(p)

    monkeypatch.setattr(host.processing, "process_images", failing)
    processed = run(until=50, threshold=-99, tries=3)
    assert len(shown(processed)) == 4
    assert "Try 2 failed (RuntimeError: CUDA out of memory)" in processed.comments


def test_text_files_go_along(scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace) -> None:
    host.shared.opts.data["save_txt"] = True
    before = files(tmp_path / "images")
    run(filter=True, threshold=sorted(scores)[3])
    assert sorted(file.suffix for file in new_files(tmp_path / "images", before)) == [".png", ".txt"]


def test_keep_the_best(scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace) -> None:
    host.shared.opts.data["save_txt"] = True
    before = files(tmp_path / "images")
    processed = run(keep_best=2)
    assert shown(processed) == [score for score in scores if score >= sorted(scores)[2]]  # in the order generated
    assert sorted(file.suffix for file in new_files(tmp_path / "images", before)) == [".png", ".png", ".txt", ".txt"]


def test_keep_the_best_moves_the_others_to_the_subfolder(
    scores: list[float], run: Any, tmp_path: Path, host: SimpleNamespace
) -> None:
    host.shared.opts.data["image_reward_rejected"] = "Save to a subfolder"
    processed = run(keep_best=1, sort=True)
    assert shown(processed) == [max(scores)]
    assert len(files(tmp_path / "images" / "rejected")) == 3


def test_filter_then_the_best(scores: list[float], run: Any) -> None:
    assert shown(run(filter=True, threshold=sorted(scores)[1], keep_best=1)) == [max(scores)]


@pytest.mark.parametrize("sort", [False, True])
def test_until_enough_pass(scores: list[float], run: Any, p: Any, host: SimpleNamespace, sort: bool) -> None:
    threshold = sorted(scores)[2]
    processed = run(filter=True, threshold=threshold, until=5, tries=20, sort=sort)
    kept = shown(processed)
    assert len(kept) >= 5
    assert min(kept) >= threshold
    assert len(set(processed.all_seeds)) == len(kept)
    assert (p.seed, p.subseed) == (5, 100)
    for image, seed in zip(processed.images[1:], processed.all_seeds, strict=True):
        assert image.tobytes() == host.processing.noise(seed).tobytes()


def test_until_is_capped_and_says_so(scores: list[float], run: Any) -> None:
    processed = run(filter=True, threshold=max(scores), until=50, tries=2)
    assert "of 50 images pass after 2 tries" in processed.comments


@pytest.mark.parametrize("filtered", [False, True])
def test_until_says_once_that_nothing_passes(scores: list[float], run: Any, filtered: bool) -> None:
    processed = run(filter=filtered, threshold=99, until=2, tries=2)
    said = f"No image passed the threshold 99: the best score (ImageReward) of 8 was {max(scores):.4f}"
    assert processed.extra_generation_params["ImageReward note"].count(said) == 1
    assert f"{processed.comments}\n{processed.info}".count(said) == 1  # under the gallery


def test_until_with_a_variation_seed(scores: list[float], run: Any, p: Any) -> None:
    p.subseed_strength = 0.5
    processed = run(until=99, threshold=-99, tries=3)
    assert set(processed.all_seeds) == {5}
    assert sorted(processed.all_subseeds) == list(range(100, 112))


def test_masks_follow_their_picture(
    scores: list[float], run: Any, p: Any, host: SimpleNamespace, tmp_path: Path
) -> None:
    host.shared.opts.data |= {"return_mask": True, "save_mask": True}
    p.mask_for_overlay = Image.new("L", (40, 40), 255)
    before = files(tmp_path / "images")
    threshold = sorted(scores)[1]
    processed = run(filter=True, threshold=threshold, sort=True)
    pictures = processed.images[1:]
    assert len(pictures) == 6
    assert len(processed.infotexts) == len(processed.images)
    for mask, seed in zip(pictures[1::2], processed.all_seeds, strict=True):
        assert mask.getpixel((0, 0))[0] == seed % 256
    saved = new_files(tmp_path / "images", before)
    masks = [file for file in saved if file.stem.endswith("-mask")]
    assert len(saved) == 6
    assert len(masks) == 3
    assert not any("ImageReward: " in read_parameters(file) for file in masks)


def test_what_another_extension_adds_stays_at_the_end(run: Any, p: Any, host: SimpleNamespace) -> None:
    extra = Image.new("RGB", (8, 8))

    class Detectmap(host.scripts.Script):
        def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
            processed.images.append(extra)

    p.scripts.alwayson_scripts.append(Detectmap())
    assert run(filter=True, threshold=99).images == [extra]
    assert run(sort=True).images[-1] is extra


def test_one_picture_makes_no_grid(run: Any, p: Any) -> None:
    p.n_iter = p.batch_size = 1
    assert run(sort=True).index_of_first_image == 0


def test_no_grid_where_the_caller_wants_none(run: Any, p: Any, tmp_path: Path) -> None:
    p.do_not_save_grid = True
    assert run(sort=True).index_of_first_image == 0
    assert files(tmp_path / "grids") == []


def test_grid_settings_of_the_request_count(run: Any, p: Any) -> None:
    p.override_settings = {"return_grid": False}
    assert run(sort=True).index_of_first_image == 0


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_never_written(
    run: Any, tmp_path: Path, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    def score(self: Any, *_: Any) -> ImageScores:
        return ImageScores(
            torch.tensor([number]), {"ImageReward": torch.tensor([number])}, scorer_infos()["imagereward"]
        )

    monkeypatch.setattr(host.service.Service, "score", score)
    processed = run(filter=True, threshold=99, sort=True)
    assert len(processed.images) == 5
    assert "which is no score. Try Settings > ImageReward > Precision" in processed.comments
    saved = [read_parameters(path) or "" for path in files(tmp_path / "images")]
    assert len(saved) == 4
    assert not [text for text in (*saved, *processed.infotexts) if "ImageReward: " in text]


@pytest.mark.parametrize("parts", [False, True])
def test_files_get_the_total_of_technical_and_its_parts_on_request(
    run: Any, tmp_path: Path, host: SimpleNamespace, parts: bool
) -> None:
    host.shared.opts.data["image_reward_parts"] = parts
    run(scorer="technical")
    for path in files(tmp_path / "images"):
        written = parse_parameters(read_parameters(path) or "").fields
        assert "Technical" in written
        assert ("Sharpness" in written) is parts


def test_files_get_the_scores_of_a_mixtures_scorers(run: Any, tmp_path: Path) -> None:
    run(scorer="mix(imagereward=1, technical=0.1)")
    for path in files(tmp_path / "images"):
        written = parse_parameters(read_parameters(path) or "").fields
        assert {"Mix", "ImageReward", "Technical"} <= set(written)
        assert "Sharpness" not in written


def test_nan_never_rejects(run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the scorer broke")

    monkeypatch.setattr(host.service.Service, "score", broken)
    processed = run(filter=True, threshold=99, keep_best=1, sort=True, until=3)
    assert len(processed.images) == 5
    assert math.isnan(host.job.Picture(0, None, 0, 0, "", "", 0, 0).score)
