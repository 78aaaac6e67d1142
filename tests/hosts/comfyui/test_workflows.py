"""Every example workflow, as ComfyUI's page would post it, with tiny models in place of the gigabytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hosts.comfyui.graphs import Graph, from_workflow
from hosts.comfyui.server import Server
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

WORKFLOWS = Path(__file__).resolve().parents[3] / "example_workflows"
PICTURES = 8  # for each checkpoint, at most
SMALL = 64


@pytest.fixture
def folder(base: Path) -> Path:
    """What 'score a folder' reads, in unequal sizes."""
    folder = base / "input" / "my_pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(3):
        Image.effect_noise((40 + 8 * i, 50), 60).convert("RGB").save(folder / f"{i}.png")
    return folder


def with_tiny_models(graph: Graph) -> Graph:
    for number, one in enumerate(graph.values()):
        inputs = one["inputs"]
        if one["class_type"] == "CheckpointLoaderSimple":
            one.update(class_type="TinyCheckpoint", inputs={"seed": number})
        elif one["class_type"] == "SDImageRewardLoad":
            inputs["model"] = "tiny.pt"
        elif one["class_type"] == "SDImageRewardTrainReFL":
            inputs |= {"resolution": SMALL, "steps": 2, "accumulation": 1, "evaluation_images": 1, "rank": 2}
            inputs |= {"denoising_steps": 3, "stop_first": 1, "stop_last": 2}
        elif one["class_type"] == "KSampler":
            inputs["steps"] = 2
        elif one["class_type"] == "EmptyLatentImage":
            inputs |= {"width": SMALL, "height": SMALL, "batch_size": min(inputs["batch_size"], PICTURES)}
    return graph


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_runs_and_saves_what_it_promises(server: Server, folder: Path, path: Path) -> None:
    info = server.get("/object_info")
    graph = with_tiny_models(from_workflow(path, info))
    run = server.run(graph, workflow=json.loads(path.read_text(encoding="utf-8")))
    assert run.status == "execution_success", run.node_errors or run.error
    of_kind = {one["class_type"]: run.outputs.get(name) for name, one in graph.items()}
    if "SDImageRewardKeepGenerating" not in of_kind:  # scores by itself
        assert of_kind["SDImageRewardScore"]["scores"]
    saved = (of_kind.get("SDImageRewardSave") or {"images": []})["images"]
    assert bool(saved) == ("SDImageRewardSave" in of_kind)
    for one in saved:
        assert written_scores(read_parameters(server.file(one)) or "").keys() == {"ImageReward"}


def test_the_best_of_16_is_the_best(server: Server) -> None:
    graph = with_tiny_models(from_workflow(WORKFLOWS / "best_of_16.json", server.get("/object_info")))
    run = server.run(graph)
    by_type = {one["class_type"]: name for name, one in graph.items()}
    scores = run.outputs[by_type["SDImageRewardScore"]]["scores"]
    (saved,) = run.outputs[by_type["SDImageRewardSave"]]["images"]
    assert len(set(scores)) == PICTURES
    assert saved["filename"].startswith(f"best_{max(scores):.4f}")


def test_winners_keep_their_noise(server: Server) -> None:
    """The second pass gets the latents of the winners alone."""
    graph = with_tiny_models(from_workflow(WORKFLOWS / "filter_and_upscale_winners.json", server.get("/object_info")))
    first = next(name for name, one in graph.items() if one["class_type"] == "SDImageRewardFilter")
    graph[first]["inputs"]["threshold"] = -100.0
    everyone = server.run(graph)
    graph[first]["inputs"] |= {"threshold": 100.0, "keep_at_least": 2}
    two = server.run(graph)
    save = next(name for name, one in graph.items() if one["class_type"] == "SDImageRewardSave")
    assert len(everyone.outputs[save]["images"]) == PICTURES
    assert len(two.outputs[save]["images"]) == 2
    sizes = {Image.open(server.file(one)).size for one in two.outputs[save]["images"]}
    assert sizes == {(SMALL * 3 // 2, SMALL * 3 // 2)}


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_needs_nothing_but_comfyui_and_this_pack(server: Server, path: Path) -> None:
    info = server.get("/object_info")
    for one in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if one["type"] not in ("MarkdownNote", "Note"):
            module = info[one["type"]]["python_module"]
            assert module in ("nodes", "custom_nodes.sd-imagereward") or module.startswith("comfy_extras.")
