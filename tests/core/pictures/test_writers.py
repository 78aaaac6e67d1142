"""A file of each program that has a row, made as that program makes it, and the files that are read wrong easily."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_imagereward.core.errors import ForeignText
from sd_imagereward.core.pictures.label import label_file
from sd_imagereward.core.pictures.prompt_in_file import find_origin, origin_of
from sd_imagereward.core.pictures.writers import WRITERS

FOX, NO = "a red fox in deep snow", "blurry, lowres"
LINE = "Steps: 24, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 411, Size: 64x48, Model: paintmix"
INFOTEXT = f"{FOX}\nNegative prompt: {NO}\n{LINE}"
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": FOX, "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": NO, "clip": ["4", 1]}},
}
IMAGE = Image.new("RGB", (16, 12))


def png(**texts: Any) -> bytes:
    info = PngInfo()
    for name, value in texts.items():
        add = info.add_itxt if name == "XML:com.adobe.xmp" else info.add_text
        add(name, value if isinstance(value, str) else json.dumps(value))
    out = BytesIO()
    IMAGE.save(out, "PNG", pnginfo=info)
    return out.getvalue()


def exif(kind: str = "JPEG", comment: Any = None, **tags: Any) -> bytes:
    """tags by number: t0110="..". comment: in the EXIF directory."""
    block = Image.Exif()
    for name, value in tags.items():
        block[int(name[1:], 16)] = value
    if comment is not None:
        block[0x8769] = {0x9286: comment}
    out = BytesIO()
    IMAGE.save(out, kind, exif=block)
    return out.getvalue()


def wide(text: str, encoding: str) -> bytes:
    return b"UNICODE\0" + text.encode(encoding)


def xmp(body: str) -> str:
    return (
        '<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:xmp="http://ns.adobe.com/xap/1.0/">{body}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def escaped(data: Any) -> str:
    return json.dumps(data).replace('"', "&quot;")


SWARM = {
    "sui_image_params": {"prompt": FOX, "negativeprompt": NO, "model": "paintmix", "seed": 5},
    "sui_extra_data": {},
}
FOOOCUS = {"prompt": FOX, "negative_prompt": NO, "base_model": "paintmix", "metadata_scheme": "fooocus", "steps": 30}
EASY = {
    "prompt": FOX,
    "negative_prompt": NO,
    "seed": "5",
    "use_stable_diffusion_model": "paintmix",
    "num_inference_steps": "25",
}
DRAW = {"c": FOX, "uc": NO, "model": "paintmix_f16.ckpt", "size": "64x48", "steps": 20}
NOVEL = {
    "prompt": "a red fox",
    "v4_prompt": {"caption": {"base_caption": "a red fox", "char_captions": [{"char_caption": "in deep snow"}]}},
    "v4_negative_prompt": {"caption": {"base_caption": NO}},
}
COMMENT = (
    f"<exif:UserComment><rdf:Alt><rdf:li xml:lang='x-default'>{escaped(DRAW)}</rdf:li></rdf:Alt></exif:UserComment>"
)

# file, program, place, whether it has a negative prompt
FILES: dict[str, tuple[bytes, str, str, bool]] = {
    "A1111": (png(parameters=INFOTEXT), "A1111", "PNG text 'parameters'", True),
    "A1111 in a JPEG": (exif(comment=wide(INFOTEXT, "utf-16-be")), "A1111", "EXIF UserComment", True),
    "low byte first": (exif(comment=wide(INFOTEXT, "utf-16-le")), "A1111", "EXIF UserComment", True),
    "UTF-8 behind UNICODE": (exif(comment=wide(INFOTEXT, "utf-8")), "A1111", "EXIF UserComment", True),
    "prompt alone, low byte first": (exif(comment=wide(FOX, "utf-16-le")), "A1111", "EXIF UserComment", False),
    "ImageDescription": (exif(t010e=INFOTEXT), "A1111", "EXIF ImageDescription", True),
    "SwarmUI": (png(parameters=json.dumps(SWARM, indent=2)), "SwarmUI", "PNG text 'parameters'", True),
    "SwarmUI in a JPEG": (exif(comment=wide(json.dumps(SWARM), "utf-16-le")), "SwarmUI", "EXIF UserComment", True),
    "Fooocus": (png(parameters=FOOOCUS, fooocus_scheme="fooocus"), "Fooocus", "PNG text 'parameters'", True),
    "Fooocus in a JPEG": (exif(t9286=json.dumps(FOOOCUS), t0131="Fooocus v2.5.5"), "Fooocus", "EXIF UserComment", True),
    "Fooocus as A1111": (
        exif("WEBP", t9286=f"{INFOTEXT}, Version: Fooocus v2.5.5"),
        "Fooocus",
        "EXIF UserComment",
        True,
    ),
    "Easy Diffusion": (png(**EASY), "Easy Diffusion", "PNG text 'prompt'", True),
    "Easy Diffusion in a JPEG": (exif(comment=json.dumps(EASY).encode()), "Easy Diffusion", "EXIF UserComment", True),
    "Draw Things": (png(**{"XML:com.adobe.xmp": xmp(COMMENT)}), "Draw Things", "XMP exif:UserComment", True),
    "InvokeAI 1": (png(Dream=f'"{FOX} [{NO}]" -s 50 -S 411 -W 64 -H 48'), "InvokeAI", "PNG text 'Dream'", True),
    "InvokeAI 1 without quotes": (png(Dream=f"{FOX} [{NO}] -s50 -W64"), "InvokeAI", "PNG text 'Dream'", True),
    "InvokeAI 2": (
        png(**{"sd-metadata": {"image": {"prompt": [{"prompt": f"{FOX} [{NO}]", "weight": 1}]}}}),
        "InvokeAI",
        "PNG text 'sd-metadata'",
        True,
    ),
    "InvokeAI 5": (
        png(invokeai_metadata={"positive_prompt": FOX, "negative_prompt": NO, "model": {"name": "paintmix"}}),
        "InvokeAI",
        "PNG text 'invokeai_metadata'",
        True,
    ),
    "NovelAI 4": (
        png(Software="NovelAI", Description="a red fox", Comment=NOVEL, Source="NovelAI Diffusion V4"),
        "NovelAI",
        "PNG text 'Comment'",
        True,
    ),
    "NovelAI 3": (
        png(Software="NovelAI", Description=FOX, Comment={"uc": NO}),
        "NovelAI",
        "PNG text 'Description'",
        True,
    ),
    "Midjourney": (
        png(Description=f"{FOX} --ar 16:9 --v 6.1 --no {NO} Job ID: 0a1b2c3d-0000-4000-8000-000000000000", Author="x"),
        "Midjourney",
        "PNG text 'Description'",
        True,
    ),
    "ComfyUI": (png(prompt=GRAPH), "ComfyUI", "PNG text 'prompt', node 6 (CLIPTextEncode)", True),
    "ComfyUI with capitals": (
        exif("WEBP", t0110=f"Prompt:{json.dumps(GRAPH)}", t010f="Workflow:{}"),
        "ComfyUI",
        "EXIF text 'Prompt', node 6 (CLIPTextEncode)",
        True,
    ),
    "a graph as parameters": (png(parameters=GRAPH), "ComfyUI", "PNG text 'parameters', node 6 (CLIPTextEncode)", True),
    "a graph as comment": (
        exif(comment=wide(json.dumps(GRAPH), "utf-16-le")),
        "ComfyUI",
        "EXIF UserComment, node 6 (CLIPTextEncode)",
        True,
    ),
    "a program without a row": (
        png(generation_data={"prompt": FOX, "negativePrompt": NO, "seed": 1}),
        "another program",
        "PNG text 'generation_data'",
        True,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_each_program_is_read(name: str, tmp_path: Path) -> None:
    data, program, where, negative = FILES[name]
    path = tmp_path / "image.x"
    path.write_bytes(data)
    origin = find_origin(path)
    assert (origin.plain or "").replace(",", "") == FOX
    assert (origin.program, origin.where, origin.uncertain) == (program, where, "")
    assert origin.negative == (NO if negative else "")
    with suppress(ForeignText):  # UTF-8 behind UNICODE is read, and left as it is
        assert label_file(path, {"Technical": 0.5})
    assert find_origin(path) == origin


def test_every_row_of_the_table_has_a_file_here() -> None:
    assert {writer.name for writer in WRITERS} <= {program for _, program, _, _ in FILES.values()}


@pytest.mark.parametrize(
    "prompt", ["雪中的一只红狐", "深い雪の中の赤い狐", "눈 속의 붉은 여우", "Красная лиса в снегу", "lächelnde Füchsin"]
)
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-8"])
def test_prompts_of_other_languages_in_a_comment(prompt: str, encoding: str, tmp_path: Path) -> None:
    for text in (prompt, f"{prompt}\nNegative prompt: {NO}\n{LINE}"):
        (tmp_path / "image.jpg").write_bytes(exif(comment=wide(text, encoding)))
        assert find_origin(tmp_path / "image.jpg").prompt == prompt


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8"])
def test_a_label_over_a_misread_comment_is_seen_through(encoding: str, tmp_path: Path) -> None:
    misread = f"{INFOTEXT} ".encode(encoding).decode("utf-16-be", "replace")
    label = "Size: 16x12, Technical: 0.5000, Scored with: sd-imagereward"
    (tmp_path / "image.jpg").write_bytes(exif(comment=wide(f"{misread}\n{label}", "utf-16-be")))
    assert find_origin(tmp_path / "image.jpg").prompt == FOX


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (f"{{{{masterpiece}}}}, {FOX}\n{LINE}", f"masterpiece, {FOX}"),
        (f"{{red|grey}} fox\n{LINE}", "red fox"),
        (f"a mug #1 (red:1.2)\n{LINE}", "a mug"),
        (f"a fox ADDCOL a dog BREAK snow\n{LINE}", "a fox, a dog, snow"),
        (f"C++ book, 16:9 --ar 3:4\n{LINE}", "C++ book, 16:9 --ar 3:4"),
    ],
)
def test_a1111s_syntax(text: str, prompt: str) -> None:
    assert origin_of({"parameters": text}).plain == prompt


def test_syntax_leaves_the_prompts_of_its_program_and_no_others() -> None:
    for word in ("#1", "BREAK", "--ar 16:9", "1.3::red::"):
        graph = json.loads(json.dumps(GRAPH).replace(FOX, f'a sign \\"{word}\\" in snow'))
        plain = origin_of({"prompt": json.dumps(graph)}).plain
        assert plain == f'a sign "{word}" in snow'
    assert (
        origin_of({"invokeai_metadata": json.dumps({"positive_prompt": "red++ fox, (snow)1.2"})}).plain
        == "red fox, snow"
    )
    assert (
        origin_of({"Software": "NovelAI", "Description": "1.3::red fox::, {{snow}} (x)"}).plain == "red fox, snow (x)"
    )


def test_a_saver_and_its_graph_that_differ_are_uncertain() -> None:
    texts = {"prompt": json.dumps(GRAPH), "parameters": f"a green parrot\n{LINE}"}
    origin = origin_of(texts)
    assert (origin.prompt, origin.program) == ("a green parrot", "ComfyUI")
    assert "different prompts" in origin.uncertain
    assert origin_of(texts | {"parameters": f"{FOX}, best quality\n{LINE}"}).uncertain == ""


@pytest.mark.parametrize(
    "text", ["Created with GIMP", "{}", '{"prompt": 1}', '{"caption": "x"}', "Canon EOS 5D: x", "(c) A. Person"]
)
def test_remarks_are_no_prompts(text: str, tmp_path: Path) -> None:
    for data in (png(Comment=text, Description=text, Software=text), exif(t010e=text, t0131=text, t013b=text)):
        (tmp_path / "image.x").write_bytes(data)
        assert find_origin(tmp_path / "image.x").prompt is None


def test_damaged_xmp_and_exif_tell_nothing(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + xmp("<dc:description>&a;</dc:description>")
    for packet in (bomb, "<x:xmpmeta>", xmp("<dc:description>")):
        (tmp_path / "image.png").write_bytes(png(**{"XML:com.adobe.xmp": packet}))
        assert find_origin(tmp_path / "image.png").prompt is None


# -- text files beside ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    IMAGE.save(tmp_path / "fox.png")
    return tmp_path / "fox.png"


def test_companions_are_read_in_their_order(bare: Path) -> None:
    for name in ("fox.caption", "fox.png.txt", "fox.txt"):  # the last in order first
        (bare.parent / name).write_text(f"read from {name}")
        origin = find_origin(bare)
        assert (origin.prompt, origin.where, origin.program) == (f"read from {name}", name, "text file")
    assert "different prompts" in find_origin(bare).uncertain
    (bare.parent / "fox.txt").write_text(" \n")
    assert find_origin(bare).where == "fox.png.txt"


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"\xef\xbb\xbf" + FOX.encode(), FOX),
        (FOX.encode("utf-16"), FOX),
        (INFOTEXT.encode(), FOX),
        (b"Subject: a red fox, Setting: deep snow, Mood: calm", "Subject: a red fox, Setting: deep snow, Mood: calm"),
        (b"a mug #1 BREAK", "a mug #1"),
        (b"a mug (red:1.2) <lora:x:1>", "a mug red"),
        (f"Prompt: {FOX}\nNegative Prompt: x\nSeed: 5\nStable Diffusion model: y\nWidth: 64\nHeight: 48".encode(), FOX),
        (json.dumps(FOOOCUS).encode(), FOX),
    ],
)
def test_texts_of_companions(data: bytes, prompt: str, bare: Path) -> None:
    bare.with_suffix(".txt").write_bytes(data)
    origin = find_origin(bare)
    assert (origin.plain, origin.uncertain, origin.program) == (prompt, "", "text file")


def test_a_companion_in_no_known_encoding_is_told(bare: Path) -> None:
    bare.with_suffix(".txt").write_bytes("a café at night".encode("cp1252"))
    assert find_origin(bare).prompt == "a café at night"
    assert "Windows-1252" in find_origin(bare).uncertain
    bare.with_suffix(".txt").write_bytes("雪中的一只红狐".encode("gb18030"))
    assert find_origin(bare).prompt is None
    assert "UTF-8" in find_origin(bare).uncertain


# -- collected inputs, where they are --------------------------------------------------------------------------------------

CASES = Path(os.environ.get("IMAGEREWARD_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")).parent / "cases"
ASKS = {"prompt, as `score` reads it": "plain", "negative prompt": "negative", "model": "model"}


def cases() -> list[dict[str, Any]]:
    if not (CASES / "cases.json").is_file():
        return []
    listed = json.loads((CASES / "cases.json").read_text(encoding="utf-8"))
    return [case for case in listed if case.get("asks") in ASKS]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_collected_inputs(case: dict[str, Any]) -> None:
    value = getattr(find_origin(CASES / case["file"]), ASKS[case["asks"]])
    expected = case["expected"]
    assert value == expected["equals"] if "equals" in expected else expected["contains"] in value
