"""Makes the pictures of docs/images from programs that are running: needs selenium, Chromium and its driver.

python docs/pictures.py webui http://127.0.0.1:7860     # AUTOMATIC1111 with this extension; see docs/painter.py
python docs/pictures.py comfyui http://127.0.0.1:8188   # ComfyUI with `imagereward score --demo` pictures in input/demo
python docs/pictures.py refl http://127.0.0.1:8188      # ComfyUI with tests/hosts/comfyui/tiny_pack in custom_nodes
python docs/pictures.py templates http://127.0.0.1:8188 # the same with input/demo; the tiles of example_workflows
python docs/pictures.py gallery http://127.0.0.1:7861   # `imagereward gallery` on a folder of demo pictures
python docs/pictures.py miniature miniature/seed-0      # drawings of examples/miniature, untuned and tuned
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from hosts.browser import Browser  # noqa: E402
from hosts.comfyui.canvas import Canvas  # noqa: E402
from hosts.webui.browser import Page  # noqa: E402


def webui(url: str, profile: Path) -> None:
    page = Page(url, profile, (1240, 1520))
    accordion = "#script_txt2img_imagereward_accordion_"
    page.fill("#txt2img_prompt textarea", "a painting of mountains above the clouds")
    numbers = {"steps": 2, "width": 128, "height": 128, "batch_count": 3, "batch_size": 2}
    for name, value in numbers.items():
        page.fill(f"#txt2img_{name} input[type=number]", str(value))
    page.fill("#txt2img_seed input", "5")
    page.click(f"{accordion}enabled .label-wrap")
    page.wait(lambda: page.visible(f"{accordion}scorer"), "the accordion to open")
    page.choose(f"{accordion}scorer", "Technical")
    page.set_checkbox(f"{accordion}sort", True)
    page.generate()
    page.js("document.querySelectorAll('#txt2img_gallery .thumbnail-item')[1].click()")
    page.wait(lambda: "Technical: " in page.text("#html_info_txt2img"), "the score under the gallery")
    page.js("scrollTo(0, 0)")
    time.sleep(2)
    save(page, "webui-panel.png", crop=(1240, 1280))


def comfyui(url: str, profile: Path) -> None:
    canvas = Canvas(url, profile, (1600, 1000))
    canvas.load(workflow("score_a_folder"))
    canvas.set("SDImageRewardLoad", model="technical")
    canvas.set("SDImageRewardLoadFolder", folder="demo")
    canvas.run()
    bare(canvas)
    save(canvas, "comfyui-graph.png", crop=canvas.fit(0.65))


def refl(url: str, profile: Path) -> None:
    """A training of seconds on the tiny networks of the tests."""
    small = {"steps": 10, "resolution": 64, "batch_size": 4, "accumulation": 1, "evaluate_every": 2, "rank": 16}
    quick = {"denoising_steps": 1, "stop_first": 0, "stop_last": 0, "sampler": "euler", "learning_rate": 3e-3}
    graph = workflow("train_a_refl_lora")
    for node in graph["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node |= {"type": "TinyCheckpoint", "widgets_values": [0, "fixed", "sd1"]}
    canvas = Canvas(url, profile, (1600, 1100))
    canvas.load(graph)
    canvas.set("SDImageRewardLoad", model="tiny.pt")
    canvas.set("SDImageRewardTrainReFL", **small, **quick, threshold=10.0, scale=1.0, evaluation_images=2)
    canvas.set("EmptyLatentImage", width=64, height=64)
    canvas.set("KSampler", steps=4)
    canvas.run(300)
    bare(canvas)
    save(canvas, "comfyui-refl.png", crop=canvas.fit(0.55))


def templates(url: str, profile: Path) -> None:
    """Tiles for the page's list of templates: the nodes that show results, after a run on the demo pictures.

    No diffusion model runs: what would come from it is read from the folder. Only the training is one, of tiny networks.
    """
    canvas = Canvas(url, profile, (1900, 1300))
    for name, (titles, settings) in TILES.items():
        canvas.load(with_demo_pictures(workflow(name)))
        canvas.set("SDImageRewardLoad", model="technical")
        for kind, widgets in settings.items():
            canvas.set(kind, **widgets)
        canvas.run()
        bare(canvas)
        save_tile(canvas, name, titles)
    canvas.close()


TRAINING = {"steps": 10, "resolution": 64, "batch_size": 4, "accumulation": 1, "evaluate_every": 2, "rank": 16} | {
    "denoising_steps": 1, "stop_first": 0, "stop_last": 0, "sampler": "euler", "learning_rate": 3e-3,
    "threshold": 10.0, "scale": 1.0, "evaluation_images": 2,
}  # fmt: skip
Widgets = dict[str, dict[str, Any]]  # by the type of node
SMALL: Widgets = {"EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 12}, "KSampler": {"steps": 2}}
TILES: dict[str, tuple[tuple[str, ...], Widgets]] = {  # titles of the nodes that are shown, settings of the run
    "best_of_16": (("Score", "Pick Best", "Save Scored Images"), SMALL),
    "score_a_folder": (("Score", "Rank", "Save Scored Images"), {"SDImageRewardLoadFolder": {"folder": "demo"}}),
    "filter_and_upscale_winners": (("Score", "Filter"), SMALL),
    "compare_two_checkpoints": (
        ("Score, A", "Score, B", "Score Table"),
        SMALL | {"SDImageRewardScoreTable": {"label": "painted", "compare_label": "noise"}},
    ),
    "generate_until_good": (
        ("Keep Generating", "Save Scored Images"),
        {**SMALL, "SDImageRewardKeepGenerating": {"until": 4, "threshold": -100.0}},
    ),
    "train_a_refl_lora": (
        ("Train ReFL LoRA", "LoRA at strength 0.5", "Strength 0", "Strength 0.5", "Strength 1"),
        SMALL | {"SDImageRewardLoad": {"model": "tiny.pt"}, "SDImageRewardTrainReFL": TRAINING},
    ),
}
TILE = 640  # pixels at most, a side
BARS = (80, 120)  # pixels that the page's own bars take up on the left and above


def with_demo_pictures(graph: dict[str, Any]) -> dict[str, Any]:
    """Tiny networks for checkpoints, and the folder input/demo for the first decoded pictures."""
    decoders = [node for node in graph["nodes"] if node["type"] == "VAEDecode"]
    for node in graph["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node |= {"type": "TinyCheckpoint", "widgets_values": [0, "fixed", "sd1"]}
    if any(node["type"] == "SDImageRewardTrainReFL" for node in graph["nodes"]):
        return graph
    for node in decoders[:1]:
        graph["links"] = [link for link in graph["links"] if link[3] != node["id"]]
        for slot in node["inputs"]:
            for other in graph["nodes"]:
                for output in other["outputs"]:
                    output["links"] = [link for link in output["links"] or [] if link != slot["link"]]
        node |= {"type": "SDImageRewardLoadFolder", "inputs": [], "widgets_values": ["demo"], "properties": {}}
    return graph


def save_tile(canvas: Canvas, name: str, titles: tuple[str, ...]) -> None:
    """The part of the graph that these nodes take up, as JPEG."""
    canvas.fit(1.0)
    boxes = [box["edges"] for box in canvas.boxes().values() if box["title"].removeprefix("ImageReward ") in titles]
    left, top = (min(edges[side] for edges in boxes) - 20 for side in (0, 1))
    right, bottom = (max(edges[side] for edges in boxes) + 20 for side in (2, 3))
    scale = min(1.0, 1780 / (right - left), 950 / (bottom - top))
    canvas.js(
        "const [left, top, scale, bars] = arguments, view = window.app.canvas;"
        "view.ds.scale = scale; view.ds.offset = [bars[0] / scale - left, bars[1] / scale - top];"
        "view.setDirty(true, true)",
        left,
        top,
        scale,
        BARS,
    )
    time.sleep(2)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        canvas.screenshot(shot)
        picture = Image.open(shot).convert("RGB")
    origin = canvas.js("const {left, top} = window.app.canvas.canvas.getBoundingClientRect(); return [left, top]")
    x, y = (round(origin[side] + BARS[side]) for side in (0, 1))
    tile = picture.crop((x, y, x + round(scale * (right - left)), y + round(scale * (bottom - top))))
    tile.thumbnail((TILE, TILE))
    tile.save(ROOT / "example_workflows" / f"{name}.jpg", quality=68, optimize=True, progressive=True)
    print(f"{name}.jpg: {tile.width} x {tile.height}")


def gallery(url: str, profile: Path) -> None:
    page = Browser(url, profile, (1500, 1010))
    page.wait(lambda: page.visible("#ir_gallery_grid img"), "the pictures")
    time.sleep(2)
    save(page, "gallery.png")


def miniature(folder: str, profile: Path) -> None:
    """The first test captions, one drawing each: untuned above, tuned below, from the same noises."""
    rows = []
    for artist in ("untuned", "tuned"):
        paths = sorted((Path(folder) / "drawings" / artist).glob("*_0.png"))[:32]
        rows.append([Image.open(path).convert("RGB") for path in paths])
    side, gap, across = 64, 4, 16
    sheet = Image.new("RGB", (across * (side + gap) + gap, 4 * (side + gap) + 4 * gap), "#d8d8d8")
    for n, pair in enumerate(zip(*rows, strict=True)):
        for below, picture in enumerate(pair):
            y = gap + (2 * (n // across) + below) * (side + gap) + 2 * gap * (n // across)
            sheet.paste(picture, (gap + n % across * (side + gap), y))
    sheet.quantize(256, dither=Image.Dither.NONE).save(IMAGES / "miniature.png", optimize=True)
    print(f"miniature.png: {sheet.width} x {sheet.height}")


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def bare(canvas: Canvas) -> None:
    """The graph alone, without ComfyUI's bars and panels."""
    canvas.js(
        "const style = document.createElement('style');"
        "style.textContent = '.side-tool-bar-container, .workflow-tabs-container, .actionbar, .minimap-main-container,"
        " .p-toast, .p-buttongroup, [class*=queue], [class*=actionbar], .graph-canvas-panel > div {display: none}';"
        "document.head.append(style);"
        "for (const one of document.querySelectorAll('div'))"
        " if (/^\\d+ jobs? completed$/.test(one.innerText?.trim())) one.style.display = 'none';"
        "window.app.canvas.show_info = false"
    )


def save(page: Browser, name: str, crop: tuple[int, int] | None = None) -> None:
    """In 256 colours, which keeps a page sharp and its file small. crop: width and height from the upper left corner."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / name
        page.screenshot(shot)
        picture = Image.open(shot).convert("RGB")
    if crop is not None:
        picture = picture.crop((0, 0, min(crop[0], picture.width), min(crop[1], picture.height)))
    picture.quantize(256, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    print(f"{name}: {picture.width} x {picture.height}, {(IMAGES / name).stat().st_size // 1000} KB")
    page.close()


PICTURES: dict[str, Callable[[str, Path], None]] = {
    "webui": webui,
    "comfyui": comfyui,
    "refl": refl,
    "templates": templates,
    "gallery": gallery,
    "miniature": miniature,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=PICTURES)
    parser.add_argument("url")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        PICTURES[asked.picture](asked.url, Path(profile))
