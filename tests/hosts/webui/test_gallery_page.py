"""The tab *ImageReward* in a real page: the pictures of the output folder, the threshold, and what is refused.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture(scope="module")
def gallery(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    """A WebUI of its own, in whose output folder pictures lay when it started, sharp to flat."""
    server = furnish()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    folder = server.data / "outputs" / "txt2img-images"
    folder.mkdir(parents=True)
    for i in range(COUNT):
        image = Image.fromarray((128 + (noise - 128) * i / COUNT).astype(np.uint8))
        text = f"a painting of cat {i}\nSteps: 1, Sampler: Euler, Seed: {i}, Size: 64x64"
        save_image(image, folder / f"{i}.png", parameters=text)
    save_image(Image.fromarray(noise.astype(np.uint8)), server.data / "secret.png", parameters="secret")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def outputs(gallery: WebUI) -> Path:
    return gallery.data / "outputs" / "txt2img-images"


@pytest.fixture(scope="module")
def page(gallery: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(gallery.url, tmp_path_factory.mktemp("chromium"))
    page.tab("ImageReward")
    yield page
    page.close()


def count(page: Page) -> int:
    return len(page.driver.find_elements("css selector", CARDS))


def shown_scores(page: Page) -> list[float]:
    text = page.text(f"{GALLERY}grid").replace("\N{MINUS SIGN}", "-")
    return [float(number) for number in re.findall(r"-?\d+\.\d{4}", text)]


def send(page: Page, **event: str) -> None:
    """What the page's script would say of a click, here with any content."""
    page.js(
        """const field = document.querySelector('#ir_gallery_wire textarea, #ir_gallery_wire input');
        Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, arguments[0]);
        field.dispatchEvent(new Event('input', { bubbles: true }));""",
        json.dumps(event),
    )


def test_pictures_of_the_output_folder_are_scored_and_shown(page: Page, shot: None) -> None:
    page.wait(lambda: "No picture of this folder is scored yet" in page.text(f"{GALLERY}grid"), "the empty gallery")
    page.choose(f"{GALLERY}scorer", "Technical")
    page.click(f"{GALLERY}score")
    page.wait(lambda: f"{COUNT} scored" in page.text(f"{GALLERY}status"), "the pictures to be scored", 120)
    page.wait(lambda: count(page) == COUNT, "the cards")
    scores = shown_scores(page)
    assert len(scores) == COUNT
    assert scores == sorted(scores, reverse=True)
    assert "a painting of cat 0" in page.text(f"{GALLERY}grid")
    assert page.requests() == []


def test_a_card_opens_the_metadata(page: Page, shot: None) -> None:
    page.click(f'{CARDS}[title="a painting of cat 3"]')
    page.wait(lambda: "Sampler: Euler, Seed: 3" in page.text(f"{GALLERY}detail"), "the picture's metadata")


def test_the_threshold_filters(page: Page, shot: None) -> None:
    scores = shown_scores(page)
    page.fill(f"{GALLERY}least input[type=number]", f"{(scores[1] + scores[2]) / 2:.3f}")
    page.wait(lambda: count(page) == 2, "the two best alone")
    page.fill(f"{GALLERY}least input[type=number]", f"{scores[-1] - 0.01:.3f}")
    page.wait(lambda: count(page) == COUNT, "all again")


def test_what_leads_out_of_the_folder_is_refused(page: Page, gallery: WebUI, outputs: Path, shot: None) -> None:
    send(page, do="open", id=str(gallery.data / "secret.png"))
    page.wait(lambda: "no such picture" in page.text(f"{GALLERY}detail"), "a path to be refused")
    identity = page.js(f"return document.querySelector('{CARDS}[title=\"a painting of cat 4\"]').dataset.irId")
    (outputs / "4.png").unlink()
    (outputs / "4.png").symlink_to(gallery.data / "secret.png")
    send(page, do="open", id=identity)
    page.wait(lambda: "leads out of" in page.text(f"{GALLERY}detail"), "a link to be refused")
    assert "secret" not in page.text(f"{GALLERY}detail").replace("secret.png", "")


def test_actions_stay_in_the_folder_and_labels_reach_the_files(page: Page, outputs: Path, shot: None) -> None:
    page.js("[...document.querySelectorAll('#tab_image_reward_gallery .label-wrap')].forEach(b => b.click())")
    page.choose(f"{GALLERY}action", "Copy the best N to a folder")
    page.fill("#tab_image_reward_gallery [placeholder^='best, or']", "../out")
    page.click(f"{GALLERY}dry input[type=checkbox]")
    page.click(f"{GALLERY}apply")
    page.wait(lambda: "leads out of" in page.text(f"{GALLERY}status"), "the folder to be refused")
    assert not (outputs.parent / "out").exists()
    page.choose(f"{GALLERY}action", "Write scores into the files")
    page.click(f"{GALLERY}apply")
    page.wait(lambda: "files changed" in page.text(f"{GALLERY}status"), "the labels")
    assert "Technical" in written_scores(read_parameters(outputs / "3.png") or "")
