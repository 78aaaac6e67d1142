"""What is particular to SD.Next: colour grading and masks behind the last hook, plots as an always-on script, its Control tab,
users of the page who are those of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters

from .sdnext import SDNext
from .server import Result, WebUI, to_base64
from .test_api import FILTER, SORT, score_of, scores
from .test_callers import Running, wait_for
from .test_guarded import BODY, ROUTES

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def _only_there(webui: WebUI) -> None:
    if not isinstance(webui, SDNext):
        pytest.skip("the host at SDWEBUI_PATH is not SD.Next")


@pytest.fixture
def four(fresh: WebUI) -> Result:
    return fresh.generate()


def inpainting(webui: WebUI) -> dict[str, Any]:
    side = webui.side
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    init = Image.effect_noise((side, side), 60).convert("RGB")
    return {"init_images": [to_base64(init)], "mask": to_base64(mask), "denoising_strength": 0.8, "way": "img2img"}


def test_texts_hold_plain_scores(four: Result) -> None:
    assert not any("function" in text for text in four.texts)
    assert len(set(scores(four))) == 4


@pytest.mark.parametrize("key", ["grading_contrast", "image_watermark"])
def test_pictures_that_are_changed_after_the_last_hook_are_told_apart(fresh: WebUI, key: str) -> None:
    """They are other objects than those that were scored."""
    more: dict[str, Any] = {"extra": {"grading_contrast": 0.5}}
    if key == "image_watermark":
        more = {"override_settings": {"image_watermark": "hidden"}}
    plain = fresh.generate(**more)
    threshold = sorted(scores(plain))[2]
    before = len(fresh.saved())
    result = fresh.generate("ImageReward", FILTER, threshold, SORT, **more)
    assert scores(result) == sorted(scores(plain), reverse=True)[:2]
    assert len(fresh.saved()) == before + 2
    by_seed = dict(zip(plain.info["all_seeds"], plain.images[plain.grids :], strict=True))
    for seed, image in zip(result.info["all_seeds"], result.images[result.grids :], strict=True):
        assert image.tobytes() == by_seed[seed].tobytes()


def test_inpainted_pictures_are_filtered_and_sorted_beside_their_mask(fresh: WebUI) -> None:
    """All pictures share one mask, which the host shows before the first of them."""
    fresh.set_options(include_mask=True)
    more = inpainting(fresh)
    plain = fresh.generate(script=None, **more)
    assert len(plain.images) - plain.grids == 5
    mask = plain.images[plain.grids].convert("L").tobytes()
    result = fresh.generate("ImageReward", False, 0, SORT, **more)
    *pictures, last = result.images[result.grids :]
    assert len(pictures) == 4
    assert last.convert("L").tobytes() == mask
    shown = [score_of(text) for text in result.texts[result.grids : result.grids + 4]]
    assert shown == sorted(shown, reverse=True)
    before = len(fresh.saved("img2img-images"))
    kept = fresh.generate("ImageReward", FILTER, shown[1], **more)
    assert len(kept.images) - kept.grids == 3
    assert len(fresh.saved("img2img-images")) == before + 2


def axes(webui: WebUI, script: str, x_type: str, x_values: str) -> list[Any]:
    """Arguments of the plot with one axis and the pictures beside the grid."""
    info = webui.call("/sdapi/v1/script-info")
    [plot] = [one for one in info if one["name"] == script and not one["is_img2img"]][:1]
    arguments = [one.get("value") for one in plot["args"]]
    labels = [one["label"] for one in plot["args"]]
    arguments[labels.index("X type")] = x_type
    arguments[labels.index("X values")] = x_values
    arguments[labels.index("Use text inputs")] = True
    arguments[labels.index("Include images")] = True
    if "Enabled" in labels:
        arguments[labels.index("Enabled")] = True
    return arguments


@pytest.mark.parametrize("script", ["xyz grid", "xyz grid script"])
def test_the_plot_has_our_axes(four: Result, fresh: WebUI, script: str) -> None:
    threshold = sorted(scores(four))[2]
    arguments = axes(fresh, script, "ImageReward threshold", f"-99, {threshold}, 99")
    before = len(fresh.saved())
    one = {"batch_size": 1, "n_iter": 1}
    if script == "xyz grid":
        result = fresh.generate(script=None, alwayson_scripts={script: {"args": arguments}}, **one)
    else:
        result = fresh.generate(*arguments, script=script, **one)
    saved = fresh.saved()[before:]
    expected = 1 + (scores(four)[0] >= threshold)
    assert len(saved) == expected
    assert score_of(read_parameters(saved[0])) == pytest.approx(scores(four)[0], abs=1e-3)
    assert "ImageReward: " not in result.texts[0]
    for grid in fresh.saved("txt2img-grids"):
        assert "ImageReward: " not in (read_parameters(grid) or "")


def test_the_script_beside_the_plot_scores_each_cell(fresh: WebUI) -> None:
    arguments = axes(fresh, "xyz grid", "[Param] Steps", "1, 2, 3")
    result = fresh.generate("ImageReward", batch_size=1, n_iter=1, alwayson_scripts={"xyz grid": {"args": arguments}})
    written = [score_of(read_parameters(file)) for file in fresh.saved()]
    assert len(set(written)) == 3
    assert "ImageReward: " not in result.texts[0]


def test_the_plot_is_no_picture_to_be_rejected(fresh: WebUI) -> None:
    """With the filter on, the plot comes all the same, with an empty cell for what was rejected."""
    arguments = axes(fresh, "xyz grid", "[Param] Steps", "1, 2, 3")
    plot = {"alwayson_scripts": {"xyz grid": {"args": arguments}}}
    for threshold, saved in ((99, 0), (-99, 3)):
        result = fresh.generate("ImageReward", FILTER, threshold, batch_size=1, n_iter=1, **plot)
        assert result.images[0].width >= 3 * fresh.side
        assert len(fresh.saved()) == saved


def test_every_cell_is_scored_with_the_accordion(fresh: WebUI) -> None:
    arguments = axes(fresh, "xyz grid", "[Param] Steps", "1, 2, 3")
    plot = {"alwayson_scripts": {"xyz grid": {"args": arguments}}}
    fresh.generate(script=None, accordion=(True,), batch_size=1, n_iter=1, **plot)
    assert len({score_of(read_parameters(file)) for file in fresh.saved()}) == 3


@pytest.mark.parametrize("save_images", [False, True])
def test_pictures_without_a_script_are_scored_with_the_accordion(fresh: WebUI, save_images: bool) -> None:
    assert len(set(scores(fresh.generate(script=None, accordion=(True,), save_images=save_images)))) == 4
    assert len(fresh.saved()) == 4 * save_images


def test_interrupt_keeps_what_is_made_and_ends_the_tries(fresh: WebUI) -> None:
    """The host hears it between two steps alone."""
    asked = ("ImageReward", False, 99, SORT, 0, True, 64, 32)
    run = Running(fresh, *asked, batch_size=1, n_iter=2, steps=60)
    wait_for(lambda: len(fresh.saved()) >= 3)  # of the second try
    wait_for(lambda: fresh.call("/sdapi/v1/progress")["state"]["sampling_step"] > 2)
    fresh.call("/sdapi/v1/interrupt", {})
    result = run.end()
    shown = [text for text in result.texts[result.grids :] if "ImageReward: " in text]
    assert 3 <= len(shown) < 64
    texts = map(read_parameters, fresh.saved())  # the image that was interrupted has no score
    assert {score_of(text) for text in texts if "ImageReward: " in text} <= set(map(score_of, shown))
    assert len(scores(fresh.generate())) == 4  # the next run knows nothing of it


def test_the_api_cannot_name_a_folder_of_weights(fresh: WebUI) -> None:
    assert "image_reward_weights_folder" not in fresh.call("/sdapi/v1/options")
    fresh.status("/sdapi/v1/options", {"image_reward_weights_folder": "/etc"})
    assert fresh.call("/sdapi/v1/options").get("image_reward_weights_folder") is None


@pytest.fixture(scope="module")
def guarded(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    server = furnish("--auth", "someone:else,me:a-secret", user="me:a-secret")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("user", [None, "me:wrong", "someone:a-secret", ":"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_one_gets_in_without_the_password(guarded: WebUI, route: str, user: str | None) -> None:
    guarded.user, known = user, guarded.user
    try:
        assert guarded.status(route, BODY if route == "/imagereward/score" else None)[0] == 401
    finally:
        guarded.user = known


def test_users_of_the_page_get_in(guarded: WebUI) -> None:
    assert guarded.status("/imagereward/scorers")[0] == 200
    assert guarded.call("/imagereward/score", BODY)["scores"][0] is not None


def test_behind_passwords_it_generates(guarded: WebUI) -> None:
    assert len(set(scores(guarded.generate()))) == 4
    assert parse_parameters(read_parameters(guarded.saved()[0])).fields["ImageReward"]
