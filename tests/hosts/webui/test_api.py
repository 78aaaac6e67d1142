"""Scenes of the WebUI extension over the API of a real host."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

from .server import Result, WebUI, to_base64

pytestmark = pytest.mark.host

FILTER, SORT = True, True
NO_THRESHOLD = -99.0


def score_of(text: str) -> float:
    return float(parse_parameters(text).fields["ImageReward"])


def scores(result: Result) -> list[float]:
    return [score_of(text) for text in result.texts[result.grids :]]


@pytest.fixture
def four(fresh: WebUI) -> Result:
    """Four pictures, as generated: what filters and orders are compared with."""
    return fresh.generate()


def test_each_picture_has_one_score_in_text_and_file_and_the_grid_none(fresh: WebUI) -> None:
    result = fresh.generate()
    assert (len(result.images), result.grids) == (5, 1)
    assert "ImageReward: " not in result.texts[0]
    assert len(set(scores(result))) == 4
    files = fresh.saved()
    assert [read_parameters(file) for file in files] == result.texts[1:]
    for text in result.texts:
        *others, parameters = text.splitlines()
        assert "ImageReward" in parameters
        assert not any("ImageReward" in line for line in others)
    for file in fresh.saved("txt2img-grids"):
        assert "ImageReward: " not in read_parameters(file)


def test_scores_are_those_of_the_file_by_the_score_route(fresh: WebUI) -> None:
    result = fresh.generate()
    images = [base64.b64encode(file.read_bytes()).decode() for file in fresh.saved()]
    answer = fresh.call("/imagereward/score", {"images": images, "prompts": ["a painting of a (cat:1.2)"]})
    assert answer["scores"] == pytest.approx(scores(result), abs=1e-4)
    raw = fresh.call("/imagereward/score", {"images": images, "prompt": "a painting of a cat", "plain_prompt": False})
    assert raw["scores"] == pytest.approx(scores(result), abs=1e-4)


def test_scores_are_those_of_the_shell(fresh: WebUI) -> None:
    result = fresh.generate(prompt="a cat")
    scorer = load_scorer(fresh.models / "ImageReward" / "ImageReward.pt", device="cpu")
    assert score_images(scorer, fresh.saved(), "a cat").total.tolist() == pytest.approx(scores(result), abs=2e-4)


def test_each_picture_is_scored_by_its_own_prompt(fresh: WebUI) -> None:
    """`WORDCARD` becomes another word in each image, by an extension that works as the wildcard extensions do."""
    result = fresh.generate(prompt="a WORDCARD in (the forest:1.3)")
    texts = result.texts[result.grids :]
    prompts = [parse_parameters(text).prompt for text in texts]
    assert len(set(prompts)) == 4
    images = [to_base64(image.convert("RGB")) for image in result.images[result.grids :]]
    answer = fresh.call("/imagereward/score", {"images": images, "prompts": prompts})
    assert answer["scores"] == pytest.approx(scores(result), abs=1e-4)
    swapped = fresh.call("/imagereward/score", {"images": images, "prompts": prompts[::-1]})
    assert swapped["scores"] != pytest.approx(scores(result), abs=1e-4)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "avif"])
def test_every_format_carries_the_score(fresh: WebUI, extension: str) -> None:
    fresh.set_options(samples_format=extension)
    result = fresh.generate(batch_size=1, n_iter=1, send_images=False)  # the host's API answers no AVIF
    [file] = fresh.saved()
    assert file.suffix == f".{extension}"
    assert read_parameters(file) == result.texts[0]
    score_of(result.texts[0])


def test_sorting_moves_everything_together(four: Result, fresh: WebUI) -> None:
    result = fresh.generate("ImageReward", False, 0, SORT)
    assert scores(result) == sorted(scores(four), reverse=True)
    by_seed = dict(zip(four.info["all_seeds"], four.images[1:], strict=True))
    for seed, image, text in zip(result.info["all_seeds"], result.images[1:], result.texts[1:], strict=True):
        assert f"Seed: {seed}," in text
        assert image.convert("RGB").tobytes() == by_seed[seed].convert("RGB").tobytes()  # Forge hides the text in alpha


def test_filter_keeps_rejected_images_out_of_gallery_grid_and_folder(four: Result, fresh: WebUI) -> None:
    threshold = sorted(scores(four))[2]
    before = len(fresh.saved())
    result = fresh.generate("ImageReward", FILTER, threshold)
    assert len(result.images) - result.grids == 2
    assert all(score >= threshold for score in scores(result))
    assert len(fresh.saved()) - before == 2
    assert f"ImageReward threshold: {threshold:g}" in result.texts[-1]
    assert result.images[0].size != four.images[0].size


def test_all_below_is_no_error(four: Result, fresh: WebUI) -> None:
    before = len(fresh.saved())
    result = fresh.generate("ImageReward", FILTER, 99)
    assert result.images == []
    assert result.texts == []
    note = result.info["extra_generation_params"]["ImageReward note"]
    assert f"{max(scores(four)):.4f}" in note
    assert len(fresh.saved()) == before


def test_rejected_files_can_go_to_a_subfolder(four: Result, fresh: WebUI) -> None:
    fresh.set_options(image_reward_rejected="Save to a subfolder")
    before = set(fresh.saved())
    fresh.generate("ImageReward", FILTER, sorted(scores(four))[1])
    new = set(fresh.saved()) - before
    assert sorted(file.parent.name == "rejected" for file in new) == [False, False, False, True]


def test_keep_the_best(four: Result, fresh: WebUI) -> None:
    before = len(fresh.saved())
    fresh.set_options(save_txt=True)
    result = fresh.generate("ImageReward", False, 0, SORT, 2)
    assert scores(result) == sorted(scores(four), reverse=True)[:2]
    new = fresh.saved()[before:]
    assert sorted(file.suffix for file in new) == [".png", ".png", ".txt", ".txt"]


def test_generates_until_enough_pass(four: Result, fresh: WebUI) -> None:
    threshold = sorted(scores(four))[2]  # two of the first four pass
    result = fresh.generate("ImageReward", FILTER, threshold, False, 0, True, 3, 9)
    kept, seeds = scores(result), result.info["all_seeds"]
    assert len(kept) >= 3
    assert min(kept) >= threshold
    assert len(set(seeds)) == len(seeds) == len(kept)
    assert max(seeds) > 8


def test_until_tells_how_many_pass(fresh: WebUI) -> None:
    result = fresh.generate("ImageReward", False, NO_THRESHOLD, False, 0, True, 99, 1)
    assert "4 of 99 images pass" in result.info["extra_generation_params"]["ImageReward note"]


def test_tries_are_capped(fresh: WebUI) -> None:
    result = fresh.generate("ImageReward", FILTER, 99, False, 0, True, 1, 2)
    assert "of 8 was" in result.info["extra_generation_params"]["ImageReward note"]


def test_nothing_leaks_into_the_next_generation(four: Result, fresh: WebUI) -> None:
    result = fresh.generate(script=None)
    assert len(result.images) == 5
    assert not any("ImageReward" in text for text in result.texts)


def test_img2img_with_masks_moves_masks_along(four: Result, fresh: WebUI) -> None:
    fresh.set_options(return_mask=True, save_mask=True)
    side = fresh.side
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    more = {"init_images": [to_base64(four.images[1])], "mask": to_base64(mask), "denoising_strength": 0.8}
    more |= {"inpaint_full_res": True, "mask_blur": 2}
    plain = fresh.generate("ImageReward", False, 0, SORT, way="img2img", **more)
    pictures = plain.images[plain.grids :]
    assert len(pictures) == 8
    shown = scores(plain)
    assert shown == sorted(shown, reverse=True)
    for picture, mask_shown in zip(pictures[::2], pictures[1::2], strict=True):
        assert len(mask_shown.getcolors(1 << 20)) < len(picture.getcolors(1 << 20))
    masks = [file for file in fresh.saved("img2img-images") if file.stem.endswith("-mask")]
    assert len(masks) == 4
    assert not any("ImageReward: " in read_parameters(file) for file in masks)


def test_rejected_inpaint_leaves_no_mask_file(four: Result, fresh: WebUI) -> None:
    fresh.set_options(save_mask=True)
    mask = to_base64(Image.new("L", (fresh.side, fresh.side), 255))
    init = to_base64(four.images[1])
    fresh.generate("ImageReward", FILTER, 99, way="img2img", init_images=[init], mask=mask)
    assert fresh.saved("img2img-images") == []


def test_hires_fix(fresh: WebUI) -> None:
    latent = [one["name"] for one in fresh.call("/sdapi/v1/latent-upscale-modes")]  # Forge Neo has none
    upscaler = "Latent" if "Latent" in latent else "None"  # which resizes
    more = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": upscaler, "denoising_strength": 0.7}
    if (fresh.root / "backend").is_dir():  # Forge's API fails without it
        more["hr_additional_modules"] = ["Use same choices"]
    result = fresh.generate(batch_size=1, **more)
    assert [image.size for image in result.images[1:]] == [(2 * fresh.side, 2 * fresh.side)] * 2
    assert len(scores(result)) == 2


def test_file_name_pattern(fresh: WebUI) -> None:
    fresh.set_options(samples_filename_pattern="[seed]-[image_reward]")
    result = fresh.generate(batch_size=1, n_iter=1)
    [file] = fresh.saved()
    assert file.stem.endswith(f"5-{scores(result)[0]:.4f}")


def test_xyz_axes(four: Result, fresh: WebUI) -> None:
    threshold = sorted(scores(four))[2]
    arguments = plot_arguments(fresh, ("ImageReward threshold", f"{NO_THRESHOLD}, {threshold}, 99", []))
    result = fresh.generate(*arguments, script="x/y/z plot", batch_size=1, n_iter=1, seed=5)
    grid_text, cells = result.texts[0], result.texts[1:]
    assert "ImageReward: " not in grid_text
    assert "X Type: ImageReward threshold" in grid_text
    assert score_of(cells[0]) == pytest.approx(scores(four)[0], abs=1e-3)  # a batch of one rounds otherwise
    assert not any("ImageReward: " in (text or "") for text in cells[2:])


def plot_arguments(webui: WebUI, *axes: tuple[str, str, list[str]]) -> list[Any]:
    """Of the X/Y/Z plot, whose hosts differ in their number: name, values and chosen values of up to three axes."""
    info = webui.call("/sdapi/v1/script-info")
    plot = next(script for script in info if script["name"] == "x/y/z plot" and not script["is_img2img"])
    names = plot["args"][0]["choices"]
    chosen = [*axes, *[("Nothing", "", [])] * (3 - len(axes))]
    assert {name for name, _, _ in chosen} <= set(names), f"axes are missing: {names}"
    first = [part for name, values, dropdown in chosen for part in (names.index(name), values, dropdown)]
    others = plot["args"][len(first) :]
    return first + [True if one["label"] == "Include Sub Images" else one["value"] for one in others]


def test_the_extras_route_of_the_api_is_left_alone(four: Result, fresh: WebUI) -> None:
    """The API's own Extras route names its steps one by one, so ours is off there and changes nothing."""
    answer = fresh.call("/sdapi/v1/extra-single-image", {"image": to_base64(four.images[1]), "upscaler_1": "None"})
    assert "ImageReward" not in answer["html_info"]


def test_bad_arguments_are_told_before_anything_is_generated(fresh: WebUI) -> None:
    status, answer = fresh.status(
        "/sdapi/v1/txt2img",
        {"prompt": "x", "steps": 1, "script_name": "imagereward", "script_args": ["No such scorer"]},
    )
    assert status == 500
    assert "No such scorer" in str(answer)
    assert fresh.saved() == []


def test_scorers_route(webui: WebUI) -> None:
    scorers = {scorer["name"]: scorer for scorer in webui.call("/imagereward/scorers")}
    assert scorers["imagereward"]["downloaded"] is True
    assert "Apache" in scorers["imagereward"]["licence"]


def test_score_route_refuses_links_paths_and_too_many(fresh: WebUI) -> None:
    good = to_base64(Image.new("RGB", (32, 32), "red"))
    answer = fresh.call(
        "/imagereward/score", {"images": [good, "/etc/passwd", "http://127.0.0.1/x.png"], "prompt": "x"}
    )
    assert answer["scores"][0] is not None
    assert answer["scores"][1:] == [None, None]
    assert set(answer["errors"]) == {"1", "2"}
    assert fresh.status("/imagereward/score", {"images": [good] * 65})[0] == 422
    assert fresh.status("/imagereward/score", {"images": [good, good], "prompts": ["a", "b", "c"]})[0] == 422
    assert fresh.status("/imagereward/score", {"images": [good], "scorer": "nobody"})[0] == 422


def test_missing_weights_cost_no_image(fresh: WebUI) -> None:
    folder = fresh.models / "ImageReward"
    fresh.set_options(image_reward_after="Unload")
    fresh.generate(batch_size=1, n_iter=1)  # leaves it unloaded
    hidden = folder.rename(folder.with_name("elsewhere"))
    try:
        before = len(fresh.saved())
        result = fresh.generate("ImageReward", FILTER, 99)
        assert len(result.images) == 5
        assert len(fresh.saved()) - before == 4
        assert "ImageReward: " not in result.texts[1]
        assert re.search(r"ImageReward\.pt", result.info["extra_generation_params"]["ImageReward note"])
    finally:
        hidden.rename(folder)
    assert len(scores(fresh.generate())) == 4
