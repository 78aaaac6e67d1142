"""The report in a real Chromium: its own script runs under its policy, and does what the controls say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts.browser import Browser
from PIL import Image
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.report import write_report
from sd_imagereward.core.curate.store import Store

SCORER = ScorerRecord("technical", "Technical", False, 0.0, 1.0)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    with Store(tmp_path / "scores.sqlite3") as store:
        run = store.begin_run()
        store.add_scorer(SCORER)
        for i, name in enumerate(("fox", "dog", "cat", "owl")):
            path = tmp_path / f"{name}.png"
            Image.new("RGB", (8, 8), (50 * i, 0, 0)).save(path)
            picture = Picture(path, hash=bytes([i]), prompt="</script>a day" if i % 2 else "a night", model=f"m{i % 2}")
            store.put([picture], run)
            store.put_scores(SCORER, [(picture.hash, picture.prompt, 3.0 - i, {})])
        write_report(store, SCORER, tmp_path / "report.html", linked=True)
    return tmp_path / "report.html"


def test_search_threshold_and_groups(page: Path, tmp_path: Path) -> None:
    browser = Browser(page.as_uri(), tmp_path / "profile", (390, 844))
    try:
        assert browser.text("#count") == "4 of 4"
        browser.js("document.querySelector('[data-search=m1]').click()")
        assert browser.text("#count") == "2 of 4"
        shown = "[...document.querySelectorAll('.ir-card')].filter(c => !c.hidden).map(c => c.innerText).join()"
        assert "dog.png" in browser.js(f"return {shown}")
        assert "fox.png" not in browser.js(f"return {shown}")
        browser.js("search.value = ''; threshold.value = 1.5; threshold.dispatchEvent(new Event('input'))")
        assert browser.text("#count") == "2 of 4"
        browser.js("grouped.click()")
        assert browser.js("return [...document.querySelectorAll('.group')].map(g => g.textContent)") == [
            "a night",
            "</script>a day",
        ]
        assert browser.js("return [...document.images].every(i => i.complete && i.naturalWidth)")
        assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.close()
