"""Prompts, checkpoints and LoRAs as the programs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_imagereward.core.pictures.prompt_in_file import Origin, find_origin, origin_of
from sd_imagereward.core.pictures.saving import save_image


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


BASIC = {
    "3": node("KSampler", model=["10", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0], seed=1),
    "4": node("CheckpointLoaderSimple", ckpt_name="sub/dream.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=512),
    "6": node("CLIPTextEncode", text="a (red:1.2) fox", clip=["10", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["10", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    "10": node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="fur.safetensors", strength_model=1.0),
}


def graph(**changes: dict[str, Any]) -> dict[str, str]:
    return {"prompt": json.dumps({**BASIC, **{key.lstrip("n"): value for key, value in changes.items()}})}


def test_a1111() -> None:
    text = "a fox <lora:fur:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Model: dream, Seed: 1"
    origin = origin_of({"parameters": text})
    assert origin == Origin("a fox <lora:fur:0.8>", "blurry", "dream", ("fur",), "A1111")
    assert origin.plain == "a fox"


def test_comfyui_graph() -> None:
    origin = origin_of(graph())
    assert origin == Origin("a (red:1.2) fox", "blurry", "dream", ("fur",), "ComfyUI")
    assert origin.plain == "a red fox"


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        ({"n6": node("CLIPTextEncode", text=["11", 0]), "n11": node("PrimitiveString", value="a fox")}, "a fox"),
        ({"n6": node("CLIPTextEncodeSDXL", text_g="a fox", text_l="a fox", clip=["4", 1])}, "a fox"),
        (
            {"n6": node("CLIPTextEncodeFlux", clip_l="fox", t5xxl="a fox in deep snow", guidance=3.5)},
            "a fox in deep snow",
        ),
        (
            {
                "n6": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["12", 0]),
                "n11": node("CLIPTextEncode", text="a fox"),
                "n12": node("CLIPTextEncode", text="snow"),
            },
            "a fox, snow",
        ),
        (
            {
                "n3": node("KSampler", model=["4", 0], positive=["11", 0], negative=["11", 1], latent_image=["5", 0]),
                "n11": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], image=["12", 0]),
                "n12": node("LoadImage", image="pose.png"),
                "n6": node("FluxGuidance", conditioning=["13", 0], guidance=3.5),
                "n13": node("CLIPTextEncode", text="a fox"),
            },
            "a fox",
        ),
        (
            {
                "n3": node("SamplerCustomAdvanced", guider=["11", 0], latent_image=["5", 0]),
                "n11": node("BasicGuider", model=["4", 0], conditioning=["6", 0]),
            },
            "a (red:1.2) fox",
        ),
        (
            {
                "n6": node("CLIPTextEncode", text=["11", 0]),
                "n11": node("StringConcatenate", string_a="a fox", string_b=["12", 0], delimiter=" - "),
                "n12": node("Text Multiline", text="snow"),
            },
            "a fox - snow",
        ),
    ],
)
def test_comfyui_text_is_followed_through_the_graph(changes: dict[str, Any], prompt: str) -> None:
    assert origin_of(graph(**changes)).prompt == prompt


def test_a_loop_in_a_graph_ends() -> None:
    loop = {"n6": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0])}
    assert origin_of(graph(**loop)).prompt is None


def test_comfyui_workflow_alone() -> None:
    workflow = {
        "nodes": [
            {"id": 1, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["a fox"]},
            {"id": 2, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["blurry"]},
            {
                "id": 3,
                "type": "KSampler",
                "inputs": [
                    {"name": "positive", "link": 1},
                    {"name": "negative", "link": 2},
                    {"name": "model", "link": 3},
                ],
                "widgets_values": [1, "fixed", 20],
            },
            {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["dream.ckpt"]},
            {"id": 5, "type": "SaveImage", "inputs": [{"name": "images", "link": 4}], "widgets_values": ["x"]},
        ],
        "links": [[1, 1, 0, 3, 0, "C"], [2, 2, 0, 3, 1, "C"], [3, 4, 0, 3, 2, "M"], [4, 3, 0, 5, 0, "I"]],
    }
    assert origin_of({"workflow": json.dumps(workflow)}) == Origin("a fox", "blurry", "dream", (), "ComfyUI")


def test_others() -> None:
    fooocus = {"prompt": "a fox", "negative_prompt": "blurry", "base_model": "jugg", "metadata_scheme": "fooocus"}
    fooocus["lora_combined_1"] = "fur.safetensors : 0.5"
    assert origin_of({"parameters": json.dumps(fooocus)}) == Origin("a fox", "blurry", "jugg", ("fur",), "Fooocus")
    invoke = {"positive_prompt": "a fox", "negative_prompt": "", "model": {"name": "dream"}}
    invoke["loras"] = [{"model": {"name": "fur"}, "weight": 1}]
    assert origin_of({"invokeai_metadata": json.dumps(invoke)}) == Origin("a fox", "", "dream", ("fur",), "InvokeAI")
    old = {"model_weights": "sd-1.5", "image": {"prompt": [{"prompt": "a fox", "weight": 1}]}}
    assert origin_of({"sd-metadata": json.dumps(old)}).prompt == "a fox"
    novel = {"Software": "NovelAI", "Description": "a fox", "Comment": '{"uc": "blurry"}', "Source": "SD X"}
    assert origin_of(novel) == Origin("a fox", "blurry", "SD X", (), "NovelAI")


def test_a_label_does_not_hide_the_graph() -> None:
    texts = {"parameters": "Size: 512x512, ImageReward: 0.5, Scored with: sd-imagereward", **graph()}
    assert origin_of(texts).prompt == "a (red:1.2) fox"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"1": {"inputs": []}}', '{"a": ' * 5000, '{"3": {"class_type": 1, "inputs": 2}}']
)
def test_odd_json_tells_nothing(text: str) -> None:
    assert origin_of({"prompt": text, "workflow": text, "invokeai_metadata": text, "Comment": text}).prompt is None


def test_own_metadata_then_text_file_then_nothing(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    save_image(image, tmp_path / "a.png", parameters="a fox\nSteps: 1, Seed: 2, Sampler: x")
    image.save(tmp_path / "b.png")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("a dog")
    image.save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    found = [find_origin(tmp_path / f"{name}.png") for name in "abcd"]
    assert [origin.prompt for origin in found] == ["a fox", "a dog", None, None]
    assert [origin.program for origin in found] == ["A1111", "text file", "", ""]


def test_comfyui_webp_keeps_its_graph_in_exif(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (8, 8)), tmp_path / "a.webp", chunks=graph())
    info = PngInfo()
    info.add_text("prompt", graph()["prompt"])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert find_origin(tmp_path / "a.webp") == find_origin(tmp_path / "a.png") == origin_of(graph())
