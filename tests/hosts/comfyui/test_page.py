"""The graph in a real page: the nodes found by their name, the scores shown.

IMAGEREWARD_SCREENSHOTS: a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.canvas import Canvas
from hosts.comfyui.server import Server
from hosts.comfyui.test_workflows import WORKFLOWS
from sd_imagereward.core.demo.pictures import write_demo

SETTINGS = {"Comfy.TutorialCompleted": True}  # else a dialog covers the graph
VIEWS = {"classic": False, "nodes2": True}
LEAST = 60  # height of a preview, in units of the graph
BLUEPRINTS = sorted((WORKFLOWS.parent / "subgraphs").glob("*.json"))
SMALL: dict[str, dict[str, Any]] = {
    "SDImageRewardLoad": {"model": "tiny.pt"},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
    "SDImageRewardTrainReFL": {"resolution": 64, "steps": 2, "accumulation": 1, "evaluation_images": 1, "rank": 2}
    | {"denoising_steps": 3, "stop_first": 1, "stop_last": 2},
}


@pytest.fixture(scope="module", params=VIEWS)
def page(server: Server, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Canvas]:
    """One browser for all scenes of a view."""
    user = server.base / "user" / "default"
    user.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | {"Comfy.VueNodes.Enabled": VIEWS[request.param]}
    (user / "comfy.settings.json").write_text(json.dumps(settings), encoding="utf-8")
    page = Canvas(f"http://127.0.0.1:{server.port}/", tmp_path_factory.mktemp("chromium"), (1900, 1300))
    yield page
    page.close()


@pytest.fixture
def canvas(page: Canvas) -> Iterator[Canvas]:
    yield page
    folder = os.environ.get("IMAGEREWARD_SCREENSHOTS")
    if folder:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" (")[0]
        page.screenshot(Path(folder) / f"comfyui_{name}.png")
    page.escape()


def test_keep_generating_shows_what_it_has_found(canvas: Canvas) -> None:
    open_small(canvas, WORKFLOWS / "generate_until_good.json")
    canvas.set("EmptyLatentImage", batch_size=1)
    canvas.set("SDImageRewardKeepGenerating", threshold=-100, until=3)
    canvas.run()
    canvas.show_all()
    node = "const node = window.app.graph._nodes.find(n => n.type == 'SDImageRewardKeepGenerating');"
    number = str(canvas.js(f"{node} return node.id"))
    canvas.wait(lambda: len(canvas.previews().get(number, ())) == 3, "three images on the node")
    told = canvas.js("return JSON.stringify(window.app.nodeOutputs)")
    assert "3 of 3 images pass after 3 tries." in told


def test_every_node_is_found_by_the_word_imagereward(canvas: Canvas, server: Server) -> None:
    ours = {name for name in server.get("/object_info") if name.startswith("SDImageReward")}
    known = [server.get(f"/object_info/{name}")[name] for name in ours]
    titles = {one["display_name"] for one in known if not one.get("dev_only")}
    canvas.js("window.app.canvas.canvas.dispatchEvent(new MouseEvent('dblclick', {clientX: 800, clientY: 450}))")
    canvas.js("window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    canvas.wait(lambda: canvas.visible(".comfy-vue-node-search-container input, [role=dialog] input"), "the search")
    canvas.driver.switch_to.active_element.send_keys("ImageReward")
    results = (
        "return [...document.querySelectorAll('.p-autocomplete-option, [role=option]')].map(e => e.innerText).join()"
    )
    canvas.wait(lambda: sum(title in canvas.js(results) for title in titles) == len(titles), "all nodes in the list")


def test_mix_grows_a_socket_for_each_model_and_runs(canvas: Canvas, server: Server) -> None:
    canvas.js(
        "const {app, LiteGraph} = window; app.graph.clear();"
        "const add = (type, x, y) => {"
        " const node = LiteGraph.createNode(type); node.pos = [x, y]; app.graph.add(node); return node; };"
        "window.loads = [0, 1, 2].map(i => add('SDImageRewardLoad', 0, 250 * i));"
        "window.mix = add('SDImageRewardMix', 450, 0); window.score = add('SDImageRewardScore', 900, 0);"
        "const images = add('TinyImages', 450, 400);"
        "window.mix.connect(0, window.score, 0); images.connect(0, window.score, 1)"
    )
    canvas.set("SDImageRewardLoad", model="tiny.pt")
    canvas.set("TinyImages", count=16, size=32, channels=3)
    canvas.set("SDImageRewardScore", prompt="the sea")
    canvas.set("SDImageRewardMix", weights="1, 0.5, 2")
    sockets = "return window.mix.inputs.filter(i => i.type == 'REWARD_MODEL').length"
    connect = "window.loads[arguments[0]].connect(0, window.mix, arguments[0])"
    for i in range(3):
        canvas.wait(lambda: canvas.js(sockets) > i, "a free socket")  # noqa: B023, waits before the next turn
        canvas.js(connect, i)
    canvas.wait(lambda: canvas.js(sockets) == 4, "a fourth socket")
    canvas.run()
    canvas.show_all()
    assert str(canvas.js("return window.score.id")) in canvas.previews()
    history = next(iter(server.get("/history?max_items=1").values()))
    (text,) = (one["text"][0] for one in history["outputs"].values() if "text" in one)
    assert "ImageReward 3" in text


def test_a_bypassed_score_is_named(canvas: Canvas, server: Server) -> None:
    """The page leaves out what a bypassed node cannot pass on."""
    write_demo(server.base / "input" / "my_pictures")
    open_small(canvas, WORKFLOWS / "score_a_folder.json")
    canvas.js("for (const node of window.app.graph._nodes) if (node.type == 'SDImageRewardScore') node.mode = 4")
    run = server.run(canvas.js("return window.app.graphToPrompt().then(made => made.output)"))
    assert "bypassed" in f"{run.node_errors} {run.events}"


def with_tiny_models(workflow: dict[str, Any]) -> dict[str, Any]:
    for node in workflow["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node |= {"type": "TinyCheckpoint", "widgets_values": [0, "fixed", "sd1"]}
    return workflow


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def open_small(canvas: Canvas, path: Path) -> None:
    canvas.load(with_tiny_models(read(path)))
    for kind, widgets in SMALL.items():
        canvas.set(kind, **widgets)
    canvas.show_all()


def expect_apart(boxes: dict[str, dict[str, Any]]) -> None:
    for one, other in itertools.combinations(boxes.values(), 2):
        l1, t1, r1, b1 = one["edges"]
        l2, t2, r2, b2 = other["edges"]
        apart = r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1
        assert apart, f"{one['title']} and {other['title']} overlap: {one['edges']}, {other['edges']}"


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_a_template_shows_everything_before_and_after_its_run(canvas: Canvas, server: Server, path: Path) -> None:
    write_demo(server.base / "input" / "my_pictures")
    open_small(canvas, path)
    expect_apart(canvas.boxes())
    canvas.run()
    canvas.show_all()
    boxes, previews = canvas.boxes(), canvas.previews()
    expect_apart(boxes)
    info = server.get("/object_info")
    ends = {number for number, box in boxes.items() if info.get(box["type"], {}).get("output_node")}
    assert ends <= previews.keys(), [boxes[number]["title"] for number in ends - previews.keys()]
    for number, pictures in previews.items():
        for picture in pictures:
            assert not picture["covered"], boxes[number]["title"]
        tallest = max(picture["height"] for picture in pictures)
        assert tallest >= LEAST or len(pictures) > 4, boxes[number]["title"]


def test_training_ends_with_its_curve(canvas: Canvas, server: Server) -> None:
    """Live previews are of one picture, the curve is a file of the node's."""
    open_small(canvas, WORKFLOWS / "train_a_refl_lora.json")
    canvas.run()
    canvas.show_all()
    (number,) = (n for n, box in canvas.boxes().items() if box["type"] == "SDImageRewardTrainReFL")
    (picture,) = canvas.previews()[number]
    assert "/view?filename=ImageReward_" in picture["source"]


def test_optimising_noise_ends_with_its_curve(canvas: Canvas) -> None:
    canvas.js(
        "const {app, LiteGraph} = window; app.graph.clear();"
        "const add = (type, x, y) => {"
        " const node = LiteGraph.createNode(type); node.pos = [x, y]; app.graph.add(node); return node; };"
        "const tiny = add('TinyCheckpoint', 0, 0), reward = add('SDImageRewardLoad', 0, 300);"
        "const latent = add('EmptyLatentImage', 0, 600), reno = add('SDImageRewardOptimiseNoise', 450, 0);"
        "const join = (node, slot, name) => node.connect(slot, reno, reno.inputs.findIndex(i => i.name == name));"
        "['model', 'clip', 'vae'].forEach((name, slot) => join(tiny, slot, name));"
        "join(reward, 0, 'reward_model'); join(latent, 0, 'latent'); window.reno = reno"
    )
    for kind in ("SDImageRewardLoad", "EmptyLatentImage"):
        canvas.set(kind, **SMALL[kind])
    canvas.set("TinyCheckpoint", kind="sd1")
    canvas.set("SDImageRewardOptimiseNoise", prompt="a red fox", iterations=4, steps=1)
    canvas.run()
    canvas.show_all()
    number = str(canvas.js("return window.reno.id"))
    (picture,) = canvas.wait(lambda: canvas.previews().get(number), "the curve")
    assert "/view?filename=ImageReward_" in picture["source"]


def test_connected_scores_hide_the_prompt(canvas: Canvas) -> None:
    canvas.load(read(WORKFLOWS / "best_of_16.json"))
    canvas.show_all()
    find = "const node = window.app.graph._nodes.find(n => n.type == 'SDImageRewardPickBest');"
    slot = "const slot = node.inputs.findIndex(i => i.name == 'scores');"

    def prompt_is_shown() -> bool:
        shown: bool = canvas.js(
            f"{find} const element = document.querySelector(`[data-node-id='${{node.id}}']`);"
            "const prompt = node.widgets.find(w => w.name == 'prompt');"
            "return element ? !!element.querySelector('textarea') : prompt.element.offsetParent !== null"
        )
        return shown

    assert not prompt_is_shown()
    canvas.js(f"{find} {slot} node.disconnectInput(slot)")
    canvas.wait(prompt_is_shown, "the prompt of a node without scores")
    canvas.js(
        f"{find} {slot} const score = window.app.graph._nodes.find(n => n.type == 'SDImageRewardScore');"
        "score.connect(1, node, slot)"
    )
    canvas.wait(lambda: not prompt_is_shown(), "the prompt to go")


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_app_mode_finds_what_a_template_offers(canvas: Canvas, path: Path) -> None:
    """The page keeps of a layout for App mode what it can interpret."""
    workflow = with_tiny_models(read(path))
    tiny = {node["id"] for node in workflow["nodes"] if node["type"] == "TinyCheckpoint"}
    layout = workflow["extra"]["linearData"]
    layout["inputs"] = [entry for entry in layout["inputs"] if entry[0] not in tiny]
    canvas.load(workflow)
    store = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia.state.value.appMode"
    kept = canvas.js(f"return {store} && [{store}.selectedInputs.length, {store}.selectedOutputs.length]")
    if kept is None:
        pytest.skip("this page has no App mode")
    assert kept == [len(layout["inputs"]), len(layout["outputs"])]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_runs_as_one_node(canvas: Canvas, server: Server, path: Path) -> None:
    write_demo(server.base / "input" / "my_pictures")
    offered = {one["name"]: number for number, one in server.get("/global_subgraphs").items()}
    workflow = json.loads(server.get(f"/global_subgraphs/{offered[path.stem]}")["data"])
    canvas.load(workflow)
    canvas.js(
        "const graph = window.app.graph, node = graph._nodes[0];"
        "for (const inner of node.subgraph.nodes) for (const widget of inner.widgets ?? [])"
        " if (widget.name in (arguments[0][inner.type] ?? {})) widget.value = arguments[0][inner.type][widget.name];"
        "for (const widget of node.widgets) {"
        " const value = arguments[1][widget.name]; if (value !== undefined) widget.value = value; }"
        "if (!node.inputs.some(i => i.name == 'model')) return;"
        "const tiny = window.LiteGraph.createNode('TinyCheckpoint'); graph.add(tiny); tiny.pos = [-400, 0];"
        "['model', 'clip', 'vae'].forEach((name, out) =>"
        " tiny.connect(out, node, node.inputs.findIndex(i => i.name == name)))",
        SMALL,
        {"reward_model": "tiny.pt", "width": 64, "height": 64, "count": 2, "steps": 2}
        | {"resolution": 64, "train_steps": 2, "prompt": "a red fox", "prompts": "a red fox", "folder": "my_pictures"},
    )
    canvas.run()
    canvas.show_all()
    assert canvas.js("return Object.keys(window.app.nodeOutputs).length") > 0
    if canvas.js(
        "return !!document.querySelector('[data-node-id]')"
    ):  # the classic canvas draws no previews from inside
        shown = canvas.wait(canvas.previews, "the picture of the node")
        (pictures,) = shown.values()
        assert max(picture["height"] for picture in pictures) >= LEAST
