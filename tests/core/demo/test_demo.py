"""The demo pictures: always the same, good to look at, named by what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.demo.degradations import DEGRADATIONS
from sd_imagereward.core.demo.pictures import degraded_demo_images, demo_images, write_demo


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("demo") / "made" / "on the way"
    return folder, write_demo(folder, size=96)


def test_every_picture_is_written_as_a_readable_png_of_its_own(written) -> None:
    folder, files = written
    assert sorted(files) == sorted(folder.iterdir())
    assert len(files) == 12
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.size, image.mode) == ("PNG", (96, 96), "RGB")
            assert image.text["parameters"]


def test_names_say_what_was_done_and_prompts_stay_with_the_picture(written) -> None:
    _, files = written
    by_name = {file.stem: Image.open(file) for file in files}
    spoilt = {"mountains-blurred", "ocean-low-contrast", "spheres-JPEG-blocks", "stained-glass-overexposed"}
    assert by_name.keys() > spoilt | {"julia-half-black", "aurora-all-black"}
    assert by_name["mountains-blurred"].text == by_name["mountains"].text
    assert np.asarray(by_name["aurora-all-black"]).max() == 0


def test_pictures_are_the_same_every_time_and_unlike_each_other() -> None:
    first, second = demo_images(64), demo_images(64)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(np.asarray(a.image), np.asarray(b.image)), a.name
    flat = [np.asarray(demo.image, dtype=float).ravel() for demo in first]
    for i, a in enumerate(flat):
        assert a.std() > 20, "a picture should have contrast"
        for b in flat[:i]:
            assert np.abs(a - b).mean() > 15


def test_writing_again_replaces_the_same_files(tmp_path: Path) -> None:
    before = [file.read_bytes() for file in write_demo(tmp_path, size=32)]
    again = write_demo(tmp_path, size=32)
    assert [file.read_bytes() for file in again] == before
    assert len(list(tmp_path.iterdir())) == len(again)


@pytest.mark.parametrize("way", DEGRADATIONS, ids=lambda way: way.name)
def test_a_degradation_changes_the_picture_keeps_its_size_and_spares_the_original(way) -> None:
    image = demo_images(48)[1].image.resize((50, 37))
    untouched = np.asarray(image).copy()
    for strength in way.strengths:
        spoilt = way.apply(image, strength)
        assert (spoilt.size, spoilt.mode) == ((50, 37), "RGB")
        assert not np.array_equal(np.asarray(spoilt), untouched)
        assert np.array_equal(np.asarray(way.apply(image, strength)), np.asarray(spoilt)), "must be deterministic"
    assert np.array_equal(np.asarray(image), untouched)


def test_spoilt_pictures_are_made_of_the_ones_given() -> None:
    demos = demo_images(32)
    names = {demo.name for demo in demos}
    assert all(any(bad.name.startswith(name) for name in names) for bad in degraded_demo_images(demos))
