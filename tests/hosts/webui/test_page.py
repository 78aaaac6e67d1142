"""The panel in a real page: choose the script, generate, filter, PNG Info, send back, Reload UI, Unload.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

from .browser import Page
from .server import WebUI, to_base64

pytestmark = pytest.mark.host
PANEL = "#script_txt2img_imagereward_"
ACCORDION = "#script_txt2img_imagereward_accordion_"
THUMBNAILS = "#txt2img_gallery .thumbnail-item"


@pytest.fixture(scope="module")
def webui(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    """A server that has scored nothing yet."""
    server = furnish()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def page(webui: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(webui.url, tmp_path_factory.mktemp("chromium"))
    yield page
    page.close()


def in_use(page: Page, panel: str) -> bool:
    """Whether the threshold may be changed: it is greyed out while nothing uses it."""
    return page.js("return document.querySelector(arguments[0])?.disabled === false", f"{panel}threshold input")


def set_threshold(page: Page, panel: str, value: float) -> None:
    """Switches the filter on, which makes the field anew, and fills it."""
    page.set_checkbox(f"{panel}filter", True)
    page.wait(lambda: in_use(page, panel), "the threshold to be in use")
    time.sleep(1)
    page.fill(f"{panel}threshold input", str(value))


def set_up(page: Page, webui: WebUI) -> None:
    page.choose("#script_list", "ImageReward")
    page.fill("#txt2img_prompt textarea", "a painting of a (cat:1.2) under the clouds")
    sizes = {"steps": webui.steps, "width": webui.side, "height": webui.side, "batch_count": 2, "batch_size": 2}
    for selector, value in sizes.items():
        page.fill(f"#txt2img_{selector} input[type=number]", str(value))
    page.fill("#txt2img_seed input", "5")


def test_nothing_is_loaded_before_the_first_run(page: Page, webui: WebUI, shot: None) -> None:
    set_up(page, webui)
    assert "Not loaded: the next run loads the model, 1.8 GB" in page.text(f"{PANEL}hint")
    assert "Half of all images score above 0" in page.text(f"{PANEL}hint")
    assert page.requests() == []
    assert not page.visible(".pending")


def test_generate_shows_the_score_and_the_model(page: Page, shot: None) -> None:
    page.set_checkbox(f"{PANEL}sort", True)
    text = page.generate()
    assert "Script: ImageReward" in text
    page.js("document.querySelectorAll('#txt2img_gallery .thumbnail-item')[1].click()")
    page.wait(lambda: re.search(r"ImageReward: -?\d+\.\d{4}", page.text("#html_info_txt2img")), "a score")
    page.wait(lambda: "in RAM" in page.text(f"{PANEL}hint"), "the model's state")
    assert page.requests() == []
    assert not page.visible(".pending")


def thumbnail_scores(page: Page) -> list[str]:
    """What stands on the thumbnails of the gallery; an empty text for one without a score."""
    time.sleep(1)  # the host tells its scripts of a change a moment later
    return page.js(
        """return [...document.querySelectorAll(arguments[0])].map(
            e => getComputedStyle(e, '::after').content.replace(/^none$|["]/g, ''))""",
        f"#txt2img_gallery .thumbnails {THUMBNAILS.split()[-1]}",
    )


def test_a_line_under_the_gallery_and_numbers_on_the_thumbnails(page: Page, shot: None) -> None:
    line = page.text("#html_log_txt2img")
    assert re.search(r"4 images scored with ImageReward: best -?\d\.\d\d \(image 1\), median .*, \d below 0\.", line)
    assert page.js("return document.querySelector('#html_info_txt2img').innerText").count("ImageReward: ") == 1
    grid, *numbers = thumbnail_scores(page)
    assert grid == ""
    assert [float(number) for number in numbers] == sorted(map(float, numbers), reverse=True)
    assert f"best {numbers[0]} " in line


def test_all_below_the_threshold_is_told_under_the_empty_gallery(page: Page, shot: None) -> None:
    set_threshold(page, PANEL, 9.5)
    text = page.generate()
    assert re.search(r"No image passed the threshold 9.5: the best score \(ImageReward\) of 4 was -?\d+\.\d{4}", text)
    assert page.js("return document.querySelectorAll('#txt2img_gallery .thumbnail-item').length") == 0


def test_png_info_and_send_to_txt2img_restore_the_script(page: Page, webui: WebUI, shot: None) -> None:
    page.fill(f"{PANEL}threshold input", "-9.5")
    page.generate()
    file = webui.saved()[-1]
    page.open()  # forgets what was typed
    page.tab("PNG Info")
    page.find("#pnginfo_image input[type=file]").send_keys(str(file))
    page.wait(lambda: "ImageReward: " in page.text("#tab_pnginfo"), "the score in PNG Info")
    assert "ImageReward threshold: -9.5" in page.text("#tab_pnginfo")
    page.click("#tab_pnginfo #txt2img_tab, #pnginfo_send_buttons button, #tab_pnginfo button[id*=txt2img]")
    page.wait(lambda: page.visible("#script_list input"), "txt2img")
    page.wait(lambda: page.value("#script_list input") == "ImageReward", "the script to be chosen again")
    page.wait(lambda: page.value(f"{PANEL}threshold input") == "-9.5", "the threshold")
    page.wait(lambda: page.visible(f"{PANEL}unload"), "the panel")
    assert page.checked(f"{PANEL}filter")
    assert page.checked(f"{PANEL}sort")
    assert page.value(f"{PANEL}scorer input") == "ImageReward"
    assert "a painting of a (cat:1.2)" in page.value("#txt2img_prompt textarea")
    assert page.value("#txt2img_steps input[type=number]") == str(webui.steps)


def test_reload_ui_keeps_the_loaded_model(page: Page, webui: WebUI, shot: None) -> None:
    page.js("document.querySelector('#settings_restart_gradio').click()")
    page.wait(lambda: webui.log.read_text(errors="replace").count("Startup time") >= 2, "the UI to start again", 120)
    page.wait(webui.answers, "the API", 60)
    page.open()
    page.choose("#script_list", "ImageReward")
    assert "in RAM" in page.text(f"{PANEL}hint")
    assert page.js("return [...document.querySelectorAll('#script_list')].length") == 2


def test_unload_twice(page: Page, shot: None) -> None:
    page.click(f"{PANEL}unload")
    page.wait(lambda: "Not loaded" in page.text(f"{PANEL}hint"), "the model to leave")
    page.click(f"{PANEL}unload")
    page.wait(lambda: "Not loaded" in page.text(f"{PANEL}hint"), "nothing to change")


def test_a_generation_after_reload_and_unload(page: Page, webui: WebUI, shot: None) -> None:
    set_up(page, webui)
    text = page.generate()
    assert "Script: ImageReward" in text
    page.wait(lambda: "in RAM" in page.text(f"{PANEL}hint"), "the model's state")


def test_upscale_from_the_gallery_replaces_one_image_whatever_the_threshold(
    page: Page, webui: WebUI, shot: None
) -> None:
    gallery = THUMBNAILS
    # Forge and reForge cannot upscale a picture in whose alpha channel they have hidden its text, their default.
    hiding = [key for key in webui.call("/sdapi/v1/options") if key.startswith("stealth_pnginfo_opt")]
    webui.set_options(**dict.fromkeys(hiding, "None"))
    page.set_checkbox(f"{PANEL}filter", False)
    page.generate()
    page.js("document.querySelectorAll(arguments[0])[2].click()", gallery)
    before = page.wait(lambda: re.search(r"ImageReward: \S+", page.text("#html_info_txt2img")), "a score")[0]
    shown = page.js("return document.querySelectorAll(arguments[0]).length", gallery)
    set_threshold(page, PANEL, 9.5)
    text = page.generate(button="upscale")
    after = re.search(r"ImageReward: \S+", text)
    assert after is not None
    assert after[0] != before
    assert "Hires upscale: 2" in text
    assert page.js("return document.querySelectorAll(arguments[0]).length", gallery) == shown
    with Image.open(webui.saved()[-1]) as picture:
        assert picture.size == (2 * webui.side, 2 * webui.side)
    page.set_checkbox(f"{PANEL}filter", False)


def test_batch_img2img_scores_each_file(page: Page, webui: WebUI, shot: None) -> None:
    folder = webui.data / "batch"
    folder.mkdir()
    for file in webui.saved()[:3]:
        shutil.copy(file, folder)
    page.tab("img2img")
    page.js("[...document.querySelectorAll('#mode_img2img > .tab-nav > button')].at(-1).click()")
    page.js("document.querySelector('#img2img_batch_source .tab-nav button:last-child')?.click()")  # from a directory
    page.fill("#img2img_batch_input_dir textarea", str(folder))
    page.fill("#img2img_prompt textarea", "a (house:1.1) by the sea")
    for side in ("width", "height"):
        page.fill(f"#img2img_{side} input[type=number]", str(webui.side))
    page.fill("#img2img_steps input[type=number]", str(webui.steps))
    page.choose("#tab_img2img #script_list", "ImageReward")
    page.generate("img2img")
    saved = webui.saved("img2img-images")
    assert len(saved) == 3
    images = [to_base64(Image.open(file)) for file in saved]
    answer = webui.call("/imagereward/score", {"images": images, "prompts": ["a house by the sea"] * 3})
    assert [written_scores(read_parameters(file))["ImageReward"] for file in saved] == pytest.approx(
        answer["scores"], abs=1e-4
    )
    page.tab("txt2img")


# -- the accordion -------------------------------------------------------------------------------------------------


@pytest.fixture
def accordion(page: Page, webui: WebUI) -> Page:
    """A page on which it is open, which enables it, and no script is chosen."""
    page.open()
    set_up(page, webui)
    page.choose("#script_list", "None")
    assert not page.visible(f"{ACCORDION}scorer")
    page.click(f"{ACCORDION}enabled .label-wrap")
    page.wait(lambda: page.visible(f"{ACCORDION}scorer"), "the accordion to open")
    return page


def threshold(page: Page) -> str:
    return page.value(f"{ACCORDION}threshold input")


def test_the_accordion_scores_filters_sorts_and_keeps_the_best(accordion: Page, webui: WebUI, shot: None) -> None:
    accordion.generate()
    first = [float(number) for number in thumbnail_scores(accordion)[1:]]
    before = len(webui.saved())
    accordion.set_checkbox(f"{ACCORDION}sort", True)
    set_threshold(accordion, ACCORDION, min(first) + 0.001)
    accordion.fill(f"{ACCORDION}keep_best input[type=number]", "2")
    accordion.generate()
    assert [float(number) for number in thumbnail_scores(accordion)[1:]] == sorted(first, reverse=True)[:2]
    assert "2 kept" in accordion.text("#html_log_txt2img")
    assert len(webui.saved()) == before + 2
    assert "Script: " not in accordion.text("#html_info_txt2img")


def test_beside_prompt_matrix_the_grid_is_whole_and_the_gallery_chosen(accordion: Page, shot: None) -> None:
    accordion.choose("#script_list", "Prompt matrix")
    accordion.fill("#txt2img_prompt textarea", "a cat|in the rain|at night")
    accordion.set_checkbox(f"{ACCORDION}sort", True)
    accordion.fill(f"{ACCORDION}keep_best input[type=number]", "2")
    accordion.generate()
    grid, *numbers = thumbnail_scores(accordion)
    assert grid == ""
    assert len(numbers) == 2
    assert float(numbers[0]) >= float(numbers[1])
    assert "4 images scored with ImageReward" in accordion.text("#html_log_txt2img")
    accordion.js("document.querySelectorAll(arguments[0])[0].click()", THUMBNAILS)


def test_with_script_imagereward_only_the_script_counts(accordion: Page, shot: None) -> None:
    set_threshold(accordion, ACCORDION, 99)
    accordion.choose("#script_list", "ImageReward")
    accordion.generate()
    assert len(thumbnail_scores(accordion)) == 5
    assert "are both on: the settings of the script were used" in accordion.text("#html_log_txt2img")


def test_the_threshold_is_greyed_out_while_nothing_uses_it(accordion: Page, shot: None) -> None:
    assert not in_use(accordion, ACCORDION)
    accordion.set_checkbox(f"{ACCORDION}filter", True)
    accordion.wait(lambda: in_use(accordion, ACCORDION), "the threshold")
    accordion.set_checkbox(f"{ACCORDION}filter", False)
    accordion.wait(lambda: not in_use(accordion, ACCORDION), "the threshold to be greyed out")


SLOW_FIRST_LETTERS = """
    const send = window.fetch;
    let wait = 3000;
    window.fetch = (...request) => {  // the earlier it was asked, the later it is answered
        const late = wait = Math.max(0, wait - 500);
        return send(...request).then(answer => new Promise(done => setTimeout(() => done(answer), late)));
    };
"""


def test_the_hint_and_the_threshold_are_of_the_scorer_that_stands_there(accordion: Page, shot: None) -> None:
    accordion.js(SLOW_FIRST_LETTERS)
    field = accordion.find(f"{ACCORDION}scorer input")
    field.click()
    field.send_keys("\ue009a", "\ue000")  # Ctrl + a
    for letter in "pickscore":
        field.send_keys(letter)
    field.send_keys("\ue004")  # Tab
    accordion.wait(lambda: "Which picture users would pick" in accordion.text(f"{ACCORDION}hint"), "the hint")
    time.sleep(4)
    assert "Roughly half of all images score above 21" in accordion.text(f"{ACCORDION}hint")
    assert threshold(accordion) == "21"
    assert accordion.requests() == []


def test_png_info_restores_the_accordion(accordion: Page, webui: WebUI, shot: None) -> None:
    accordion.set_checkbox(f"{ACCORDION}sort", True)
    set_threshold(accordion, ACCORDION, -9.5)
    accordion.fill(f"{ACCORDION}keep_best input[type=number]", "3")
    accordion.generate()
    file = webui.saved()[-1]
    accordion.open()
    accordion.tab("PNG Info")
    accordion.find("#pnginfo_image input[type=file]").send_keys(str(file))
    accordion.wait(lambda: "ImageReward threshold: -9.5" in accordion.text("#tab_pnginfo"), "the text in PNG Info")
    accordion.click("#tab_pnginfo #txt2img_tab, #pnginfo_send_buttons button, #tab_pnginfo button[id*=txt2img]")
    accordion.wait(lambda: accordion.visible(f"{ACCORDION}scorer"), "the accordion to open")
    accordion.wait(lambda: threshold(accordion) == "-9.5", "the threshold")
    accordion.wait(lambda: in_use(accordion, ACCORDION), "the threshold to be in use")
    assert accordion.checked(f"{ACCORDION}filter")
    assert accordion.checked(f"{ACCORDION}sort")
    assert accordion.value(f"{ACCORDION}keep_best input[type=number]") == "3"
    assert accordion.value("#script_list input") == "None"


def test_settings_page(page: Page, shot: None) -> None:
    page.tab("Settings")
    page.js("[...document.querySelectorAll('#settings button')].find(b => b.innerText.trim() == 'ImageReward').click()")
    labels = ("Default scorer", "Device", "Precision", "After scoring", "Folder of the weights")
    for label in (*labels, "rejected"):
        page.wait(lambda label=label: label in page.text("#settings_image_reward"), label)


def test_extras_batch_step(page: Page, webui: WebUI, shot: None) -> None:
    files = [str(file) for file in webui.saved()[-2:]]
    page.tab("Extras")
    page.js("[...document.querySelectorAll('#mode_extras button')][1].click()")
    page.find("#extras_image_batch input[type=file]").send_keys("\n".join(files))
    page.wait(lambda: "Uploading" not in page.text("#extras_image_batch"), "the upload")
    page.set_checkbox("#extras_upscale", False)
    page.js("document.querySelector('#extras_image_reward .label-wrap, #extras_image_reward > button').click()")
    page.wait(lambda: page.visible("#extras_image_reward_scorer"), "the step's settings")
    before = len(webui.saved("extras-images"))
    page.click("#extras_generate")
    page.wait(lambda: len(webui.saved("extras-images")) == before + 2, "two files")
    for made, original in zip(webui.saved("extras-images")[-2:], files, strict=True):
        assert written_scores(read_parameters(made)) == pytest.approx(
            written_scores(read_parameters(original)), abs=1e-4
        )
