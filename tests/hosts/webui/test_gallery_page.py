"""The tab *ImageReward* in a real page: a fresh install, scores that stand in files, the threshold, and what is refused.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

from .browser import Page
from .server import WebUI

pytestmark = pytest.mark.host
COUNT = 5
GALLERY = "#ir_gallery_"
CARDS = f"{GALLERY}grid .ir-card"
QUESTION = f"{GALLERY}grid .ir-question"


@pytest.fixture(scope="module")
def gallery(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    """A WebUI of its own that has saved nothing yet."""
    server = furnish()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def page(gallery: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(gallery.url, tmp_path_factory.mktemp("chromium"))
    page.tab("ImageReward")
    yield page
    page.close()


@pytest.fixture(scope="module")
def other_folder(gallery: WebUI) -> Path:
    """Another folder of outputs, of pictures without scores, sharp to flat; and a picture that belongs to no folder."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    folder = home(gallery).with_name("img2img-images")
    folder.mkdir(parents=True)
    for i in range(COUNT):
        image = Image.fromarray((128 + (noise - 128) * i / COUNT).astype(np.uint8))
        text = f"a painting of cat {i}\nSteps: 1, Sampler: Euler, Seed: {i}, Size: 64x64"
        save_image(image, folder / f"{i}.png", parameters=text)
    save_image(Image.fromarray(noise.astype(np.uint8)), gallery.data / "secret.png", parameters="secret")
    return folder


def home(gallery: WebUI) -> Path:
    """The folder of txt2img's images."""
    return next(folder for folder in gallery.saved()[0].parents if folder.name == "txt2img-images")


def count(page: Page) -> int:
    return len(page.driver.find_elements("css selector", CARDS))


def shown(page: Page) -> list[float]:
    text = page.text(f"{GALLERY}grid .ir-gallery").replace("\N{MINUS SIGN}", "-")
    return [float(number) for number in re.findall(r"-?\d+\.\d{4}", text)]


def written(files: list[Path], title: str = "ImageReward") -> list[float]:
    """The scores in files, best first."""
    return sorted((written_scores(read_parameters(file) or "")[title] for file in files), reverse=True)


def come_back(page: Page) -> None:
    """To the tab, from another one."""
    page.tab("txt2img")
    time.sleep(1.5)  # the page's script looks once a second
    page.tab("ImageReward")


def send(page: Page, **event: str) -> None:
    """What the page's script would say of a click, here with any content."""
    page.js(
        """const field = document.querySelector('#ir_gallery_wire textarea, #ir_gallery_wire input');
        Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, arguments[0]);
        field.dispatchEvent(new Event('input', { bubbles: true }));""",
        json.dumps(event),
    )


def test_the_tab_is_there_on_a_fresh_install(page: Page, gallery: WebUI, shot: None) -> None:
    page.wait(lambda: "Nothing is saved in" in page.text(f"{GALLERY}grid"), "the tab of a fresh install")
    assert gallery.saved() == []
    page.wait(lambda: not page.visible(".toast-body"), "the host's own complaints of a slow start to go")
    page.click(f"{GALLERY}score")
    page.wait(lambda: "does not exist yet" in page.text(f"{GALLERY}status"), "the reason why nothing is scored")


def test_scores_in_files_are_asked_for(page: Page, gallery: WebUI, shot: None) -> None:
    gallery.generate("imagereward")
    middle = median(written(gallery.saved()))
    gallery.set_options(image_reward_rejected="Save to a subfolder")
    gallery.generate("imagereward", True, middle)
    come_back(page)
    page.wait(lambda: "8 pictures of this folder carry a score" in page.text(QUESTION), "the question")
    assert "No picture of this folder is scored yet" in page.text(f"{GALLERY}grid")
    assert not list(home(gallery).glob(".imagereward*"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_question_can_be_read(page: Page, gallery: WebUI, theme: str, shot: None) -> None:
    show_in(page, gallery, theme)
    page.wait(lambda: "carry a score" in page.text(QUESTION), "the question")
    legible(page, QUESTION, ("p", ".ir-note", "[data-ir-do=trust]", "[data-ir-do=distrust]"))


def test_scores_in_files_are_shown_without_a_second_question(page: Page, gallery: WebUI, shot: None) -> None:
    page.click(f"{QUESTION} [data-ir-do=trust]")
    kept = [file for file in gallery.saved() if file.parent.name != "rejected"]
    page.wait(lambda: count(page) == len(kept) == 6, "the cards")
    assert shown(page) == written(kept)
    assert not page.visible(QUESTION)
    assert json.loads((gallery.data / "config.json").read_text())["image_reward_written"] == "Use"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_cards_can_be_read(page: Page, gallery: WebUI, theme: str, shot: None) -> None:
    show_in(page, gallery, theme)
    page.wait(lambda: count(page) == 6, "the cards")
    legible(page, f"{GALLERY}grid", (".ir-note", ".ir-score", ".ir-percentile", ".ir-name", ".ir-prompt"))


def test_rejected_images_are_apart(page: Page, gallery: WebUI, shot: None) -> None:
    rejected = [file for file in gallery.saved() if file.parent.name == "rejected"]
    page.set_checkbox(f"{GALLERY}apart", True)
    page.wait(lambda: count(page) == len(rejected) == 2, "the rejected images")
    assert shown(page) == written(rejected)
    page.set_checkbox(f"{GALLERY}apart", False)
    page.wait(lambda: count(page) == 6, "the others")


def test_new_images_come_by_themselves(page: Page, gallery: WebUI, shot: None) -> None:
    gallery.generate("imagereward", seed=50)
    come_back(page)
    page.wait(lambda: count(page) == 10, "the new images")
    assert not page.visible(QUESTION)


def test_nothing_is_scored_twice(page: Page, gallery: WebUI, shot: None) -> None:
    page.click(f"{GALLERY}score")
    page.wait(lambda: "0 scored, 12 unchanged" in page.text(f"{GALLERY}status"), "every score to be known", 120)
    assert count(page) == 10


def test_pictures_of_another_folder_are_scored_and_shown(page: Page, other_folder: Path, shot: None) -> None:
    page.choose(f"{GALLERY}folder", "/".join(other_folder.parts[-2:]))
    page.wait(lambda: "No picture of this folder is scored yet" in page.text(f"{GALLERY}grid"), "the empty gallery")
    page.choose(f"{GALLERY}scorer", "Technical")
    page.click(f"{GALLERY}score")
    page.wait(lambda: f"{COUNT} scored" in page.text(f"{GALLERY}status"), "the pictures to be scored", 120)
    page.wait(lambda: count(page) == COUNT, "the cards")
    assert len(shown(page)) == COUNT
    assert shown(page) == sorted(shown(page), reverse=True)
    assert "a painting of cat 0" in page.text(f"{GALLERY}grid")
    assert page.requests() == []


def test_a_card_opens_the_metadata(page: Page, shot: None) -> None:
    page.click(f'{CARDS}[title="a painting of cat 3"]')
    page.wait(lambda: "Sampler: Euler, Seed: 3" in page.text(f"{GALLERY}detail"), "the picture's metadata")


def test_the_threshold_filters(page: Page, shot: None) -> None:
    scores = shown(page)
    page.fill(f"{GALLERY}least input[type=number]", f"{(scores[1] + scores[2]) / 2:.3f}")
    page.wait(lambda: count(page) == 2, "the two best alone")
    page.fill(f"{GALLERY}least input[type=number]", f"{scores[-1] - 0.01:.3f}")
    page.wait(lambda: count(page) == COUNT, "all again")


def test_what_leads_out_of_the_folder_is_refused(page: Page, gallery: WebUI, other_folder: Path, shot: None) -> None:
    send(page, do="open", id=str(gallery.data / "secret.png"))
    page.wait(lambda: "no such picture" in page.text(f"{GALLERY}detail"), "a path to be refused")
    identity = page.js(f"return document.querySelector('{CARDS}[title=\"a painting of cat 4\"]').dataset.irId")
    (other_folder / "4.png").unlink()
    (other_folder / "4.png").symlink_to(gallery.data / "secret.png")
    send(page, do="open", id=identity)
    page.wait(lambda: "leads out of" in page.text(f"{GALLERY}detail"), "a link to be refused")
    assert "secret" not in page.text(f"{GALLERY}detail").replace("secret.png", "")


def test_actions_stay_in_the_folder_and_labels_reach_the_files(page: Page, other_folder: Path, shot: None) -> None:
    page.js("[...document.querySelectorAll('#tab_image_reward_gallery .label-wrap')].forEach(b => b.click())")
    page.choose(f"{GALLERY}action", "Copy the best N to a folder")
    page.fill("#tab_image_reward_gallery [placeholder^='best, or']", "../out")
    page.click(f"{GALLERY}dry input[type=checkbox]")
    page.click(f"{GALLERY}apply")
    page.wait(lambda: "leads out of" in page.text(f"{GALLERY}status"), "the folder to be refused")
    assert not (other_folder.parent / "out").exists()
    page.choose(f"{GALLERY}action", "Write scores into the files")
    page.click(f"{GALLERY}apply")
    page.wait(lambda: "files changed" in page.text(f"{GALLERY}status"), "the labels")
    assert "Technical" in written_scores(read_parameters(other_folder / "3.png") or "")


def show_in(page: Page, gallery: WebUI, theme: str) -> None:
    page.url = f"{gallery.url}/?__theme={theme}"
    page.open()
    page.tab("ImageReward")


def legible(page: Page, inside: str, parts: Iterable[str]) -> None:
    """Waits, as Gradio fades in what it shows."""
    for part in parts:
        page.wait(lambda part=part: contrast(page, f"{inside} {part}") >= 4.5, f"{part} to be legible", 10)


def contrast(page: Page, selector: str) -> float:
    """Of a text and what lies behind it, by WCAG 2.2, 1.4.3."""
    ink, paper = page.js(CONTRAST, selector)
    lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# Painted on a canvas, as styles may name colours in any notation: the papers from the outermost in, then the ink.
CONTRAST = """
const element = document.querySelector(arguments[0]);
const canvas = document.createElement('canvas');
canvas.width = canvas.height = 1;
const paint = canvas.getContext('2d', { willReadFrequently: true });
const look = () => [...paint.getImageData(0, 0, 1, 1).data];
const papers = [];
let opacity = 1;
for (let e = element; e; e = e.parentElement) {
  papers.unshift(getComputedStyle(e).backgroundColor);
  opacity *= Number(getComputedStyle(e).opacity);
}
for (const paper of ['white', ...papers]) { paint.fillStyle = paper; paint.fillRect(0, 0, 1, 1); }
const paper = look();
paint.globalAlpha = opacity;
paint.fillStyle = getComputedStyle(element).color;
paint.fillRect(0, 0, 1, 1);
return [look(), paper];
"""
