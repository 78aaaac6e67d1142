"""Who else starts, stops and combines generations in a real host: interrupt and skip, other scripts, styles, the X/Y/Z plot,
an extension that generates inside a generation."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters

from .server import Result, WebUI, to_base64
from .test_api import FILTER, SORT, plot_arguments, score_of, scores

pytestmark = pytest.mark.host


class Running:
    """A generation on a thread of its own, so that the scene can do something meanwhile."""

    def __init__(self, webui: WebUI, *script_args: Any, **more: Any) -> None:
        self.result: Result | None = None
        self.thread = threading.Thread(target=self._run, args=(webui, script_args, more))
        self.thread.start()

    def _run(self, webui: WebUI, script_args: tuple[Any, ...], more: dict[str, Any]) -> None:
        self.result = webui.generate(*script_args, **more)

    def end(self) -> Result:
        self.thread.join(600)
        assert self.result is not None, "the generation failed"
        return self.result


def wait_for(condition: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def route_scores(webui: WebUI, images: list[Image.Image], prompts: list[str]) -> list[float]:
    body = {"images": [to_base64(image.convert("RGB")) for image in images], "prompts": prompts}
    return webui.call("/imagereward/score", body)["scores"]


def prompts_of(result: Result) -> list[str]:
    return [parse_parameters(text).prompt for text in result.texts[result.grids :]]


def test_interrupt_keeps_what_is_finished(fresh: WebUI) -> None:
    run = Running(fresh, "ImageReward", False, 0, SORT, batch_size=1, n_iter=100)
    wait_for(fresh.saved)
    fresh.call("/sdapi/v1/interrupt", {})
    result = run.end()
    shown = scores(result)
    assert 1 <= len(shown) < 100
    assert shown == sorted(shown, reverse=True)
    finished = {score_of(read_parameters(file)) for file in fresh.saved()}
    assert finished <= set(shown)
    assert len(scores(fresh.generate())) == 4  # the next run knows nothing of it


def test_interrupt_ends_the_tries(fresh: WebUI) -> None:
    run = Running(fresh, "ImageReward", FILTER, 99, False, 0, True, 64, 32, batch_size=1, n_iter=1)
    wait_for(lambda: "ImageReward: 0 of 64" in str(fresh.call("/sdapi/v1/progress")["textinfo"]))
    fresh.call("/sdapi/v1/interrupt", {})
    result = run.end()
    assert result.images == []
    tried = int(result.info["extra_generation_params"]["ImageReward note"].split(" of ")[-1].split(" ")[0])
    assert 1 <= tried < 32


def test_skip_goes_on_with_the_next(fresh: WebUI) -> None:
    run = Running(fresh, batch_size=1, n_iter=4, steps=20)
    wait_for(lambda: fresh.call("/sdapi/v1/progress")["state"]["sampling_step"] > 1)
    fresh.call("/sdapi/v1/skip", {})
    result = run.end()
    assert len(scores(result)) == 4
    assert {score_of(read_parameters(file)) for file in fresh.saved()} <= set(scores(result))


def test_a_style_is_part_of_the_prompt(fresh: WebUI) -> None:
    result = fresh.generate(prompt="a cat", styles=["pencil"])
    assert set(prompts_of(result)) == {"a cat, drawn with a pencil"}
    images = result.images[result.grids :]
    assert route_scores(fresh, images, prompts_of(result)) == pytest.approx(scores(result), abs=1e-4)


def test_a_generation_inside_ours_is_left_alone(fresh: WebUI) -> None:
    result = fresh.generate(prompt="a NESTED cat")
    assert len(scores(result)) == 4
    files = fresh.saved()
    assert [score_of(read_parameters(file)) for file in files] == scores(result)
    pictures = [Image.open(file) for file in files]
    assert route_scores(fresh, pictures, ["a NESTED cat"] * 4) == pytest.approx(scores(result), abs=1e-4)


def test_a_mixture_writes_its_parts(fresh: WebUI) -> None:
    result = fresh.generate("mix(imagereward=1, technical=0.1)", False, 0, SORT)
    fields = [parse_parameters(text).fields for text in result.texts[result.grids :]]
    totals = [float(one["Mix"]) for one in fields]
    assert totals == sorted(totals, reverse=True)
    for one, total in zip(fields, totals, strict=True):
        assert float(one["ImageReward"]) + 0.1 * float(one["Technical"]) == pytest.approx(total, abs=2e-4)


def test_xyz_scorer_axis_with_a_prompt_axis(fresh: WebUI) -> None:
    scorers = ("ImageReward scorer", "", ["ImageReward", "Technical"])
    arguments = plot_arguments(fresh, scorers, ("Prompt S/R", "cat, dog", []))
    result = fresh.generate(*arguments, script="x/y/z plot", batch_size=1, n_iter=1)
    fields = [parse_parameters(read_parameters(file)).fields for file in fresh.saved()]
    assert sum("ImageReward" in one for one in fields) == sum("Technical" in one for one in fields) == 2
    assert not any("ImageReward" in one and "Technical" in one for one in fields)
    by_prompt = {parse_parameters(read_parameters(file)).prompt: file for file in fresh.saved()}
    assert set(by_prompt) == {"a painting of a (cat:1.2)", "a painting of a (dog:1.2)"}
    assert "ImageReward: " not in result.texts[0]


def test_a_cell_of_the_plot_that_is_wholly_rejected_says_why(fresh: WebUI) -> None:
    thresholds = ("ImageReward threshold", "-99, 99", [])
    arguments = plot_arguments(fresh, ("Seed", "5, 6", []), thresholds)
    result = fresh.generate(*arguments, script="x/y/z plot", batch_size=1, n_iter=1)
    [*passed, first, second], texts = result.images[-4:], result.texts[-4:]
    assert [first.size, second.size] == [image.size for image in passed] == [(fresh.side, fresh.side)] * 2
    for image, text in zip((first, second), texts[2:], strict=True):
        assert 1 < len(image.getcolors(1 << 20)) < len(passed[0].getcolors(1 << 20))  # letters on plain paper
        assert text.startswith("No image passed the threshold 99: the best score (ImageReward) of 1 was ")
    assert len(fresh.saved()) == 2
    assert "ImageReward: " not in result.texts[0]


@pytest.fixture
def always(fresh: WebUI) -> WebUI:
    fresh.set_options(image_reward_always=True)
    return fresh


def test_no_script_at_all_is_scored_if_the_settings_say_so(always: WebUI) -> None:
    result = always.generate(script=None)
    assert len(set(scores(result))) == 4
    assert [score_of(read_parameters(file)) for file in always.saved()] == scores(result)
    assert not any("Script: " in text for text in result.texts)
    for file in always.saved("txt2img-grids"):
        assert "ImageReward: " not in read_parameters(file)


def test_one_run_of_the_api_may_ask_for_it(fresh: WebUI) -> None:
    asked = fresh.generate(script=None, override_settings={"image_reward_always": True})
    assert len(set(scores(asked))) == 4
    assert not any("ImageReward" in text for text in fresh.generate(script=None).texts)


def test_prompt_matrix_scores_each_combination(always: WebUI) -> None:
    script_args = [False, False, "positive", "comma", 0]
    result = always.generate(*script_args, script="prompt matrix", prompt="a cat|in the rain|at night", n_iter=1)
    files = always.saved()
    prompts = [parse_parameters(read_parameters(file)).prompt for file in files]
    assert sorted(prompts) == ["a cat", "a cat, at night", "a cat, in the rain", "a cat, in the rain, at night"]
    written = [score_of(read_parameters(file)) for file in files]
    assert route_scores(always, [Image.open(file) for file in files], prompts) == pytest.approx(written, abs=1e-4)
    assert scores(result) == written
    [grid] = always.saved("txt2img-grids")
    for text in (result.texts[0], read_parameters(grid) or ""):
        assert "ImageReward: " not in text
    assert parse_parameters(result.texts[0]).prompt == "a cat"


@pytest.mark.parametrize("scored", [False, True])
def test_loopback(fresh: WebUI, scored: bool) -> None:
    fresh.set_options(image_reward_always=scored)
    init = to_base64(Image.effect_noise((fresh.side, fresh.side), 60).convert("RGB"))
    arguments = [3, 0.5, "Linear", "None"]
    fresh.generate(*arguments, script="loopback", way="img2img", init_images=[init], batch_size=1, n_iter=1)
    files = fresh.saved("img2img-images")
    assert len(files) == 3
    assert ["ImageReward: " in read_parameters(file) for file in files] == [scored] * 3


def upscale_arguments(webui: WebUI) -> list[Any]:
    """Of SD upscale, whose hosts differ in their number and order: twice the size without an upscaler, tiles side by side."""
    info = webui.call("/sdapi/v1/script-info")
    script = next(one for one in info if one["name"] == "sd upscale")
    chosen = {"Tile overlap": 0, "Upscaler": "None", "Scale Factor": 2}
    by_label = {label.lower(): value for label, value in chosen.items()}
    return [by_label.get((one["label"] or "").lower(), one["value"]) for one in script["args"]]


@pytest.mark.parametrize("save_images", [False, True])
def test_sd_upscale_scores_the_whole_and_no_tile(always: WebUI, save_images: bool) -> None:
    side = 2 * always.side
    init = to_base64(Image.effect_noise((side, side), 60).convert("RGB"))
    more = {"init_images": [init], "prompt": "a (cat:1.2)", "batch_size": 1, "n_iter": 1, "save_images": save_images}
    result = always.generate(*upscale_arguments(always), script="sd upscale", way="img2img", **more)
    assert [image.size for image in result.images] == [(side, side)]
    assert "ImageReward: " not in result.texts[0]  # it is the first tile's
    [file] = always.saved("img2img-images")
    [expected] = route_scores(always, [Image.open(file)], ["a cat"])
    assert score_of(read_parameters(file)) == pytest.approx(expected, abs=1e-4)


def test_sd_upscale_into_the_folder_of_extras(always: WebUI) -> None:
    info = always.call("/sdapi/v1/script-info")
    [upscale] = [script for script in info if script["name"] == "sd upscale"]
    if "save to extras folder instead" not in [(one["label"] or "").lower() for one in upscale["args"]]:
        pytest.skip("this host's SD upscale does not offer it")
    init = to_base64(Image.effect_noise((2 * always.side, 2 * always.side), 60).convert("RGB"))
    more = {"init_images": [init], "prompt": "a (cat:1.2)", "batch_size": 1, "n_iter": 1}
    always.generate(0, "None", 2, True, script="sd upscale", way="img2img", **more)
    [file] = always.saved("extras-images")
    with Image.open(file) as picture:
        [expected] = route_scores(always, [picture], ["a cat"])
        assert score_of(picture.info["extras"]) == pytest.approx(expected, abs=1e-4)


def test_pictures_that_are_only_answered_are_scored_too(always: WebUI) -> None:
    assert len(set(scores(always.generate(script=None, save_images=False)))) == 4
    assert always.saved() == []


def test_the_start_is_quiet(webui: WebUI) -> None:
    for ours in (str(webui.extension), str(webui.extension_link), "[ImageReward]"):
        assert ours not in webui.boot_log


def test_no_file_is_left_in_the_temporary_folder(fresh: WebUI) -> None:
    fresh.generate("ImageReward", FILTER, 99)
    assert list(fresh.temporary.glob("imagereward-*")) == []
