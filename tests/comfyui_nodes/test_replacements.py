"""Graphs with other packs' nodes become graphs with ours."""

from __future__ import annotations

import asyncio
from typing import Any

import comfy_api.latest
import nodes
import pytest
import server
from comfy_api.latest import io
from sd_imagereward.comfyui_nodes import replacements
from sd_imagereward.comfyui_nodes.extension import NODES, ImageRewardExtension
from sd_imagereward.comfyui_nodes.replacements import REPLACEMENTS, on_prompt, replaced

EACH = pytest.mark.parametrize("one", REPLACEMENTS, ids=lambda one: one.old_id)


def schemas() -> dict[str, io.Schema]:
    return {schema.node_id: schema for schema in (node.define_schema() for node in NODES)}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": "mine"}}


def imagereward() -> dict[str, Any]:
    return {
        "2": node("ImageRewardScore", model=["1", 0], prompt="a cat", images=["9", 0]),
        "1": node("ImageRewardLoader", model="ImageReward-v1.0"),
        "3": node("ShowText", number=["2", 0], text=["2", 1], other=["9", 1]),
    }


def pickscore(**optional: Any) -> dict[str, Any]:
    chosen = {"model": ["1", 0], "inputs": ["2", 0], "threshold": 0.0, "limit": 2, **optional}
    return {
        "4": node("Preview", images=["3", 1], latents=["3", 2], masks=["3", 3], text=["3", 0]),
        "3": node("ZuellniPickScoreSelector", **chosen),
        "2": node("ZuellniPickScoreProcessor", model=["1", 0], images=["9", 0], text="a cat"),
        "1": node("ZuellniPickScoreLoader", path="yuvalkirstain/PickScore_v1"),
    }


@EACH
def test_our_side_of_the_table_exists(one: replacements.Replacement) -> None:
    ours = schemas()[one.new_id]
    inputs = {given.id: given for given in ours.inputs}
    assert {*one.inputs, *one.values} <= inputs.keys()
    assert {name for name, given in inputs.items() if not given.optional} <= {*one.inputs, *one.values}
    assert max(one.outputs.values()) < len(ours.outputs)
    for name, value in one.values.items():
        assert value in getattr(inputs[name], "options", [value])


def test_imagereward_loader_and_score() -> None:
    new = replaced(imagereward(), {})
    load = {"model": "imagereward", "dtype": "auto", "device": "auto"}
    score = {"reward_model": ["1", 0], "prompt": "a cat", "image": ["9", 0], "plain_prompt": False, "chunk": 8}
    assert new["1"] == node("SDImageRewardLoad", **load)
    assert new["2"] == node("SDImageRewardScore", **score)
    outputs = schemas()["SDImageRewardScore"].outputs
    assert [outputs[new["3"]["inputs"][name][1]].id for name in ("number", "text")] == ["mean", "text"]
    assert new["3"]["inputs"]["other"] == ["9", 1]


def test_pickscore_selector_with_all_that_it_carries() -> None:
    carried = {"images": ["9", 0], "latents": ["8", 0], "masks": ["7", 0]}
    new = replaced(pickscore(**carried), {})
    taken = {"image": ["9", 0], "scores": ["2", 1], "latent": ["8", 0], "mask": ["7", 0], "top": 2}
    assert new["3"] == node("SDImageRewardRank", **taken)
    assert new["1"]["inputs"]["model"] == "pickscore"
    outputs = schemas()["SDImageRewardRank"].outputs
    for name, shown in {"images": "images", "latents": "latents", "masks": "masks", "text": "scores"}.items():
        assert outputs[new["4"]["inputs"][name][1]].display_name == shown


def test_pickscore_selector_with_images_alone() -> None:
    new = replaced(pickscore(images=["9", 0]), {})
    assert new["3"]["inputs"] == {"image": ["9", 0], "scores": ["2", 1], "top": 2}


def test_a_pack_that_is_installed_keeps_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = imagereward()
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", {"ImageRewardLoader": 1, "ImageRewardScore": 1})
    assert on_prompt({"prompt": graph, "client_id": "me"}) == {"prompt": imagereward(), "client_id": "me"}
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", {})
    new = on_prompt({"prompt": graph, "client_id": "me"})
    assert new == {"prompt": replaced(graph, {}), "client_id": "me"}
    assert graph == imagereward()  # whoever posted it finds it as it was


@pytest.mark.parametrize(
    "posted", [{}, {"prompt": None}, {"prompt": {"1": None, "2": {"class_type": "ImageRewardScore"}}}]
)
def test_what_is_no_graph_is_left_to_the_server(posted: dict[str, Any]) -> None:
    assert on_prompt(posted) == posted


class Newer:
    """ComfyUI with node replacement."""

    registered: list[dict[str, Any]]

    def __init__(self) -> None:
        Newer.registered = []
        self.node_replacement = self

    async def register(self, one: dict[str, Any]) -> None:
        Newer.registered.append(one)


def test_the_page_and_the_server_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    host = server.PromptServer()
    monkeypatch.setattr(server.PromptServer, "instance", host)
    monkeypatch.setattr(replacements, "ComfyAPI", Newer)
    monkeypatch.setattr(io, "NodeReplace", dict, raising=False)
    for _ in range(2):  # as after a reload of the extension
        asyncio.run(ImageRewardExtension().get_node_list())
    assert host.on_prompt_handlers == [on_prompt]
    found = {one["old_node_id"]: one for one in Newer.registered}
    assert list(found) == [one.old_id for one in REPLACEMENTS]
    assert found["ImageRewardScore"] == {
        "new_node_id": "SDImageRewardScore",
        "old_node_id": "ImageRewardScore",
        "old_widget_ids": ["prompt"],
        "input_mapping": [
            {"new_id": "reward_model", "old_id": "model"},
            {"new_id": "image", "old_id": "images"},
            {"new_id": "prompt", "old_id": "prompt"},
            {"new_id": "plain_prompt", "set_value": False},
            {"new_id": "chunk", "set_value": 8},
        ],
        "output_mapping": [{"old_idx": 0, "new_idx": 4}, {"old_idx": 1, "new_idx": 5}],
    }


def test_an_older_comfyui_has_no_replacement_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    host = server.PromptServer()
    monkeypatch.setattr(server.PromptServer, "instance", host)
    assert not hasattr(comfy_api.latest.ComfyAPI(), "node_replacement")
    asyncio.run(replacements.register())
    assert host.on_prompt_handlers == [on_prompt]
