"""The graph in a real page: the nodes found by their name, the scores shown.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts.comfyui.canvas import Canvas
from hosts.comfyui.server import Server
from hosts.comfyui.test_workflows import WORKFLOWS
from sd_imagereward.core.demo.pictures import write_demo

SETTINGS = {"Comfy.TutorialCompleted": True}  # else a dialog covers the graph


@pytest.fixture
def canvas(server: Server, tmp_path: Path) -> Iterator[Canvas]:
    user = server.base / "user" / "default"
    user.mkdir(parents=True, exist_ok=True)
    (user / "comfy.settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    canvas = Canvas(f"http://127.0.0.1:{server.port}/", tmp_path / "chromium", (1600, 900))
    yield canvas
    folder = os.environ.get("IMAGEREWARD_SCREENSHOTS")
    if folder:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
        canvas.screenshot(Path(folder) / f"comfyui_{name}.png")
    canvas.close()


def test_a_workflow_runs_and_shows_its_scores(canvas: Canvas, server: Server) -> None:
    write_demo(server.base / "input" / "my_pictures")
    canvas.load(json.loads((WORKFLOWS / "score_a_folder.json").read_text(encoding="utf-8")))
    canvas.set("SDImageRewardLoad", model="tiny.pt")
    canvas.run("SDImageRewardSave")
    canvas.fit(0.75)
    for kind in ("SDImageRewardScore", "SDImageRewardScoreTable", "SDImageRewardSave"):
        shown = "return window.app.graph._nodes.find(n => n.type == arguments[0]).imgs.map(i => i.naturalWidth)"
        assert all(width > 0 for width in canvas.js(shown, kind))


def test_keep_generating_shows_what_it_has_found(canvas: Canvas) -> None:
    workflow = json.loads((WORKFLOWS / "generate_until_good.json").read_text(encoding="utf-8"))
    for one in workflow["nodes"]:
        if one["type"] == "CheckpointLoaderSimple":
            one.update(type="TinyCheckpoint", widgets_values=[0, "sd1"], properties={})
    canvas.load(workflow)
    canvas.set("SDImageRewardLoad", model="tiny.pt")
    canvas.set("EmptyLatentImage", width=64, height=64, batch_size=1)
    canvas.set("KSampler", steps=2)
    canvas.set("SDImageRewardKeepGenerating", threshold=-100, until=3)
    canvas.run("SDImageRewardSave")
    canvas.fit(0.75)
    node = "const node = window.app.graph._nodes.find(n => n.type == 'SDImageRewardKeepGenerating');"
    canvas.wait(lambda: canvas.js(f"{node} return node.imgs && node.imgs.length") == 3, "three images on the node")
    texts = canvas.js(f"{node} return node.widgets.map(w => String(w.value))")
    assert any("3 of 3 images pass after 3 tries." in text for text in texts), texts


def test_every_node_is_found_by_the_word_imagereward(canvas: Canvas, server: Server) -> None:
    ours = {name for name in server.get("/object_info") if name.startswith("SDImageReward")}
    known = [server.get(f"/object_info/{name}")[name] for name in ours]
    titles = {one["display_name"] for one in known if not one.get("dev_only")}
    canvas.js("window.app.canvas.canvas.dispatchEvent(new MouseEvent('dblclick', {clientX: 800, clientY: 450}))")
    canvas.js("window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    field = canvas.wait(lambda: canvas.visible(".comfy-vue-node-search-container input, .p-dialog input"), "the search")
    field.send_keys("ImageReward")
    results = (
        "return [...document.querySelectorAll('.p-autocomplete-option, [role=option]')].map(e => e.innerText).join()"
    )
    canvas.wait(lambda: sum(title in canvas.js(results) for title in titles) == len(titles), "all nodes in the list")
