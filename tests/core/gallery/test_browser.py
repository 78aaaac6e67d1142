"""The gallery in a real Chromium: what a person sees, clicks and types."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts.browser import Browser
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.workplace import open_workplace
from sd_imagereward.core.demo.pictures import write_demo
from sd_imagereward.core.scorers.loading import load_scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, size=128)
    with open_workplace(folder) as place:
        score_files(folder, [("technical", load_scorer("technical"))], place.store)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    pytest.importorskip("gradio", reason="pip install gradio to serve the gallery")
    from sd_imagereward.core.gallery.serve import serve

    opened: list[str] = []
    address = serve([folder], port=None, open_browser=False, block=False, on_open=opened.append)
    assert opened == [address]
    return address


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(address, tmp_path_factory.mktemp("profile"), (1280, 1000))
    yield browser
    browser.close()


def test_browse_open_pick_and_export(browser: Browser, folder: Path) -> None:
    driver, wait = browser.driver, browser.wait
    browser.find(".ir-card")
    cards = driver.find_elements("css selector", ".ir-card")
    assert len(cards) == 12
    assert "mountains.png" in browser.text("#ir_gallery_grid")

    def opened() -> bool:
        """Gradio draws the page before it listens, so a click may come too early."""
        browser.js("""document.querySelector('.ir-card[title*="misty mountains"]').click()""")
        time.sleep(1)
        return "a painting of misty mountains" in browser.text("#ir_gallery_detail")

    wait(opened, "the picture's metadata")

    search = driver.find_element("css selector", "#ir_gallery_search textarea, #ir_gallery_search input")
    search.send_keys("misty")
    wait(lambda: len(driver.find_elements("css selector", ".ir-card")) == 2, "what the search leaves")
    search.send_keys("\ue003" * len("misty"))  # backspace
    wait(lambda: len(driver.find_elements("css selector", ".ir-card")) == 12, "all again")
    least = driver.find_element("css selector", "#ir_gallery_least input[type=number]")
    lowest = least.get_attribute("value")
    least.send_keys("\ue009a\ue000", "-1")  # control and a
    wait(lambda: 0 < len(driver.find_elements("css selector", ".ir-card")) < 12, "what passes the threshold")
    least.send_keys("\ue009a\ue000", lowest)
    wait(lambda: len(driver.find_elements("css selector", ".ir-card")) == 12, "all again")

    driver.execute_script("document.querySelectorAll('#ir_gallery_view input')[1].click()")
    wait(lambda: "1 of 6 groups" in browser.text("#ir_gallery_grid"), "the groups")
    body = driver.find_element("tag name", "body")
    body.send_keys("2")
    wait(lambda: driver.find_elements("css selector", '.ir-card.ir-winner[data-ir-key="2"]'), "the winner's frame")
    body.send_keys("\ue014")  # arrow to the right
    wait(lambda: "2 of 6 groups" in browser.text("#ir_gallery_grid"), "the next group")
    body.send_keys("1")
    wait(lambda: driver.find_elements("css selector", '.ir-card.ir-winner[data-ir-key="1"]'), "the second winner")

    driver.execute_script("[...document.querySelectorAll('button')].find(b => b.innerText.includes('Actions')).click()")
    wait(lambda: driver.find_elements("id", "ir_gallery_export"), "the actions")
    driver.execute_script("document.getElementById('ir_gallery_export').click()")
    wait(lambda: "2 pairs" in browser.text("#ir_gallery_status"), "the exported pairs")
    rows = [json.loads(line) for line in (folder / "preference-pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all((folder / row[key]).is_file() for row in rows for key in ("better", "worse"))


def test_no_route_serves_files(address: str, folder: Path) -> None:
    base = address.rstrip("/")
    (folder / "link.png").symlink_to("/etc/hostname")
    paths = [str(folder / "mountains.png"), str(folder / "link.png"), "/etc/passwd", f"{folder}/../../../../etc/passwd"]
    for path in paths:
        for route in ("/gradio_api/file=", "/file=", "/file/"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{base}{route}{path}")
            assert refused.value.code in (403, 404)


def test_a_port_that_is_taken_is_said(address: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = address.rstrip("/").rpartition(":")[2]
    assert main(["gallery", str(folder), "--no-browser", "--port", port]) == 2
    assert "choose another port with --port" in capsys.readouterr().err


def test_it_listens_on_this_machine_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
