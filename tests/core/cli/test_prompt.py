"""`imagereward prompt`: what is read out of a file, from where, and whether it is certain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.pictures.saving import save_image


@pytest.fixture
def fox(tmp_path: Path) -> Path:
    path = tmp_path / "fox.png"
    save_image(
        Image.new("RGB", (8, 8)), path, parameters="a (red:1.2) fox\nSteps: 1, Seed: 2, Sampler: x, Model: dream"
    )
    return path


def test_the_prompt_and_where_it_lies(fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", str(fox)]) == 0
    shown = capsys.readouterr().out
    for fact in (
        "prompt:     a red fox",
        "as written: a (red:1.2) fox",
        "program:    A1111",
        "where:      PNG text 'parameters'",
    ):
        assert fact in shown
    assert "uncertain" not in shown


def test_as_json_and_with_an_exit_code(fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(fox.with_name("bare.png"))
    assert main(["prompt", "--format", "json", str(fox), str(fox.with_name("bare.png"))]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["prompt"], first["model"], first["uncertain"], second["prompt"]) == ("a red fox", "dream", "", None)


@pytest.mark.parametrize("content", [None, b"no image at all"])
def test_what_is_no_image_is_told_and_the_others_are_shown(
    fox: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fox.with_name("other.png")
    if content is not None:
        other.write_bytes(content)
    assert main(["prompt", str(other), str(fox)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("imagereward: ")
    assert "other.png" in err
    assert "a red fox" in out
