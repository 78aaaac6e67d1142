"""Graphs that were made with other packs' nodes, on a real server that does not have those packs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_imagereward
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


def test_the_page_is_told(downloaded: Server) -> None:
    if not downloaded.get("/features").get("node_replacements"):
        pytest.skip("this ComfyUI has no node replacement in its page")
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
