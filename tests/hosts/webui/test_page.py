"""The panel in a real page: choose the script, generate, filter, PNG Info, send back, Reload UI, Unload.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

from .browser import Page
from .server import WebUI, to_base64

pytestmark = pytest.mark.host
PANEL = "#script_txt2img_imagereward_"


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


def set_up(page: Page, webui: WebUI) -> None:
    page.choose("#script_list", "ImageReward")
    page.fill("#txt2img_prompt textarea", "a painting of a (cat:1.2) under the clouds")
    sizes = {"steps": webui.steps, "width": webui.side, "height": webui.side, "batch_count": 2, "batch_size": 2}
    for selector, value in sizes.items():
        page.fill(f"#txt2img_{selector} input[type=number]", str(value))
    page.fill("#txt2img_seed input", "5")


def test_nothing_is_loaded_before_the_first_run(page: Page, webui: WebUI, shot: None) -> None:
    set_up(page, webui)
    assert "not loaded" in page.text(f"{PANEL}state")
    assert "1.8 GB" in page.text(f"{PANEL}hint")
    assert "standard normal" in page.text(f"{PANEL}threshold")
    assert page.requests() == []
    assert not page.visible(".pending")


def test_generate_shows_the_score_and_the_model(page: Page, shot: None) -> None:
    page.set_checkbox(f"{PANEL}sort", True)
    text = page.generate()
    assert "Script: ImageReward" in text
    page.js("document.querySelectorAll('#txt2img_gallery .thumbnail-item')[1].click()")
    page.wait(lambda: re.search(r"ImageReward: -?\d+\.\d{4}", page.text("#html_info_txt2img")), "a score")
    page.wait(lambda: "in RAM" in page.text(f"{PANEL}state"), "the model's state")
    assert page.requests() == []
    assert not page.visible(".pending")


def test_all_below_the_threshold_is_told_under_the_empty_gallery(page: Page, shot: None) -> None:
    page.set_checkbox(f"{PANEL}filter", True)
    page.fill(f"{PANEL}threshold input", "9.5")
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
    assert "in RAM" in page.text(f"{PANEL}state")
    assert page.js("return [...document.querySelectorAll('#script_list')].length") == 2


def test_unload_twice(page: Page, shot: None) -> None:
    page.click(f"{PANEL}unload")
    page.wait(lambda: "not loaded" in page.text(f"{PANEL}state"), "the model to leave")
    page.click(f"{PANEL}unload")
    page.wait(lambda: "not loaded" in page.text(f"{PANEL}state"), "nothing to change")


def test_a_generation_after_reload_and_unload(page: Page, webui: WebUI, shot: None) -> None:
    set_up(page, webui)
    text = page.generate()
    assert "Script: ImageReward" in text
    page.wait(lambda: "in RAM" in page.text(f"{PANEL}state"), "the model's state")


def test_upscale_from_the_gallery_replaces_one_image_whatever_the_threshold(
    page: Page, webui: WebUI, shot: None
) -> None:
    gallery = "#txt2img_gallery .thumbnail-item"
    # Forge and reForge cannot upscale a picture in whose alpha channel they have hidden its text, their default.
    hiding = [key for key in webui.call("/sdapi/v1/options") if key.startswith("stealth_pnginfo_opt")]
    webui.set_options(**dict.fromkeys(hiding, "None"))
    page.set_checkbox(f"{PANEL}filter", False)
    page.generate()
    page.js("document.querySelectorAll(arguments[0])[2].click()", gallery)
    before = page.wait(lambda: re.search(r"ImageReward: \S+", page.text("#html_info_txt2img")), "a score")[0]
    shown = page.js("return document.querySelectorAll(arguments[0]).length", gallery)
    page.set_checkbox(f"{PANEL}filter", True)
    page.fill(f"{PANEL}threshold input", "9.5")
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


def test_settings_page(page: Page, shot: None) -> None:
    page.tab("Settings")
    page.js("[...document.querySelectorAll('#settings button')].find(b => b.innerText.trim() == 'ImageReward').click()")
    labels = ("Default scorer", "Score every image", "Device", "Precision", "After scoring", "Folder of the weights")
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
