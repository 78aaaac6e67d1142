"""SD.Next's page: the Control tab that it generates on, Process with the text of a file, what is sent back, and our gallery.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

from .browser import Page
from .sdnext import SDNext
from .server import WebUI

pytestmark = pytest.mark.host
PANEL = "#script_control_imagereward_"
GALLERY = "#ir_gallery_"
PATIENCE = 300  # the page has 6,000 components


class SDNextPage(Page):
    def open(self) -> None:
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.driver.command_executor.client_config.timeout = PATIENCE
        self.driver.get(self.url)
        self.wait(lambda: self.js("return !!document.querySelector('#control_script_list')"), "the page", PATIENCE)
        time.sleep(5)

    def put(self, selector: str, value: Any) -> None:
        """Into a field that may lie in a closed accordion."""
        self.js(
            """const field = document.querySelector(arguments[0]);
            Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, arguments[1]);
            for (const name of ['input', 'change', 'blur']) field.dispatchEvent(new Event(name, { bubbles: true }));""",
            selector,
            str(value),
        )

    def press(self, selector: str, words: str = "") -> None:
        """A button that may lie outside the window, the one with these words on it."""
        self.js(
            "[...document.querySelectorAll(arguments[0])].find(one => one.innerText.includes(arguments[1])).click()",
            selector,
            words,
        )

    def shown(self) -> int:
        return len(self.driver.find_elements("css selector", "#control_gallery .thumbnail-item"))


@pytest.fixture(scope="module", params=["black-teal", "simple-light"])
def webui(furnish: Callable[..., WebUI], request: pytest.FixtureRequest) -> Iterator[WebUI]:
    """Dark and light."""
    server = furnish("--theme", f"standard/{request.param}")
    if not isinstance(server, SDNext):
        pytest.skip("the host at SDWEBUI_PATH is not SD.Next")
    folder = server.data / "outputs" / "text"  # else our gallery has none
    folder.mkdir(parents=True)
    save_image(
        Image.effect_noise((64, 64), 60).convert("RGB"), folder / "00000.png", parameters="a cat\nSteps: 1, Seed: 1"
    )
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def page(webui: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SDNextPage]:
    page = SDNextPage(webui.url, tmp_path_factory.mktemp("chromium"), (1600, 1800))
    yield page
    page.close()


def test_control_generates_sorts_and_shows_scores(page: SDNextPage, webui: WebUI, shot: None) -> None:
    page.tab("Control")
    page.choose("#control_script_list", "ImageReward")
    page.wait(lambda: page.visible(f"{PANEL}unload"), "the panel")
    page.put("#control_prompt textarea", "a painting of a (cat:1.2)")
    sizes = {"steps": webui.steps, "before_resize_width": webui.side, "before_resize_height": webui.side, "seed": 5}
    for name, value in {**sizes, "batch_count": 2, "batch_size": 2}.items():
        page.put(f"#control_{name} input[type=number]", value)
    page.js("document.querySelector(arguments[0]).click()", f"{PANEL}sort input")
    before = set(webui.saved())
    page.press("#control_generate")
    page.wait(lambda: page.shown() == 5, "grid and four pictures", PATIENCE)
    made = sorted(set(webui.saved()) - before)
    assert len({written_scores(read_parameters(file))["ImageReward"] for file in made}) == 4
    scores = []
    for position in range(1, 5):
        page.js("document.querySelectorAll('#control_gallery .thumbnail-item')[arguments[0]].click()", position)
        seen = tuple(scores)
        text = page.wait(lambda seen=seen: _other_score(page, seen), "the score of the picture")
        scores.append(text)
    assert [float(score) for score in scores] == sorted(map(float, scores), reverse=True)


def _other_score(page: SDNextPage, seen: tuple[str, ...]) -> str:
    _, found, score = page.text("#control-result").rpartition("ImageReward: ")
    score = score.split("|")[0].strip()
    return score if found and score not in seen else ""


def test_process_shows_and_scores_a_file(page: SDNextPage, webui: WebUI, shot: None) -> None:
    page.tab("Process")
    file = webui.saved()[-1]
    page.find("#extras_image input[type=file]").send_keys(str(file))
    page.wait(lambda: "ImageReward: " in page.text("#pnginfo_html_info"), "the score among the file's metadata")
    page.press(".label-wrap", "ImageReward")
    page.js("document.querySelector('#extras_image_reward input[type=checkbox]').click()")
    page.press("#extras_generate")
    page.wait(lambda: webui.saved("extras-images"), "the file", PATIENCE)
    made = webui.saved("extras-images")[-1]
    assert written_scores(read_parameters(made)) == pytest.approx(written_scores(read_parameters(file)), abs=1e-4)


def test_what_is_sent_to_control_brings_script_and_settings_back(page: SDNextPage, webui: WebUI, shot: None) -> None:
    page.open()  # forgets what was typed
    page.tab("Process")
    file = webui.saved()[-1]
    page.find("#extras_image input[type=file]").send_keys(str(file))
    page.wait(lambda: "ImageReward: " in page.text("#pnginfo_html_info"), "the score among the file's metadata")
    page.press("#copy_buttons_process button", "Control")
    page.wait(lambda: page.value("#control_script_list input") == "ImageReward", "the script to be chosen again")
    page.wait(lambda: page.js("return document.querySelector(arguments[0]).checked", f"{PANEL}sort input"), "sort")
    assert page.value("#control_prompt textarea") == parse_parameters(read_parameters(file)).prompt
    assert page.value("#control_steps input[type=number]") == str(webui.steps)


def test_our_gallery_scores_the_folder(page: SDNextPage, webui: WebUI, shot: None) -> None:
    page.tab("ImageReward")
    page.wait(lambda: page.visible(f"{GALLERY}score"), "the gallery")
    page.choose(f"{GALLERY}scorer", "Technical")
    page.click(f"{GALLERY}score")
    page.wait(lambda: "scored" in page.text(f"{GALLERY}status"), "the pictures to be scored", PATIENCE)
    page.wait(lambda: page.driver.find_elements("css selector", f"{GALLERY}grid .ir-card"), "the cards")


def test_the_pages_of_the_settings_are_there(page: SDNextPage, shot: None) -> None:
    labels = page.js(
        "return document.querySelector('#settings_section_tab_image_reward, #settings_image_reward').innerHTML"
    )
    assert "Default scorer" in labels
    assert "Folder of the weights" not in labels
