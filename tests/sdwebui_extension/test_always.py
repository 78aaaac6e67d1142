"""The setting that scores every image, whichever script is chosen, and the door when there are two copies."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.scorers.loading import loaded_scorers
from sd_imagereward.core.scoring.written import written_scores

ROOT = Path(__file__).resolve().parents[2]


def scores(host: SimpleNamespace, p: Any) -> list[dict[str, float]]:
    return [written_scores(text) for text in host.processing.process_images(p).infotexts]


def test_off_nothing_is_scored(host: SimpleNamespace, p: Any) -> None:
    assert scores(host, p) == [{}] * 5


def test_on_each_image_has_a_score_and_the_grid_none(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    grid, *images = scores(host, p)
    assert grid == {}
    assert all(one.keys() == {"ImageReward"} for one in images)
    assert len({one["ImageReward"] for one in images}) == 4
    assert p.extra_generation_params == {}
    assert host.scripts.errors == []


def test_the_parameters_name_no_script_of_ours(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    p.extra_generation_params["Script"] = "Prompt matrix"
    texts = host.processing.process_images(p).infotexts
    assert all("Script: Prompt matrix" in text and "ImageReward scorer" not in text for text in texts)
    assert p.extra_generation_params == {"Script": "Prompt matrix"}


def test_the_chosen_script_goes_before(host: SimpleNamespace, run: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    processed = run(sort=True)
    found = [written_scores(text)["ImageReward"] for text in processed.infotexts[1:]]
    assert found == sorted(found, reverse=True)


def test_the_model_goes_where_the_settings_say(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data |= {"image_reward_always": True, "image_reward_after": "Unload"}
    scores(host, p)
    assert loaded_scorers() == []


def upscale(host: SimpleNamespace, p: Any) -> tuple[Any, Path]:
    """As SD upscale does: four unsaved tiles become one picture, which the script saves itself, and a grid beside it."""
    p.do_not_save_grid = p.do_not_save_samples = True
    tiles = host.processing.process_images(p)
    whole = host.images.image_grid(tiles.images, 2)
    name, _ = host.images.save_image(whole, p.outpath_samples, "", p.seed, p.prompt, "png", info=tiles.info, p=p)
    host.images.save_image(whole, p.outpath_grids, "grid", p.seed, p.prompt, "png", info=tiles.info, p=p)
    return tiles, Path(name)


@pytest.mark.parametrize("by_api", [False, True])
def test_pieces_are_left_alone_and_what_they_become_is_scored(
    host: SimpleNamespace, by_api: bool, tmp_path: Path
) -> None:
    host.shared.opts.data["image_reward_always"] = True
    p = host.processing.processing_for(
        tmp_path, host.companion.ImageRewardCompanion(), prompt="a (cat:1.2)", is_api=by_api, do_not_save_samples=by_api
    )
    tiles, file = upscale(host, p)
    assert [written_scores(text) for text in tiles.infotexts] == [{}] * 4
    with Image.open(file) as picture:
        [score] = written_scores(picture.info["parameters"]).values()
        expected = host.service.service.score("imagereward", [picture], ["a cat"]).total
    assert score == pytest.approx(float(expected), abs=1e-4)
    assert list(p.comments) == [f"{file.name}: ImageReward: {score:.4f}"]
    [grid] = Path(p.outpath_grids).iterdir()
    with Image.open(grid) as picture:
        assert written_scores(picture.info["parameters"]) == {}


def save_to_extras(host: SimpleNamespace, folder: Path, image: Any, text: str) -> str:
    """As SD upscale's *Save to Extras folder instead* does: without the processing object, under the key of that tab."""
    name, _ = host.images.save_image(image, str(folder / "extras"), "", info=text, pnginfo_section_name="extras")
    with Image.open(name) as picture:
        return picture.info["extras"]


def test_an_assembled_picture_in_the_folder_of_extras_is_scored(host: SimpleNamespace, p: Any, tmp_path: Path) -> None:
    host.shared.opts.data["image_reward_always"] = True
    p.prompt = "a (cat:1.2)"
    p.do_not_save_grid = p.do_not_save_samples = True
    parts = [host.processing.process_images(p) for p.seed in (5, 9)]
    whole = host.images.image_grid(parts[0].images + parts[1].images, 2)
    text = save_to_extras(host, tmp_path, whole, parts[0].info)
    expected = host.service.service.score("imagereward", [whole], ["a cat"]).total
    assert written_scores(text) == {"ImageReward": pytest.approx(float(expected), abs=1e-4)}
    assert [comment.split(": ")[1:] for comment in p.comments] == [
        ["ImageReward", f"{written_scores(text)['ImageReward']:.4f}"]
    ]


def test_another_picture_in_that_folder_is_left_alone(host: SimpleNamespace, p: Any, tmp_path: Path) -> None:
    host.shared.opts.data["image_reward_always"] = True
    tiles, _ = upscale(host, p)
    assert save_to_extras(host, tmp_path, tiles.images[0], "Postprocess upscale by: 4") == "Postprocess upscale by: 4"


def test_pictures_that_the_caller_wants_no_files_of_are_scored(host: SimpleNamespace, tmp_path: Path) -> None:
    host.shared.opts.data["image_reward_always"] = True
    companion = host.companion.ImageRewardCompanion()
    p = host.processing.processing_for(tmp_path, companion, is_api=True, do_not_save_samples=True)
    assert [len(one) for one in scores(host, p)] == [0, 1, 1, 1, 1]


def test_off_an_assembled_picture_is_left_alone(host: SimpleNamespace, p: Any) -> None:
    _, file = upscale(host, p)
    with Image.open(file) as picture:
        assert written_scores(picture.info["parameters"]) == {}


@pytest.mark.usefixtures("no_weights")
def test_an_assembled_picture_that_cannot_be_scored_is_saved(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    _, file = upscale(host, p)
    assert file.is_file()
    assert "every image is kept" in next(iter(p.comments))


def test_a_second_copy_names_both_folders(host: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "copy" / "scripts")
    with pytest.raises(RuntimeError, match="installed twice") as told:
        runpy.run_path(str(tmp_path / "copy" / "scripts" / "image_reward.py"))
    assert str(tmp_path / "copy") in str(told.value)
    assert str(ROOT) in str(told.value)
