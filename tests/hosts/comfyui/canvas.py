"""ComfyUI's page: a workflow on its canvas, run as a person runs it."""

from __future__ import annotations

import json
import time
from typing import Any

from hosts.browser import Browser

MARGIN, TITLE_BAR = 24, 40  # around the graph, and of its uppermost nodes; in units of the graph


class Canvas(Browser):
    def open(self) -> None:
        super().open()
        ours = "return !!(window.app?.graph && window.LiteGraph?.registered_node_types['SDImageRewardScore'])"
        self.wait(lambda: self.js(ours), "the page to know the nodes", 120)
        time.sleep(2)
        self.escape()

    def escape(self) -> None:
        """Closes the dialog that ComfyUI may open at its start."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        ActionChains(self.driver).send_keys(Keys.ESCAPE).perform()

    def load(self, workflow: dict[str, Any]) -> None:
        self.js("window.app.loadGraphData(JSON.parse(arguments[0]))", json.dumps(workflow))
        wanted = len(workflow["nodes"])
        self.wait(lambda: self.js("return window.app.graph._nodes.length") == wanted, "the workflow")
        time.sleep(1)

    def set(self, node_type: str, **widgets: Any) -> None:
        """Values of the widgets of every node of that type, by their names."""
        self.js(
            "for (const node of window.app.graph._nodes.filter(n => n.type == arguments[0]))"
            " for (const widget of node.widgets ?? [])"
            " if (widget.name in arguments[1]) widget.value = arguments[1][widget.name]",
            node_type,
            widgets,
        )

    def run(self, seconds: float = 200) -> None:
        """Queues the graph and waits until every node has run and shows what it has to show."""
        self.js(
            "const ended = event => { window.ended = event.type };"
            "for (const type of ['execution_success', 'execution_error', 'execution_interrupted'])"
            " window.app.api.addEventListener(type, ended, {once: true});"
            "window.ended = null; window.app.queuePrompt(0)"
        )
        ended = self.wait(lambda: self.js("return window.ended"), "the end of the run", seconds)
        assert ended == "execution_success", ended
        time.sleep(2)

    def boxes(self) -> dict[str, dict[str, Any]]:
        """Where each node is drawn, its title included: left, top, right, bottom, in units of the graph; by its id.

        In Nodes 2.0 nodes are elements of the page, which grow with their contents.
        """
        found: dict[str, dict[str, Any]] = self.js(
            "const {scale, offset} = window.app.canvas.ds, title = window.LiteGraph.NODE_TITLE_HEIGHT;"
            "const origin = window.app.canvas.canvas.getBoundingClientRect();"
            "return Object.fromEntries(window.app.graph._nodes.map(node => {"
            " const [x, y] = node.pos, [width, height] = node.size, box = {type: node.type, title: node.title};"
            " const drawn = document.querySelector(`[data-node-id='${node.id}']`)?.getBoundingClientRect();"
            " const across = p => (p - origin.left) / scale - offset[0], down = p => (p - origin.top) / scale - offset[1];"
            " const edges = drawn"
            "  ? [across(drawn.left), down(drawn.top), across(drawn.right), down(drawn.bottom)]"
            "  : [x, y - title, x + width, y + height];"
            " return [node.id, {...box, edges}]; }))"
        )
        return found

    def previews(self) -> dict[str, list[dict[str, Any]]]:
        """Pictures that nodes show, by the node's id: height in units of the graph, source, whether something covers it."""
        found: dict[str, list[dict[str, Any]]] = self.js(
            "const {scale} = window.app.canvas.ds, shown = {};"
            "for (const node of window.app.graph._nodes) {"
            " const element = document.querySelector(`[data-node-id='${node.id}']`);"
            " if (element) shown[node.id] = [...element.querySelectorAll('img')].map(picture => {"
            "  const {left, top, width, height} = picture.getBoundingClientRect();"
            "  const front = document.elementFromPoint(left + width / 2, top + height / 2);"
            "  return {height: height / scale, source: picture.src, covered: !element.contains(front)}; });"
            " else if (node.imgs?.length) {"
            "  const end = Math.max(0, ...(node.widgets ?? []).filter(w => w.name != '$$canvas-image-preview' && !w.hidden)"
            "   .map(w => (w.y ?? 0) + (w.computedHeight ?? 20)));"
            "  shown[node.id] = node.imgs.map(picture =>"
            "   ({height: node.size[1] - end, source: picture.src, covered: !picture.naturalWidth})); } }"
            "return shown"
        )
        return {node: pictures for node, pictures in found.items() if pictures}

    def show_all(self) -> None:
        """Shows the whole graph, clear of the page's bars."""
        self.js(
            "const all = window.app.graph._nodes, view = window.app.canvas;"
            "const least = axis => Math.min(...all.map(n => n.pos[axis]));"
            "const most = axis => Math.max(...all.map(n => n.pos[axis] + n.size[axis]));"
            "const wide = most(0) - least(0), high = most(1) - least(1);"
            "const {width, height} = view.canvas.getBoundingClientRect();"
            "const scale = Math.min(1, (width - 140) / wide, (height - 340) / high);"
            "view.ds.scale = scale; view.ds.offset = [80 / scale - least(0), 130 / scale - least(1)];"
            "view.setDirty(true, true)"
        )
        time.sleep(1.5)

    def fit(self, scale: float) -> tuple[int, int]:
        """Shows the graph from its upper left corner; returns how many pixels wide and high it is."""
        size = self.js(
            "const [scale, margin, title] = arguments, nodes = window.app.graph._nodes;"
            "const least = axis => Math.min(...nodes.map(n => n.pos[axis]));"
            "const most = axis => Math.max(...nodes.map(n => n.pos[axis] + n.size[axis]));"
            "const view = window.app.canvas;"
            "view.ds.scale = scale; view.ds.offset = [margin - least(0), margin + title - least(1)];"
            "view.setDirty(true, true);"
            "return [0, 1].map(axis => scale * (most(axis) - least(axis) + 2 * margin + axis * title))",
            scale,
            MARGIN,
            TITLE_BAR,
        )
        time.sleep(1.5)
        return int(size[0]), int(size[1])
