"""Datasets as the real `datasets` library reads them, from folders: the Hub itself is never asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core import ImageRewardError
from sd_imagereward.core.cli import main
from sd_imagereward.core.preference import hub_data
from sd_imagereward.core.preference.hub_data import read_hub_rankings, table_rankings
from sd_imagereward.core.preference.rankings import data_hash
from sd_imagereward.core.preference.reading import read_rankings

COLOURS = ("red", "green", "blue")


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    library = pytest.importorskip("datasets", reason="pip install -e '.[train]' to read datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


@pytest.fixture
def pairs(datasets: Any, tmp_path: Path) -> Path:
    """Comparisons as the Hub stores them: Parquet with the pictures inside."""
    rows = {
        "prompt": ["a", "b"],
        "img_better": [picture("red"), picture("blue")],
        "img_worse": [picture("green"), picture("black")],
    }
    (tmp_path / "pairs" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        name = f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "pairs" / "data" / name)
    return tmp_path / "pairs"


@pytest.fixture
def folder(datasets: Any, tmp_path: Path) -> Path:
    """Images with a metadata file: one image a row."""
    images = tmp_path / "folder" / "train"
    images.mkdir(parents=True)
    rows = []
    for rank, colour in enumerate(COLOURS, 1):
        picture(colour).save(images / f"{colour}.png")
        rows.append({"file_name": f"{colour}.png", "prompt": "p", "prompt_id": 7, "rank": rank})
    (images / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "folder"


def test_parquet_of_pairs(pairs: Path) -> None:
    rankings = read_rankings(f"hub:{pairs}:test")
    assert [ranking.prompt for ranking in rankings] == ["a", "b"]
    better, worse = rankings[1].images
    assert better.load().getpixel((0, 0)) == (0, 0, 255)
    assert worse.load().getpixel((0, 0)) == (0, 0, 0)
    assert data_hash(rankings) == data_hash(read_rankings(f"hub:{pairs}:test"))
    assert len(read_rankings(f"hub:{pairs}")) == 2


def test_a_folder_of_ranked_images(folder: Path) -> None:
    (ranking,) = read_hub_rankings(str(folder))
    assert (ranking.id, ranking.prompt) == ("7", "p")
    shown = {image.load().getpixel((0, 0)): rank for image, rank in zip(ranking.images, ranking.ranks, strict=True)}
    assert shown == {(255, 0, 0): 1.0, (0, 128, 0): 2.0, (0, 0, 255): 3.0}


def test_the_command_evaluates_a_dataset(pairs: Path, tmp_path: Path) -> None:
    call = ["evaluate", "--data", f"hub:{pairs}:test", "--scorers", "technical", "--output", str(tmp_path / "out")]
    assert main([*call, "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["scorers"]["technical"]["pairs"] == 2


def test_what_cannot_be_read_is_said(pairs: Path) -> None:
    with pytest.raises(ImageRewardError, match="cannot be read"):
        read_hub_rankings(f"{pairs}:nosuchsplit")


@pytest.mark.parametrize(
    ("reference", "parsed"),
    [
        ("owner/name", ("owner/name", None, "train")),
        ("owner/name:test", ("owner/name", None, "test")),
        ("owner/name/1k_pair:validation", ("owner/name", "1k_pair", "validation")),
    ],
)
def test_references(reference: str, parsed: tuple[str, str | None, str]) -> None:
    assert hub_data._parsed(reference) == parsed


class Table:
    """What this package uses of `datasets.Dataset`."""

    def __init__(self, rows: list[dict[str, object]]) -> None:
        self.rows, self.column_names = rows, list(rows[0])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, object]:
        return self.rows[i]

    def select_columns(self, names: list[str]) -> Table:
        return Table([{name: row[name] for name in names} for row in self.rows])


def test_tables_of_pairs_and_of_ranked_images():
    red, blue = picture("red"), picture("blue")
    paired = table_rankings(Table([{"prompt": "p", "img_better": red, "img_worse": blue}]), "t")
    assert paired[0].images[0].load() is red
    ranked = table_rankings(
        Table(
            [
                {"prompt_id": "1", "prompt": "p", "image": red, "rank": 2},
                {"prompt_id": "2", "prompt": "q", "image": red, "rank": 1},
                {"prompt_id": "1", "prompt": "p", "image": blue, "rank": 1},
            ]
        ),
        "t",
    )
    assert [(r.id, r.ranks) for r in ranked] == [("1", (2.0, 1.0))]
    assert ranked[0].images[1].load() is blue
    with pytest.raises(ImageRewardError, match="got foo"):
        table_rankings(Table([{"foo": 1}]), "t")
