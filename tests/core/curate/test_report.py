"""The report's page: complete, self-contained, and right in its numbers."""

from __future__ import annotations

import gc
import random
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate.averages import Average, Averages, best_of_sorted
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.report import MOST_ROWS, write_report
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME

RECORD = ScorerRecord("technical", "Technical", False, 0.0, 1.0)
SCORES = {"a": 1.5, "b": 0.5, "c": -0.25, "d": -2.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with known scores, so that nothing has to be scored."""
    with Store(tmp_path / FILE_NAME) as store:
        run = store.begin_run()
        store.add_scorer(RECORD)
        for i, (name, score) in enumerate(SCORES.items()):
            path = tmp_path / f"{name}.png"
            Image.new("RGB", (40, 30), (60 * i, 0, 0)).save(path)
            prompt = "a fox <b>" if i < 2 else "a dog"
            picture = Picture(
                path, hash=bytes([i]), prompt=prompt, model="m1" if i % 2 else "m2", loras=("fur",) * (i < 3)
            )
            store.put([picture], run)
            store.put_scores(RECORD, [(picture.hash, picture.prompt, score, {})])
    return tmp_path


def test_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--output", str(folder / "r.html")]) == 0
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert [float(score) for score in re.findall(r'data-score="([^"]+)"', page)] == sorted(
        SCORES.values(), reverse=True
    )
    assert page.count("data:image/") == 4
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "a fox &lt;b&gt;" in page
    assert '<b>"' not in page
    assert page.index(">m2<") < page.index(">m1<")  # better on average
    assert sum(int(n) for n in re.findall(r": (\d+)</title>", page)) == 4


def test_top_and_links(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(folder), "--output", str(folder / "sub" / "r.html"), "--top", "2", "--link"])
    page = (folder / "sub" / "r.html").read_text(encoding="utf-8")
    assert re.findall(r'src="([^"]+)"', page) == ["./../a.png", "./../b.png"]
    assert "4 pictures" in page


def test_unscored_folder_and_unknown_scorer_say_what_to_do(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    assert main(["report", str(empty)]) == 2
    assert f"imagereward curate {empty}" in capsys.readouterr().err
    assert main(["report", str(folder), "--scorer", "nobody"]) == 2
    assert "technical" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--output", str(folder)]) == 2
    assert capsys.readouterr().err.count("cannot write") == 1


def test_averages_equal_the_textbook() -> None:
    values = [0.3, -1.2, 0.8, 2.5, 0.1]
    average = Average("x")
    for value in values:
        average.add(value)
    assert average.mean == pytest.approx(statistics.mean(values))
    assert average.half_width == pytest.approx(2.776 * statistics.stdev(values) / 5**0.5)
    groups = Averages()
    groups.add(["low"], 0.0)
    groups.add(["high", "low"], 1.0)
    assert [(one.name, one.count, one.mean) for one in groups.best(9).rows] == [("high", 1, 1.0), ("low", 2, 0.5)]
    assert ([one.name for one in groups.best(1).rows], groups.best(1).total) == (["high"], 2)


def test_many_names_are_averaged_without_keeping_them() -> None:
    chance = random.Random(0)
    scores = [(f"{i:05}", chance.gauss(0, 1)) for i in range(5000) for _ in range(1 + i % 3)]
    alive = []

    def streamed() -> Iterator[tuple[str, float]]:
        yield from scores
        alive.append(sum(type(one) is Average for one in gc.get_objects()))

    best = best_of_sorted(streamed(), 20)
    kept = Averages()
    for name, score in scores:
        kept.add([name], score)
    assert best == kept.best(20)
    assert best.total == 5000
    assert best.rows == sorted(kept.best(5000).rows, key=lambda one: -one.mean)[:20]
    assert alive[0] < 30


def test_a_table_shows_the_best_and_counts_the_others(tmp_path: Path) -> None:
    with Store(tmp_path / FILE_NAME) as store:
        run = store.begin_run()
        store.add_scorer(RECORD)
        for i in range(MOST_ROWS + 5):
            picture = Picture(tmp_path / f"{i}.png", hash=i.to_bytes(2, "big"), prompt=f"prompt {i}")
            store.put([picture], run)
            store.put_scores(RECORD, [(picture.hash, picture.prompt, i / 10, {})])
        assert write_report(store, RECORD, tmp_path / "r.html", top=3) == 3
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    rows = re.findall(r'data-search="prompt (\d+)"', page)
    assert rows == [str(i) for i in range(MOST_ROWS + 4, 4, -1)]
    assert f"({MOST_ROWS + 5})" in page
    assert "and 5 more" in page
