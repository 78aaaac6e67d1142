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


ON = (True,)
MATRIX = [False, False, "positive", "comma", 0]


def accordion(
    *, filter: bool = False, threshold: float = 0.0, sort: bool = False, keep_best: int = 0
) -> tuple[Any, ...]:
    return (True, "ImageReward", filter, threshold, sort, keep_best, True)


def test_no_script_at_all_is_scored_beside_the_accordion(fresh: WebUI) -> None:
    result = fresh.generate(script=None, accordion=ON)
    assert len(set(scores(result))) == 4
    assert [score_of(read_parameters(file)) for file in fresh.saved()] == scores(result)
    assert not any("Script: " in text for text in result.texts)
    for file in fresh.saved("txt2img-grids"):
        assert "ImageReward: " not in read_parameters(file)
    assert not any("ImageReward" in text for text in fresh.generate(script=None).texts)


def test_no_script_at_all_is_filtered_sorted_and_cut(fresh: WebUI) -> None:
    usual = sorted(scores(fresh.generate(script=None, accordion=ON)), reverse=True)
    before = fresh.saved()
    asked = accordion(filter=True, threshold=usual[2], sort=True, keep_best=2)
    result = fresh.generate(script=None, accordion=asked)
    assert scores(result) == usual[:2]
    saved = [score_of(read_parameters(file)) for file in fresh.saved() if file not in before]
    assert sorted(saved, reverse=True) == usual[:2]


def test_script_imagereward_and_the_accordion_are_never_on_together(fresh: WebUI) -> None:
    asked = accordion(filter=True, threshold=99)
    result = fresh.generate("ImageReward", False, 0, True, accordion=asked)
    assert len(scores(result)) == 4
    assert scores(result) == sorted(scores(result), reverse=True)
    assert "are both on" in result.info["extra_generation_params"]["ImageReward note"]


def test_a_number_that_cannot_be_is_corrected_with_a_word(fresh: WebUI) -> None:
    result = fresh.generate(script=None, accordion=(True, "ImageReward", False, 0, False, 1.5))
    assert len(scores(result)) == 2
    assert "got 1.5: 2 is used" in result.info["extra_generation_params"]["ImageReward note"]


def test_prompt_matrix_scores_each_combination(fresh: WebUI) -> None:
    matrix = {"script": "prompt matrix", "prompt": "a cat|in the rain|at night", "n_iter": 1}
    result = fresh.generate(*MATRIX, accordion=ON, **matrix)
    files = fresh.saved()
    prompts = [parse_parameters(read_parameters(file)).prompt for file in files]
    assert sorted(prompts) == ["a cat", "a cat, at night", "a cat, in the rain", "a cat, in the rain, at night"]
    written = [score_of(read_parameters(file)) for file in files]
    assert route_scores(fresh, [Image.open(file) for file in files], prompts) == pytest.approx(written, abs=1e-4)
    assert scores(result) == written
    [grid] = fresh.saved("txt2img-grids")
    for text in (result.texts[0], read_parameters(grid) or ""):
        assert "ImageReward: " not in text
    assert parse_parameters(result.texts[0]).prompt == "a cat"


def test_prompt_matrix_keeps_its_grid_and_the_gallery_is_sorted_and_cut(fresh: WebUI) -> None:
    matrix = {"script": "prompt matrix", "prompt": "a cat|in the rain|at night", "n_iter": 1}
    whole = fresh.generate(*MATRIX, accordion=ON, **matrix)
    usual = sorted(scores(whole), reverse=True)
    before = fresh.saved()
    result = fresh.generate(*MATRIX, accordion=accordion(sort=True, keep_best=2), **matrix)
    assert scores(result) == usual[:2]
    assert len(result.images) == 3
    assert_same_pixels(result.images[0], whole.images[0])
    assert len(fresh.saved()) == len(before) + 2


def test_xyz_plot_keeps_its_grid_and_the_gallery_is_sorted(fresh: WebUI) -> None:
    arguments = plot_arguments(fresh, ("Seed", "5-8", []), ("Nothing", "", []))
    plot = {"script": "x/y/z plot", "batch_size": 1, "n_iter": 1}
    whole = fresh.generate(*arguments, accordion=ON, **plot)
    usual = sorted(scores(whole), reverse=True)
    assert len(set(usual)) == 4
    before = fresh.saved()
    result = fresh.generate(*arguments, accordion=accordion(sort=True, keep_best=3), **plot)
    assert scores(result) == usual[:3]
    assert_same_pixels(result.images[0], whole.images[0])
    assert len(fresh.saved()) == len(before) + 3


def assert_same_pixels(one: Image.Image, other: Image.Image) -> None:
    """Alpha aside: Forge hides the text of an image there."""
    assert one.convert("RGB").tobytes() == other.convert("RGB").tobytes()


@pytest.mark.parametrize("scored", [False, True])
def test_loopback(fresh: WebUI, scored: bool) -> None:
    init = to_base64(Image.effect_noise((fresh.side, fresh.side), 60).convert("RGB"))
    more = {"way": "img2img", "init_images": [init], "batch_size": 1, "n_iter": 1}
    more["accordion"] = accordion(filter=True, threshold=-99) if scored else None
    fresh.generate(3, 0.5, "Linear", "None", script="loopback", **more)
    files = fresh.saved("img2img-images")
    assert len(files) == 3
    assert ["ImageReward: " in read_parameters(file) for file in files] == [scored] * 3


def test_loopback_goes_on_although_nothing_passes(fresh: WebUI) -> None:
    init = to_base64(Image.effect_noise((fresh.side, fresh.side), 60).convert("RGB"))
    more = {"way": "img2img", "init_images": [init], "batch_size": 1, "n_iter": 1}
    more["accordion"] = accordion(filter=True, threshold=99)
    result = fresh.generate(3, 0.5, "Linear", "None", script="loopback", **more)
    assert "No image passed the threshold 99" in result.info["extra_generation_params"]["ImageReward note"]
    assert fresh.saved("img2img-images") == []


def upscale_arguments(webui: WebUI) -> list[Any]:
    """Of SD upscale, whose hosts differ in their number and order: twice the size without an upscaler, tiles side by side."""
    info = webui.call("/sdapi/v1/script-info")
    script = next(one for one in info if one["name"] == "sd upscale")
    chosen = {"Tile overlap": 0, "Upscaler": "None", "Scale Factor": 2}
    by_label = {label.lower(): value for label, value in chosen.items()}
    return [by_label.get((one["label"] or "").lower(), one["value"]) for one in script["args"]]


@pytest.mark.parametrize("save_images", [False, True])
def test_sd_upscale_scores_the_whole_and_no_tile(fresh: WebUI, save_images: bool) -> None:
    side = 2 * fresh.side
    init = to_base64(Image.effect_noise((side, side), 60).convert("RGB"))
    more = {"init_images": [init], "prompt": "a (cat:1.2)", "batch_size": 1, "n_iter": 1, "save_images": save_images}
    result = fresh.generate(*upscale_arguments(fresh), script="sd upscale", way="img2img", accordion=ON, **more)
    assert [image.size for image in result.images] == [(side, side)]
    assert "ImageReward: " not in result.texts[0]  # it is the first tile's
    [file] = fresh.saved("img2img-images")
    [expected] = route_scores(fresh, [Image.open(file)], ["a cat"])
    assert score_of(read_parameters(file)) == pytest.approx(expected, abs=1e-4)


def test_sd_upscale_into_the_folder_of_extras(fresh: WebUI) -> None:
    info = fresh.call("/sdapi/v1/script-info")
    [upscale] = [script for script in info if script["name"] == "sd upscale"]
    if "save to extras folder instead" not in [(one["label"] or "").lower() for one in upscale["args"]]:
        pytest.skip("this host's SD upscale does not offer it")
    init = to_base64(Image.effect_noise((2 * fresh.side, 2 * fresh.side), 60).convert("RGB"))
    more = {"init_images": [init], "prompt": "a (cat:1.2)", "batch_size": 1, "n_iter": 1}
    fresh.generate(0, "None", 2, True, script="sd upscale", way="img2img", accordion=ON, **more)
    [file] = fresh.saved("extras-images")
    with Image.open(file) as picture:
        [expected] = route_scores(fresh, [picture], ["a cat"])
        assert score_of(picture.info["extras"]) == pytest.approx(expected, abs=1e-4)


def test_pictures_that_are_only_answered_are_scored_too(fresh: WebUI) -> None:
    assert len(set(scores(fresh.generate(script=None, accordion=ON, save_images=False)))) == 4
    assert fresh.saved() == []


def test_the_start_is_quiet(webui: WebUI) -> None:
    for ours in (str(webui.extension), str(webui.extension_link), "[ImageReward]"):
        assert ours not in webui.boot_log


def test_no_file_is_left_in_the_temporary_folder(fresh: WebUI) -> None:
    fresh.generate("ImageReward", FILTER, 99)
    assert list(fresh.temporary.glob("imagereward-*")) == []
