"""Workflows made with other packs' nodes for ImageReward and PickScore run on ours where those packs are not installed.

ComfyUI's page asks for the table of replacements when it opens a workflow with nodes that are missing. A graph that comes
through the API is rewritten before the server looks at it: a newer ComfyUI would do so by itself, but fails where an optional
input is not connected, and where two nodes that are both replaced are connected with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import nodes
from comfy_api.latest import ComfyAPI, io
from server import PromptServer

from . import scoring

Graph = dict[str, Any]


@dataclass(frozen=True)
class Replacement:
    """One node of another pack, and ours."""

    old_id: str
    new_id: str
    widgets: tuple[str, ...]  # of the old node, in the order in which a workflow file has their values
    inputs: Mapping[str, str]  # our input -> the old one
    values: Mapping[str, Any]  # of our inputs that the old node does not have
    outputs: Mapping[int, int]  # old slot -> our slot


def _load(old_id: str, widget: str, model: str) -> Replacement:
    values = {"model": model, "dtype": "auto", "device": "auto"}
    return Replacement(old_id, "SDImageRewardLoad", (widget,), {}, values, {0: 0})


def _score(old_id: str, prompt: str, outputs: Mapping[int, int]) -> Replacement:
    inputs = {"reward_model": "model", "image": "images", "prompt": prompt}
    values = {"plain_prompt": False, "chunk": scoring.CHUNK}  # the old nodes read the prompt as it stands
    return Replacement(old_id, "SDImageRewardScore", (prompt,), inputs, values, outputs)


IMAGES, SCORES, LATENTS, MASKS = range(4)  # slots of Rank, the first two of Score too
MEAN, TEXT = 4, 5  # further slots of Score

REPLACEMENTS = (
    # https://github.com/ZaneA/ComfyUI-ImageReward
    _load("ImageRewardLoader", "model", "imagereward"),
    _score("ImageRewardScore", "prompt", {0: MEAN, 1: TEXT}),
    # https://github.com/Zuellni/ComfyUI-PickScore-Nodes
    _load("ZuellniPickScoreLoader", "path", "pickscore"),
    _score("ZuellniPickScoreProcessor", "text", {0: SCORES}),
    Replacement(
        "ZuellniPickScoreSelector",
        "SDImageRewardRank",
        ("threshold", "limit"),
        {"image": "images", "scores": "inputs", "latent": "latents", "mask": "masks", "top": "limit"},
        {},
        {0: SCORES, 1: IMAGES, 2: LATENTS, 3: MASKS},
    ),
)


async def register() -> None:
    """Tells the page, where this ComfyUI has node replacement, and the server."""
    server = getattr(PromptServer, "instance", None)
    if server is None:  # the nodes are only looked at, as by a test of the registry
        return
    if on_prompt not in server.on_prompt_handlers:
        server.add_on_prompt_handler(on_prompt)
    node_replacement = getattr(ComfyAPI(), "node_replacement", None)
    if node_replacement is not None:
        for one in REPLACEMENTS:
            await node_replacement.register(_for_the_page(one))


def on_prompt(posted: dict[str, Any]) -> dict[str, Any]:
    """What is posted to the server's queue, with our nodes in its graph in place of nodes that are not installed."""
    graph = posted.get("prompt")
    return {**posted, "prompt": replaced(graph, nodes.NODE_CLASS_MAPPINGS)} if isinstance(graph, dict) else posted


def replaced(graph: Graph, installed: Collection[str]) -> Graph:
    """A graph in the API's form with our nodes in place of those of `REPLACEMENTS` that are not `installed`."""
    known = {one.old_id: one for one in REPLACEMENTS if one.old_id not in installed}
    found = {
        key: known[node["class_type"]] for key, node in graph.items() if _is_node(node) and node["class_type"] in known
    }
    if not found:
        return graph
    return {key: _new_node(node, found.get(key), found) if _is_node(node) else node for key, node in graph.items()}


def _new_node(node: dict[str, Any], one: Replacement | None, found: Mapping[str, Replacement]) -> dict[str, Any]:
    inputs = {name: _new_link(value, found) for name, value in node["inputs"].items()}
    if one is None:
        return {**node, "inputs": inputs}
    taken = {new: inputs[old] for new, old in one.inputs.items() if old in inputs}
    return {**node, "class_type": one.new_id, "inputs": {**one.values, **taken}}


def _new_link(value: Any, found: Mapping[str, Replacement]) -> Any:
    """A link [node, slot] into the slot of the new node; any other value as it is."""
    if not isinstance(value, list) or len(value) != 2 or value[0] not in found:
        return value
    return [value[0], found[value[0]].outputs.get(value[1], value[1])]


def _is_node(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("inputs"), dict) and isinstance(value.get("class_type"), str)
    )


def _for_the_page(one: Replacement) -> Any:
    make: Any = io.NodeReplace  # type: ignore[attr-defined]  # not in 0.12.1
    return make(
        new_node_id=one.new_id,
        old_node_id=one.old_id,
        old_widget_ids=list(one.widgets),
        input_mapping=[
            *({"new_id": new, "old_id": old} for new, old in one.inputs.items()),
            *({"new_id": new, "set_value": value} for new, value in one.values.items()),
        ],
        output_mapping=[{"old_idx": old, "new_idx": new} for old, new in one.outputs.items()],
    )
