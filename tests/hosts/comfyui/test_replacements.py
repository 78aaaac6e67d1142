"""Graphs that were made with other packs' nodes, on a real server that does not have those packs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_imagereward
from hosts.comfyui.canvas import Canvas
from hosts.comfyui.conftest import furnish, started
from hosts.comfyui.graphs import PROMPT, Graph, images, load, node, score, see
from hosts.comfyui.server import Run, Server
from scorer_checkpoints import TINY_H, write_clip


@pytest.fixture(scope="module")
def downloaded(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model folder has ImageReward and PickScore by their names, tiny."""
    base = furnish(tmp_path_factory.mktemp("replacements"), "sd-imagereward")
    models = base / "models" / "ImageReward"
    write_imagereward(models)
    write_clip(models, name="PickScore_v1.safetensors", **TINY_H)
    with started(comfyui, base) as server:
        yield server


def titled(graph: Graph) -> Graph:
    """As the page posts it: a newer ComfyUI's own replacement reads the titles."""
    return {name: {**one, "_meta": {"title": one["class_type"]}} for name, one in graph.items()}


def imagereward(**of_images: Any) -> Graph:
    """As https://github.com/ZaneA/ComfyUI-ImageReward shows it."""
    return {
        "1": node("ImageRewardLoader", model="ImageReward-v1.0"),
        "2": images(**of_images),
        "3": node("ImageRewardScore", model=["1", 0], images=["2", 0], prompt=PROMPT),
        "4": see("3", 0),
        "5": node("StringConcatenate", string_a=["3", 1], string_b="", delimiter=""),
        "6": see("5", 0),
    }


def pickscore(outputs: dict[str, int], **carried: Any) -> Graph:
    """As https://github.com/Zuellni/ComfyUI-PickScore-Nodes shows it; `outputs` of the Selector are looked at."""
    chosen = {"model": ["1", 0], "inputs": ["3", 0], "threshold": 0.0, "limit": 2, "images": ["2", 0], **carried}
    return {
        "1": node("ZuellniPickScoreLoader", path="yuvalkirstain/PickScore_v1"),
        "2": images(seed=3),
        "3": node("ZuellniPickScoreProcessor", model=["1", 0], images=["2", 0], text=PROMPT),
        "4": node("ZuellniPickScoreSelector", **chosen),
        **{name: see("4", slot) for name, slot in outputs.items()},
    }


def seen(run: Run, node_id: str) -> Any:
    assert run.status == "execution_success", run.node_errors or run.error
    return run.outputs[node_id]["seen"]


@pytest.mark.parametrize("form", [titled, dict], ids=["with titles", "without titles"])
def test_imagereward_gives_the_mean_and_a_text(downloaded: Server, form: Any) -> None:
    run = downloaded.run(form(imagereward(count=3)))
    ours = {"1": load("imagereward"), "2": images(count=3), "3": score(plain_prompt=False), "4": see("3", 2)}
    values = seen(downloaded.run(ours), "4")
    assert seen(run, "4") == [pytest.approx(sum(values) / 3)]
    assert seen(run, "6")[0].startswith(f"image 0: ImageReward {values[0]:.4f}")


@pytest.mark.parametrize("form", [titled, dict], ids=["with titles", "without titles"])
def test_pickscore_keeps_the_best_and_what_belongs_to_them(downloaded: Server, form: Any) -> None:
    outputs = {"scores": 0, "images": 1, "latents": 2, "masks": 3}
    graph = pickscore(outputs, latents=["5", 0], masks=["6", 0])
    graph["5"] = node("EmptyLatentImage", width=32, height=32, batch_size=4)
    graph["6"] = node("ImageToMask", image=["2", 0], channel="red")
    run = downloaded.run(form(graph))
    ours = {"1": load("pickscore"), "2": images(seed=3), "3": score(plain_prompt=False), "4": see("3", 2)}
    values = seen(downloaded.run(ours), "4")
    best = sorted(range(4), key=lambda i: -values[i])[:2]
    assert seen(run, "scores") == [{"scores": [values[i] for i in best]}]
    assert seen(run, "images")[0]["shape"] == [2, 32, 32, 3]
    assert seen(run, "latents") == [{"shape": [2, 4, 4, 4], "batch_index": best}]
    assert seen(run, "masks")[0]["shape"] == [2, 32, 32]


def test_pickscore_with_images_alone(downloaded: Server) -> None:
    run = downloaded.run(titled(pickscore({"images": 1})))
    assert seen(run, "images")[0]["shape"] == [2, 32, 32, 3]


def has_replacement(server: Server) -> None:
    if not server.get("/features").get("node_replacements"):
        pytest.skip("this ComfyUI has no node replacement in its page")


def test_the_page_is_told(downloaded: Server) -> None:
    has_replacement(downloaded)
    table = downloaded.get("/node_replacements")
    ours = {old: one for old, (one, *_) in table.items() if one["new_node_id"].startswith("SDImageReward")}
    assert set(ours) == {
        "ImageRewardLoader",
        "ImageRewardScore",
        "ZuellniPickScoreLoader",
        "ZuellniPickScoreProcessor",
        "ZuellniPickScoreSelector",
    }
    info = downloaded.get("/object_info")
    for one in ours.values():
        known = info[one["new_node_id"]]
        inputs = known["input"]["required"].keys() | known["input"].get("optional", {}).keys()
        assert {mapped["new_id"] for mapped in one["input_mapping"]} <= inputs
        assert max(mapped["new_idx"] for mapped in one["output_mapping"]) < len(known["output"])


def test_a_node_that_nobody_has_is_refused_as_ever(downloaded: Server) -> None:
    run = downloaded.run({"1": node("NobodysNode"), "2": see("1", 0)})
    assert run.status == "refused"


OLD_WORKFLOW = {
    "version": 0.4,
    "links": [
        [1, 1, 0, 3, 0, "IMAGEREWARD_MODEL"],
        [2, 2, 0, 3, 1, "IMAGE"],
        [3, 3, 0, 4, 0, "FLOAT"],
    ],
    "nodes": [
        {
            "id": 1,
            "type": "ImageRewardLoader",
            "pos": [0, 100],
            "outputs": [{"name": "IMAGEREWARD_MODEL", "type": "IMAGEREWARD_MODEL", "links": [1]}],
            "widgets_values": ["ImageReward-v1.0"],
        },
        {
            "id": 2,
            "type": "TinyImages",
            "pos": [0, 300],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
            "widgets_values": [2, 32, 1, "fixed", 3, False],
        },
        {
            "id": 3,
            "type": "ImageRewardScore",
            "pos": [400, 100],
            "inputs": [
                {"name": "model", "type": "IMAGEREWARD_MODEL", "link": 1},
                {"name": "images", "type": "IMAGE", "link": 2},
            ],
            "outputs": [
                {"name": "SCORE_FLOAT", "type": "FLOAT", "links": [3]},
                {"name": "SCORE_STRING", "type": "STRING", "links": []},
            ],
            "widgets_values": [PROMPT],
        },
        {"id": 4, "type": "PreviewAny", "pos": [800, 100], "inputs": [{"name": "source", "type": "*", "link": 3}]},
    ],
}
PRESS = "[...document.querySelectorAll('button')].find(b => b.offsetParent && b.innerText.includes('Replace All'))"
SHOWN = "return window.app.graph._nodes.find(n => n.type == 'PreviewAny').widgets.map(w => String(w.value))"


def test_the_page_replaces_the_nodes_of_a_workflow_which_then_runs(downloaded: Server, tmp_path: Path) -> None:
    has_replacement(downloaded)
    user = downloaded.base / "user" / "default"
    user.mkdir(parents=True, exist_ok=True)
    (user / "comfy.settings.json").write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")
    canvas = Canvas(f"http://127.0.0.1:{downloaded.port}/", tmp_path / "chromium", (1600, 900))
    try:
        canvas.load(OLD_WORKFLOW)
        canvas.click("[data-testid=error-overlay-see-errors]")
        canvas.wait(lambda: canvas.js(f"return {PRESS}"), "the offer to replace the nodes").click()
        types = "return window.app.graph._nodes.map(n => n.type).sort()"
        replaced = ["PreviewAny", "SDImageRewardLoad", "SDImageRewardScore", "TinyImages"]
        canvas.wait(lambda: canvas.js(types) == replaced, "our nodes in their place")
        canvas.js("window.app.queuePrompt(0)")
        ours = {"1": load("imagereward"), "2": images(2, seed=1), "3": score(plain_prompt=False), "4": see("3", 4)}
        (mean,) = seen(downloaded.run(ours), "4")
        canvas.wait(lambda: str(mean) in canvas.js(SHOWN), "the mean score in the preview")
    finally:
        canvas.close()
