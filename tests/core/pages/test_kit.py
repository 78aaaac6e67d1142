"""The page kit: what comes from users' files stays text on every page, and a page is whole and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from html_reader import Reader
from PIL import Image
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.report import write_report
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.gallery.album import Album, Choice, picture_id
from sd_imagereward.core.gallery.cards import detail_html, note_html, page_html
from sd_imagereward.core.pages.contact_sheet import SheetRow, write_contact_sheet
from sd_imagereward.core.pages.kit import CORE, asset, write_page
from sd_imagereward.core.preference.agreement import Estimate
from sd_imagereward.core.preference.benchmark import Benchmark, ModelScore, Prompt

NASTY = "\"'></script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 191 }}&\0\x1b[2J\u202egnp.exe"
SHOWN = NASTY
for char in "\0\x1b\u202e":
    SHOWN = SHOWN.replace(char, f"\\u{ord(char):04x}")
SCORER = ScorerRecord("technical", NASTY, False, 0.0, 1.0)


def contact_sheet(folder: Path) -> str:
    row = SheetRow(
        Image.new("RGB", (8, 8)), 0.0, 50.0, NASTY, {NASTY: 1.0}, NASTY + "\ud800"
    )  # a name that is not UTF-8
    write_contact_sheet([row], folder / "page.html", title=NASTY, note=NASTY)
    return (folder / "page.html").read_text(encoding="utf-8")


def scored(folder: Path) -> Store:
    store = Store(folder / ".imagereward.sqlite3")
    run = store.begin_run()
    store.add_scorer(SCORER)
    for i in range(2):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
        picture = Picture(folder / f"{i}.png", hash=bytes([i]), prompt=NASTY, model=NASTY, loras=(NASTY,))
        store.put([picture], run)
        store.put_scores(SCORER, [(picture.hash, picture.prompt, float(i), {NASTY: 1.0})])
    return store


def report(folder: Path) -> str:
    with scored(folder) as store:
        write_report(store, SCORER, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def gallery(folder: Path) -> str:
    scored(folder).close()
    album = Album.open(folder)
    grid = page_html(album, Choice())
    large = detail_html(album, SCORER, picture_id(album.show(Choice()).pictures[0]))
    return grid + large + note_html(NASTY, [NASTY])


def benchmark(folder: Path) -> str:
    models = [ModelScore(NASTY + str(i), Estimate(0.5, 0.4, 0.6), [0.5], [[0.5]], None) for i in range(2)]
    result = Benchmark({NASTY: models}, [Prompt("1", NASTY)], {NASTY: NASTY}, {NASTY: 1})
    write_page(folder / "page.html", "preference/benchmark.html", benchmark=result)
    return (folder / "page.html").read_text(encoding="utf-8")


PAGES = [contact_sheet, report, benchmark, gallery]


@pytest.mark.parametrize("page", PAGES)
def test_what_users_files_say_stays_text(page, tmp_path: Path) -> None:
    html = page(tmp_path)
    reader = Reader(html)
    assert SHOWN in reader.text
    assert not set("\0\x1b\u202e") & set(html)
    assert not any(key.startswith("on") for _, attributes in reader.tags for key in attributes)
    assert {image["src"][:11] for image in reader.named("img")} <= {"data:image/"}
    assert len(reader.named("script")) == (page is report)
    assert "1337" not in re.sub('base64,[^"]+', "", html)  # the braces of a prompt are no template


@pytest.mark.parametrize("page", PAGES[:3])
def test_a_page_may_load_nothing_and_run_its_own_script_alone(page, tmp_path: Path) -> None:
    reader = Reader(page(tmp_path))
    [policy] = [meta["content"] for meta in reader.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert ("script-src" in rules) == (page is report)
    assert not {tag for tag, _ in reader.tags} & {"link", "iframe", "object", "base", "form"}
    for image in reader.named("img"):
        assert image["alt"]


def test_the_policy_names_the_script_as_the_page_has_it(tmp_path: Path) -> None:
    page = report(tmp_path)
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page


def test_a_template_that_lacks_a_value_fails_and_leaves_the_older_page(tmp_path: Path) -> None:
    contact_sheet(tmp_path)
    before = (tmp_path / "page.html").read_bytes()
    with pytest.raises(Exception, match="'title' is undefined"):
        write_page(tmp_path / "page.html", "pages/contact_sheet.html", note="", cards=[])
    assert (tmp_path / "page.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_every_template_is_listed_in_pyproject(repository: Path) -> None:
    """So that an installed package has them; a clone finds them beside the modules."""
    from test_architecture import pyproject

    data = pyproject()["tool"]["setuptools"]["package-data"]
    for path in (p for p in CORE.rglob("*") if p.suffix in (".html", ".css", ".js", ".svg")):
        package = ".".join(("sd_imagereward", *path.parent.relative_to(repository).parts))
        assert any(path.match(pattern) for pattern in data[package]), f"{path} is missing from {package}'s package-data"


@pytest.mark.parametrize("name", ["pages/page.css", "pages/cards.css", "curate/report.css", "gallery/gallery.css"])
def test_styles_load_nothing(name: str) -> None:
    assert not re.search(r"url\(|@import|</", asset(name))


def contrast(first: str, second: str) -> float:
    """WCAG 2.2: 1 to 21."""

    def luminance(colour: str) -> float:
        colour = "#" + "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_charts_stand_out(scheme: int) -> None:
    blocks = asset("pages/page.css").split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"(--ir-\w+): (#\w+);", blocks[scheme].split("* {")[0]))
    for ground in ("--ir-paper", "--ir-card"):
        assert all(contrast(colours[text], colours[ground]) >= 4.5 for text in ("--ir-ink", "--ir-soft"))
        assert all(contrast(colours[f"--ir-{i}"], colours[ground]) >= 3 for i in range(7))
