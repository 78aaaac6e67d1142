"""The gallery's pages, looked up in a ranking, hold what a plain pass over all pictures gives."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.curate.ranking import Ranking
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME, default_store
from sd_imagereward.core.gallery import album as album_module
from sd_imagereward.core.gallery.album import GRID, GROUPS, PAGE, PAIRS, Album, Choice
from sd_imagereward.core.gallery.cards import page_html

PLAIN = ScorerRecord("technical", "Technical", False, 0.0, 1.0)
READER = ScorerRecord("reader", "Reader", True, 0.0, 1.0)
SEARCHES = ("", "fox", "FOX red", "Été", "07.png", "fur m1", "nowhere")
LIMITS = (-math.inf, -1.0, 0.0, 0.25, 0.5, 2.0, math.inf, math.nan)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ties, copies, scores that are no number, broken files, files without prompt, and some that were there last time."""
    root = tmp_path_factory.mktemp("pictures")
    chance = random.Random(0)
    prompts = ["a fox", "a red fox", "une ÉTÉ", "", None, *(f"prompt {i}" for i in range(20))]
    with Store(root / FILE_NAME) as store:
        for record in (PLAIN, READER):
            store.add_scorer(record)
        earlier = store.begin_run()
        store.finish_run(earlier)
        last = store.begin_run()
        store.finish_run(last)
        for i in range(300):
            picture = Picture(
                root / chance.choice(("", "sub", "sub/deep")) / f"{i:03}.png",
                hash=bytes([i % 256, i // 280]) if i % 10 else b"copy",
                prompt=chance.choice(prompts),
                model=chance.choice(("", "m1", "m2")),
                loras=chance.choice(((), ("fur",), ("Fur", "ink"))),
                error="broken" if chance.random() < 0.05 else "",
            )
            store.put([picture], earlier if chance.random() < 0.1 else last)
            for record in (PLAIN, READER):
                score = chance.choice((None, math.nan, *(n / 4 for n in range(-5, 6))))
                if chance.random() < 0.9:
                    store.put_scores(record, [(picture.hash, picture.prompt, score, {})])
    return root


def by_hand(root: Path, record: ScorerRecord) -> list[Picture]:
    """The ranking from the rows of the tables, without SQLite's joins and order."""
    with Store(root / FILE_NAME) as store:
        run = store.last_run()
        rows = store.query("SELECT path, hash, prompt, prompt_key, model, loras, error, run FROM files")
        scores = {tuple(row[:3]): row[3] for row in store.query("SELECT hash, scorer, prompt_key, score FROM scores")}
        known = {key: next(iter(store.known([root / key.decode()]).values())) for key, *_ in rows}
    found = []
    for path, content, _, prompt_key, *_, error, met in rows:
        score = scores.get((content, record.key, prompt_key if record.reads_prompt else b""))
        if met == run and not error and score is not None:
            found.append((-score, path))
    return [Picture(**{**known[path].__dict__, "score": -negative}) for negative, path in sorted(found)]


def shown_by_hand(ranked: list[Picture], choice: Choice) -> list[list[Picture]]:
    """Every page of a choice."""

    def text(p: Picture) -> str:
        return " ".join((p.path.name, p.prompt or "", p.model, *p.loras)).lower()

    fitting = [
        p
        for p in ranked
        if p.score is not None
        and not p.score < choice.least
        and all(word in text(p) for word in choice.search.lower().split())
    ]
    if choice.view == GRID:
        return [fitting[i : i + PAGE] for i in range(0, len(fitting), PAGE)] or [[]]
    groups: dict[str, dict[bytes, Picture]] = {}
    for picture in fitting:
        group = groups.setdefault(picture.prompt or "", {})
        if len(group) < 9:
            group.setdefault(picture.hash, picture)
    pages = [list(group.values()) for group in groups.values() if len(group) > 1]
    if choice.view == PAIRS:
        pages = [list(pair) for page in pages for pair in itertools.combinations(page, 2)]
    return [sorted(page, key=lambda p: p.hash) for page in pages] or [[]]


@pytest.mark.parametrize("record", [PLAIN, READER], ids=lambda record: record.key)
@pytest.mark.parametrize("view", [GRID, GROUPS, PAIRS])
def test_every_page_is_that_of_a_plain_pass(folder: Path, record: ScorerRecord, view: str) -> None:
    ranked = by_hand(folder, record)
    assert len({p.score for p in ranked}) < len(ranked) / 5  # many ties
    album = Album.open(folder)
    several = 0
    for search, least in itertools.product(SEARCHES, LIMITS):
        choice = Choice(record.title, search, least, view)
        pages = shown_by_hand(ranked, choice)
        several += len(pages) > 1
        total = sum(map(len, pages))
        for number, expected in enumerate(pages, start=1):
            shown = album.show(Choice(record.title, search, least, view, number))
            assert (shown.pictures, shown.page, shown.pages, shown.total) == (expected, number, len(pages), total)
        assert album.show(Choice(record.title, search, least, view, 10**6)).pictures == pages[-1]
        assert album.show(Choice(record.title, search, least, view, -3)).pictures == pages[0]
    assert several > 3
    assert album.bounds(record.title) == (ranked[-1].score, ranked[0].score)


def test_it_ranks_once_until_the_store_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Ranking] = []

    class Counted(Ranking):
        def __init__(self, store: Store, record: ScorerRecord, run: int | None = None) -> None:
            super().__init__(store, record, run)
            made.append(self)

    monkeypatch.setattr(album_module, "Ranking", Counted)
    album = Album.open(folder)
    for choice in (Choice("Technical", page=n) for n in (1, 2, 3)):
        page_html(album, choice)
    page_html(album, Choice("Technical", "fox", 0.0, GROUPS))
    assert len(made) == 1
    before = album.show(Choice("Technical")).total
    picture = Picture(folder / "new.png", hash=b"new", prompt="new")
    with Store(default_store(folder)) as other:  # as another process would
        other.put([picture], other.last_run())
        other.put_scores(PLAIN, [(picture.hash, picture.prompt, 9.0, {})])
    assert album.show(Choice("Technical")).pictures[0].path == picture.path
    assert (len(made), album.show(Choice("Technical")).total) == (2, before + 1)
    with Store(default_store(folder)) as other:
        other.forget(picture.path)
    assert (album.show(Choice("Technical")).total, len(made)) == (before, 3)
    tables = made[-1]._store.query("SELECT name FROM sqlite_temp_master")
    assert len(tables) == 1


def test_a_file_that_vanished_is_said_to_be_missing(tmp_path: Path) -> None:
    with Store(tmp_path / FILE_NAME) as store:
        store.add_scorer(PLAIN)
        run = store.begin_run()
        for i, name in enumerate(("gone.png", "here.png")):
            path = tmp_path / name
            Image.new("RGB", (8, 8), (i, 0, 0)).save(path)
            store.put([Picture(path, hash=bytes([i]))], run)
            store.put_scores(PLAIN, [(bytes([i]), None, 1.0, {})])
    (tmp_path / "gone.png").unlink()
    page = page_html(Album.open(tmp_path), Choice())
    assert "2 pictures scored by Technical, page 1 of 1" in page
    assert page.count("data:image/") == 1
    assert "gone.png" in page
