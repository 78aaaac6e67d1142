"""A ComfyUI graph: nodes, what they hold, and what they are given by other nodes.

The `prompt` chunk of a picture is such a graph: `{"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], ..}}, ..}`.
The editor's `workflow` chunk is brought into the same form by `comfyui_workflow`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name", "gguf_name", "model")
UNNAMED = "th widget"  # ends the name of a field that the editor wrote down without its name
Link = tuple[str, int]  # (node, which of its outputs)


@dataclass(frozen=True)
class Node:
    """A node by its kind, the values in its fields, and the links into its inputs."""

    name: str
    kind: str
    values: Mapping[str, Any]
    links: Mapping[str, Link]
    outputs: tuple[tuple[str, str], ...] = ()  # (name, type) of each, where the editor's workflow tells them
    shown: str = ""  # a text that the editor showed in it while the graph ran

    def __str__(self) -> str:
        return f"node {self.name} ({self.kind})"

    def output_type(self, slot: int) -> str:
        return self.outputs[slot][1] if 0 <= slot < len(self.outputs) else ""

    def output_name(self, slot: int) -> str:
        return self.outputs[slot][0] if 0 <= slot < len(self.outputs) else ""


Graph = dict[str, Node]


def graph_of(data: Mapping[str, Any]) -> Graph:
    """The graph that the JSON object of a `prompt` chunk holds; an empty one if it is none. What is no node is left out."""
    graph: Graph = {}
    for name, node in data.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            continue
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            continue
        links = {key: link for key, value in inputs.items() if (link := link_of(value)) is not None}
        values = {key: _plain(value) for key, value in inputs.items() if key not in links}
        graph[str(name)] = Node(str(name), node["class_type"], values, links)
    return graph


def link_of(value: Any) -> Link | None:
    """The link that the value of an input is, None where it is a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and type(value[1]) is int:
        return str(value[0]), value[1]
    return None


def _plain(value: Any) -> Any:
    """{"__value__": [..]}, which ComfyUI writes for a list that could be taken for a link, is the list."""
    return value["__value__"] if isinstance(value, dict) and set(value) == {"__value__"} else value


def with_editor(graph: Graph, editor: Graph) -> Graph:
    """The graph with what only the editor's workflow knows of its nodes: names and types of outputs, texts shown."""
    return {
        name: replace(node, outputs=editor[name].outputs, shown=editor[name].shown)
        if name in editor and editor[name].kind == node.kind
        else node
        for name, node in graph.items()
    }


def upstream(
    graph: Graph, ends: Iterable[str], follow: Callable[[Node], Iterable[Link]] | None = None
) -> Iterator[str]:
    """The ends and all nodes before them, nearest first. follow: the links to go along (default: all)."""
    queue, seen = deque(ends), set()
    while queue:
        name = queue.popleft()
        if name in seen or name not in graph:
            continue
        seen.add(name)
        yield name
        node = graph[name]
        queue.extend(source for source, _ in (node.links.values() if follow is None else follow(node)))


def consumers(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    """For each node the (node, input) pairs that are given one of its outputs."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, node in graph.items():
        for key, (source, _) in node.links.items():
            found.setdefault(source, []).append((name, key))
    return found


def model_of(graph: Graph, names: Iterable[str]) -> str:
    """The first checkpoint that the nodes name: one of a loader's own, else one of a looser name."""
    nodes = [graph[name] for name in names]
    for keys in (_MODEL_INPUTS[:2], _MODEL_INPUTS[2:]):
        for node in nodes:
            for key in keys:
                value = node.values.get(key)
                if isinstance(value, str) and value and (key != "model" or "." in value):
                    return value
    return ""


def loras_of(nodes: Iterable[Node]) -> Iterator[str]:
    """The LoRAs that the nodes load, as their fields name them."""
    for node in nodes:
        for key, value in node.values.items():
            if isinstance(value, str) and key.startswith("lora_name") and value not in ("None", ""):
                yield value
            elif isinstance(value, dict) and value.get("on", True) and isinstance(value.get("lora"), str):
                yield value["lora"]  # rgthree's Power Lora Loader
