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

    def run(self, until: str, seconds: float = 120) -> None:
        """Queues the graph and waits until nodes of the type `until` show their pictures."""
        self.js("window.app.queuePrompt(0)")
        shown = "return window.app.graph._nodes.filter(n => n.type == arguments[0]).every(n => n.imgs?.length)"
        self.wait(lambda: self.js(shown, until), f"the pictures of {until}", seconds)
        time.sleep(2)

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
