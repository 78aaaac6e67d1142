"""Whatever happened to a file, reading it ends in a picture or in an error of this project."""

from __future__ import annotations

import random
import re
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from damage import damaged, valid_files
from sd_imagereward.core.errors import BadImage, ImageRewardError, ImageUnavailable
from sd_imagereward.core.pictures.label import labelled
from sd_imagereward.core.pictures.opening import open_header, open_picture
from sd_imagereward.core.pictures.pixels import to_pixels
from sd_imagereward.core.pictures.prompt_in_file import find_origin
from sd_imagereward.core.pictures.texts import read_parameters, read_texts

FILES = valid_files()
ROUNDS = 12  # a file; several thousand were tried when this was written


@pytest.mark.parametrize("name", FILES)
def test_every_valid_file_is_read(name: str) -> None:
    picture = open_picture(name, FILES[name])
    assert to_pixels(picture, 16).shape == (3, 16, 16)
    assert open_header(name, FILES[name]).size == picture.image.size or picture.image.format == "TIFF"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_raises_the_projects_own_errors_alone(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    path = tmp_path / f"a.{name.rpartition('.')[2]}"
    refused = 0
    for _ in range(ROUNDS):
        data = damaged(FILES[name], chance)
        path.write_bytes(data)
        refused += not read_every_way(path, data)
    assert refused  # else nothing was damaged


def read_every_way(path: Path, data: bytes) -> bool:
    """Whether the file is a picture still."""
    find_origin(path)
    for read in (read_texts, read_parameters, lambda path: labelled(data, {"ImageReward": 0.5})):
        with suppress(ImageRewardError):
            read(path)
    try:
        picture = open_picture(path)
    except BadImage:
        for size in (None, 16):
            with pytest.raises(BadImage, match=re.escape(str(path))):
                to_pixels(path, size)
        return False
    assert picture.upright.size == (picture.width, picture.height)
    read_texts(picture.image)
    for size in (None, 16):
        with suppress(BadImage):  # the pixels of a TIFF may turn out to be none
            to_pixels(picture, size)
    return True


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), AssertionError(), KeyError("x"), RecursionError("deep"), EOFError()]
)
def test_what_a_decoder_raises_is_a_fact_about_the_file(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in_decoding(monkeypatch, error)
    with pytest.raises(BadImage, match=r"cannot read a\.png as an image: .") as raised:
        open_picture("a.png", FILES["png"])
    assert not isinstance(raised.value, ImageUnavailable)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_memory_that_runs_out_is_none(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in_decoding(monkeypatch, error)
    with pytest.raises(ImageUnavailable, match="no memory is left"):
        open_picture("a.png", FILES["png"])


def fail_in_decoding(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(image: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)


def test_warnings_as_errors_damage_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, data in FILES.items():
            open_picture(name, data)
