"""Graphs in ComfyUI's API form, and workflow files turned into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}
NOTES = {"Note", "MarkdownNote"}

PROMPT = "a painting of an ocean"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def images(count: int = 4, size: int = 32, seed: int = 0, channels: int = 3, unequal: bool = False) -> dict[str, Any]:
    return node("TinyImages", count=count, size=size, seed=seed, channels=channels, unequal=unequal)


def load(model: str = "tiny.pt", dtype: str = "auto") -> dict[str, Any]:
    return node("SDImageRewardLoad", model=model, dtype=dtype, device="auto")


def score(model: str = "1", image: str = "2", prompt: Any = PROMPT, **more: Any) -> dict[str, Any]:
    settings = {"plain_prompt": True, "chunk": 8, **more}
    return node("SDImageRewardScore", reward_model=[model, 0], image=[image, 0], prompt=prompt, **settings)


def scored(**of_images: Any) -> Graph:
    """1 loads, 2 makes images, 3 scores them."""
    return {"1": load(), "2": images(**of_images), "3": score()}


def see(source: str, slot: int) -> dict[str, Any]:
    return node("TinySee", value=[source, slot])


def from_workflow(path: Path, object_info: dict[str, Any]) -> Graph:
    """A workflow file as ComfyUI's page would post it."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for one in workflow["nodes"]:
        if one["type"] in NOTES:
            continue
        inputs = _widget_values(one, object_info[one["type"]])
        inputs |= {slot["name"]: links[slot["link"]] for slot in one.get("inputs", []) if slot.get("link") is not None}
        graph[str(one["id"])] = {"class_type": one["type"], "inputs": inputs}
    return graph


def _widget_values(one: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """`widgets_values` stand in the order of the widgets; a seed is followed by what happens to it after a run.

    A widget that a newer host has added has its default, and the value of one that an older host lacks is left out, as on
    the page.
    """
    left = list(one.get("widgets_values", []))
    values = {}
    for name, (kind, *options) in {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items():
        socket_alone = bool(options) and options[0].get("forceInput", False)
        if (isinstance(kind, list) or kind in WIDGETS) and not socket_alone:
            values[name] = left.pop(0) if left else options[0]["default"]
            if left and left[0] in SEED_CONTROLS:
                left.pop(0)
    assert not left or not one["type"].startswith("SDImageReward"), (
        f"{one['type']} has more values than widgets: {left}"
    )
    return values
