"""Files as the real programs wrote them (see tests/data/hosts/README.md): read, labelled, and still read by the rules of
those programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.infotext.scores import read_scores
from sd_imagereward.core.pictures.formats import jpeg, png, webp
from sd_imagereward.core.pictures.label import label_file
from sd_imagereward.core.pictures.prompt_in_file import find_origin
from sd_imagereward.core.pictures.texts import read_parameters, read_texts

FILES = sorted(path for path in (Path(__file__).parents[2] / "data" / "hosts").iterdir() if path.suffix != ".md")
PROMPT = "a lighthouse on a cliff, dramatic sky, «Öl auf Leinwand» 猫"


def parts(data: bytes) -> list[tuple[object, bytes]]:
    """The file in pieces, but for the one that holds the parameters."""
    if png.recognises(data):
        return [(c.kind, data[c.start : c.end]) for c in png.chunks(data) if b"parameters\0" not in c.body]
    if jpeg.recognises(data):
        found = [(s.marker, s.body) for s in jpeg.segments(data) if not s.body.startswith(b"Exif")]
        return [*found, ("scan", data[data.index(b"\xff\xda") :])]
    chunks, rest = webp._chunks(data)
    return [*((c.kind, c.body) for c in chunks if c.kind not in (b"EXIF", b"VP8X")), ("rest", rest)]


@pytest.mark.parametrize("source", FILES, ids=lambda path: path.name)
def test_label_keeps_everything_else(source: Path, tmp_path: Path) -> None:
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    before, origin = read_texts(path), find_origin(path)
    assert origin.plain
    assert label_file(path, {"Technical": -1.5})
    assert parts(path.read_bytes()) == parts(source.read_bytes())
    assert Image.open(path).tobytes() == Image.open(source).tobytes()
    assert find_origin(path) == origin
    after = read_texts(path)
    assert read_scores(read_parameters(path), ["Technical"]) == {"Technical": -1.5}
    assert {k: v for k, v in after.items() if k != "parameters"} == {
        k: v for k, v in before.items() if k != "parameters"
    }
    old, new = parse_parameters(before.get("parameters", "")), parse_parameters(after["parameters"])
    old.fields.pop("Technical", None)
    assert (new.prompt, new.negative) == (old.prompt, old.negative)
    assert old.fields.items() <= new.fields.items()


@pytest.mark.parametrize(
    "source", [path for path in FILES if path.name != "a1111-1.10.1.png"], ids=lambda path: path.name
)
def test_prompt_and_program_are_known(source: Path) -> None:
    origin = find_origin(source)
    assert origin.plain == PROMPT
    assert origin.negative == "blurry, lowres"
    texts = read_texts(source)
    if source.name.startswith("comfyui"):
        assert origin.program == "ComfyUI"
        graph, workflow = json.loads(texts["prompt"]), json.loads(texts["workflow"])
        assert {node["class_type"] for node in graph.values()} == {node["type"] for node in workflow["nodes"]}
    else:
        assert {"Steps", "Sampler", "Seed", "Size", "Version"} <= set(parse_parameters(texts["parameters"]).fields)
