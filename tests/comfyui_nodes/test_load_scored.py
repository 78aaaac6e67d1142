from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
from PIL import Image
from run_node import run
from sd_imagereward.comfyui_nodes.nodes.load_scored import BEST, NAME, WORST, LoadScoredImages, _folders
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.pictures.label import label_file
from sd_imagereward.core.pictures.saving import save_image

SCORES = {"a": 0.25, "b": 1.5, "c": -0.5}


@pytest.fixture
def folder() -> Path:
    place = Path(folder_paths.get_output_directory()) / "set"
    place.mkdir()
    for i, (name, score) in enumerate(SCORES.items()):
        path = place / f"{name}.{('png', 'jpg', 'webp')[i]}"
        save_image(Image.new("RGB", (30 + i, 20)), path, parameters=f"a {name}\nSteps: 1, Seed: 2, Sampler: x")
        label_file(path, {"ImageReward": score, "Technical": -score})
    Image.new("RGB", (5, 5)).save(place / "unscored.png")
    (place / "broken.png").write_bytes(b"\x89PNG nothing")
    return place


def load(**changes: object) -> dict[str, object]:
    defaults = {"folder": "output/set", "min_score": -100.0, "best_n": 0, "sort": BEST, "score_name": ""}
    return run(LoadScoredImages, **defaults | changes)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["b", "a", "c"]),
        ({"sort": WORST}, ["c", "a", "b"]),
        ({"sort": NAME}, ["a", "b", "c"]),
        ({"best_n": 2, "sort": NAME}, ["a", "b"]),
        ({"min_score": 0.0}, ["b", "a"]),
        ({"score_name": "Technical"}, ["c", "a", "b"]),
    ],
)
def test_which_and_in_what_order(folder: Path, changes: dict[str, object], names: list[str]) -> None:
    out = load(**changes)
    assert out["names"] == names
    assert out["scores"].names == tuple(names)
    assert out["prompts"] == [f"a {name}" for name in names]
    sign = -1 if changes.get("score_name") else 1
    assert out["scores"].total == tuple(sign * SCORES[name] for name in names)
    assert [image.shape[2] for image in out["images"]] == [30 + "abc".index(name) for name in names]


def test_no_score_high_enough_says_what_to_do(folder: Path) -> None:
    with pytest.raises(ImageRewardError, match="3 carry one"):
        load(min_score=5.0)


@pytest.mark.parametrize("place", ["output/../..", "/etc", "temp", "output/gone", "output/link"])
def test_folders_outside_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory, place: str) -> None:
    (folder.parent / "link").symlink_to(tmp_path_factory.mktemp("outside"))
    with pytest.raises(ImageRewardError, match="not found"):
        load(folder=place)


def test_the_list_offers_output_and_input_with_what_is_below(folder: Path) -> None:
    assert {"output", "output/set", "input"} <= set(_folders())


def test_a_new_label_is_noticed(folder: Path) -> None:
    before = LoadScoredImages.fingerprint_inputs(folder="output/set")
    label_file(folder / "a.png", {"ImageReward": 0.123456}, decimals=6)
    assert LoadScoredImages.fingerprint_inputs(folder="output/set") != before
