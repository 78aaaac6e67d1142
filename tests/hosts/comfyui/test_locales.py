"""The page speaks the languages that we have texts for (the setting Comfy.Locale)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hosts.comfyui.canvas import Canvas
from hosts.comfyui.server import Server

REPOSITORY = Path(__file__).resolve().parents[3]
LANGUAGES = sorted(one.name for one in (REPOSITORY / "locales").iterdir() if one.is_dir())
NODE = """
    const node = LiteGraph.createNode(arguments[0]);
    window.app.graph.add(node);
    return {
        display_name: node.title,
        inputs: Object.fromEntries([
            ...(node.inputs ?? []).map(slot => [slot.name, slot.label ?? slot.localized_name ?? slot.name]),
            ...(node.widgets ?? []).map(widget => [widget.name, widget.label ?? widget.name]),
        ]),
        outputs: (node.outputs ?? []).map(slot => slot.label ?? slot.localized_name ?? slot.name),
    };
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_our_texts(language: str, server: Server, tmp_path: Path) -> None:
    user = server.base / "user" / "default"
    user.mkdir(parents=True, exist_ok=True)
    settings = {"Comfy.TutorialCompleted": True, "Comfy.Locale": language}
    (user / "comfy.settings.json").write_text(json.dumps(settings), encoding="utf-8")
    texts = json.loads((REPOSITORY / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    canvas = Canvas(f"http://127.0.0.1:{server.port}/", tmp_path / "chromium", (1600, 900))
    try:
        canvas.js("window.app.graph.clear()")
        for node, wanted in texts.items():
            shown = canvas.js(NODE, node)
            assert shown["display_name"] == wanted["display_name"]
            sockets = names(wanted["inputs"])
            for name in growing(sockets, shown["inputs"]):
                del sockets[name]
            assert {**shown["inputs"], **sockets} == shown["inputs"]
            assert shown["outputs"] == list(names(wanted.get("outputs", {})).values())
        hover_over_prompt(canvas, texts["SDImageRewardScore"]["inputs"]["plain_prompt"]["tooltip"])
    finally:
        folder = os.environ.get("IMAGEREWARD_SCREENSHOTS")
        if folder:
            canvas.screenshot(Path(folder) / f"comfyui_locale_{language}.png")
        canvas.close()


def names(sockets: dict[str, dict[str, str]]) -> dict[str, str]:
    return {key: socket["name"] for key, socket in sockets.items()}


def growing(sockets: dict[str, str], shown: dict[str, str]) -> list[str]:
    """Inputs that stand for a row of sockets, `models` for `models.model0`, `models.model1`: the page shows only the row."""
    return [name for name in sockets if name not in shown and any(one.startswith(f"{name}.") for one in shown)]


def hover_over_prompt(canvas: Canvas, tooltip: str) -> None:
    """The pointer on the widget `plain_prompt` of Score alone: the page shows its tooltip."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas.js(
        "window.app.graph.clear(); const node = LiteGraph.createNode('SDImageRewardScore'); window.app.graph.add(node);"
        "node.pos = [500, 200]; window.app.canvas.ds.scale = 1; window.app.canvas.ds.offset = [0, 0];"
        "window.app.canvas.setDirty(true, true)"
    )
    place = canvas.wait(
        lambda: canvas.js(
            "const node = window.app.graph._nodes[0], widget = node.widgets.find(w => w.name == 'plain_prompt');"
            "const corner = window.app.canvas.canvas.getBoundingClientRect();"
            "return widget.last_y && [corner.x + node.pos[0] + 60, corner.y + node.pos[1] + widget.last_y + 10]"
        ),
        "the widget to be drawn",
    )
    actions = ActionChains(canvas.driver)
    actions.w3c_actions.pointer_action.move_to_location(int(place[0]), int(place[1]))
    actions.w3c_actions.pointer_action.move_to_location(int(place[0]) + 2, int(place[1]))
    actions.perform()
    canvas.wait(lambda: canvas.text(".node-tooltip") == tooltip, f"the tooltip {tooltip!r}", 10)
