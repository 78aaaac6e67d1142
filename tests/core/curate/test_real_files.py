"""Files as the real programs wrote them: read, labelled, and still read by the rules of those programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.metadata import parse_parameters, read_parameters, read_scores, read_texts
from sd_imagereward.core.metadata.lossless import label_file
from sd_imagereward.core.prompts.origin import find_origin

FILES = sorted((Path(__file__).parents[2] / "data" / "hosts").iterdir())


@pytest.mark.parametrize("source", FILES, ids=lambda path: path.name)
def test_label_keeps_everything_else(source: Path, tmp_path: Path) -> None:
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    before, origin = read_texts(path), find_origin(path)
    assert origin.plain
    pixels = Image.open(path).tobytes()
    assert label_file(path, {"Technical": -1.5})
    assert Image.open(path).tobytes() == pixels
    assert find_origin(path) == origin
    after = read_texts(path)
    assert read_scores(read_parameters(path), ["Technical"]) == {"Technical": -1.5}
    assert {k: v for k, v in after.items() if k != "parameters"} == {
        k: v for k, v in before.items() if k != "parameters"
    }
    if "parameters" in before:
        old = parse_parameters(before["parameters"])
        old.fields.pop("Technical", None)
        assert old.fields.items() <= parse_parameters(after["parameters"]).fields.items()
