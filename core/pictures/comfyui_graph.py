"""The prompt of a ComfyUI picture: found by walking its graph from the saved image back to the text.

The graph is the `prompt` chunk, `{"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], ..}}, ..}`, or, where only
that is there, the editor's `workflow` chunk. Nodes are known by the names of their inputs, not by their own, so that custom
samplers and encoders are read, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Inputs that hold text, the main one first: CLIPTextEncode, SDXL's and Flux' encoders, string nodes, and common packs.
_TEXT_INPUTS = (
    *(
        "text",
        "text_g",
        "text_l",
        "t5xxl",
        "clip_l",
        "clip_g",
        "prompt",
        "positive_prompt",
        "string",
        "value",
        "wildcard_text",
    ),
    *("populated_text", "text_positive", "positive_text", "text1", "text2", "text_a", "text_b", "text_c", "text_d"),
    *("string_a", "string_b", "string1", "string2", "prefix", "suffix", "opt_prefix", "opt_suffix", "input_text"),
)
_JOINING = ("text1", "text2", "text_a", "text_b", "text_c", "text_d", "string_a", "string_b", "string1", "string2")
_JOINING_OUTER = ("prefix", "suffix", "opt_prefix", "opt_suffix")
# Links that lead away from the picture's own description.
_ASIDE = frozenset({"negative", "clip", "vae", "model", "control_net", "clip_vision", "style_model", "image", "mask"})
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name", "gguf_name")
_SAVERS = ("SaveImage", "PreviewImage", "Save")

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Found:
    prompt: str
    negative: str
    model: str
    loras: tuple[str, ...]


def read_graph(graph: dict[str, Any]) -> Found | None:
    """What the `prompt` chunk says; None if it is no graph."""
    nodes = {
        str(name): node
        for name, node in graph.items()
        if isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
    }
    if not nodes:
        return None
    used = list(_upstream(nodes, _ends(nodes)))
    prompt, negative = _described(nodes, used)
    model = next((str(text) for name in used for text in _values(nodes[name], _MODEL_INPUTS)), "")
    return Found(prompt, negative, model, tuple(_loras(nodes[name] for name in used)))


def read_workflow(workflow: dict[str, Any]) -> Found | None:
    """What the `workflow` chunk says, read as the graph that it would become; None if it is none."""
    rows = workflow.get("nodes")
    if not isinstance(rows, list):
        return None
    origin = {
        link[0]: [str(link[1]), link[2]]
        for link in workflow.get("links") or []
        if isinstance(link, list) and len(link) >= 5
    }
    graph: dict[str, Any] = {}
    for node in rows:
        if not isinstance(node, dict) or node.get("mode") in (2, 4):  # muted, bypassed
            continue
        inputs = _widget_texts(node)
        for slot in node.get("inputs") or []:
            if isinstance(slot, dict) and slot.get("link") in origin:
                inputs[str(slot.get("name"))] = origin[slot["link"]]
        graph[str(node.get("id"))] = {"class_type": str(node.get("type")), "inputs": inputs}
    return read_graph(graph)


def _widget_texts(node: dict[str, Any]) -> dict[str, Any]:
    """Widget values carry no names here: the first text is the prompt of an encoder or the file of a loader."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return {str(key): value for key, value in values.items() if isinstance(value, str)}
    texts = [value for value in values or [] if isinstance(value, str)] if isinstance(values, list) else []
    kind = str(node.get("type"))
    if not texts:
        return {}
    if "Lora" in kind:
        return {"lora_name": texts[0]}
    if "Checkpoint" in kind or "UNET" in kind or "Unet" in kind:
        return {"ckpt_name": texts[0]}
    if "Text" in kind or "String" in kind or "Primitive" in kind or "Prompt" in kind:
        return {"text": texts[0]}
    return {}


def _ends(nodes: Graph) -> list[str]:
    """The nodes that save or show pictures; all nodes where none is known."""
    saving = [name for name, node in nodes.items() if node["class_type"].startswith(_SAVERS)]
    saving.sort(key=lambda name: not nodes[name]["class_type"].startswith("SaveImage"))
    return saving or list(nodes)


def _upstream(nodes: Graph, ends: Iterable[str]) -> Iterator[str]:
    """The ends and everything before them, nearest first."""
    queue, seen = deque(ends), set()
    while queue:
        name = queue.popleft()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield name
        queue.extend(link for _, link in _links(nodes[name]))


def _links(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(input, node it comes from)."""
    for key, value in node["inputs"].items():
        if (
            isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], (str, int))
            and isinstance(value[1], int)
        ):
            yield key, str(value[0])


def _described(nodes: Graph, used: list[str]) -> tuple[str, str]:
    """(prompt, negative prompt) of the sampler nearest to the saved picture that has any; else of a lone text encoder."""
    sampled = False
    for name in used:
        links = dict(_links(nodes[name]))
        positive = links.get("positive") or (links.get("conditioning") if "model" in links else None)
        if positive is None and "guider" not in links:
            continue
        sampled = True
        prompt = _conditioning(nodes, positive, set()) if positive else ""
        if prompt:
            return prompt, _conditioning(nodes, links["negative"], set()) if "negative" in links else ""
    if sampled:
        return "", ""
    encoders = [name for name in used if "TextEncode" in nodes[name]["class_type"]]
    return (_texts(nodes, encoders[0], set()) if len(encoders) == 1 else ""), ""


def _conditioning(nodes: Graph, name: str, seen: set[str]) -> str:
    """The text of a conditioning: that of its encoder, or of all that are combined in it."""
    if name not in nodes or name in seen:
        return ""
    own = _texts(nodes, name, seen)
    if own:
        return own
    wanted = [(key, link) for key, link in _links(nodes[name]) if key not in _ASIDE]
    # ControlNet and its like pass positive and negative through: go on with what they were given as positive.
    before = [link for key, link in wanted if key == "positive"] or [link for _, link in wanted]
    return ", ".join(dict.fromkeys(text for link in before if (text := _conditioning(nodes, link, seen))))


def _texts(nodes: Graph, name: str, seen: set[str]) -> str:
    """The text that a node holds or is given by other nodes; encoders with several fields mostly repeat themselves."""
    if name not in nodes or name in seen:
        return ""
    seen.add(name)  # each node speaks once: graphs that share nodes stay cheap, and loops end
    inputs = nodes[name]["inputs"]
    found = {key: text for key in _TEXT_INPUTS if (text := _text(nodes, inputs.get(key), seen))}
    joined = [found[key] for key in _JOINING if key in found]
    if joined:
        delimiter = inputs.get("delimiter", inputs.get("separator", ", "))
        return (delimiter if isinstance(delimiter, str) and delimiter.strip() else ", ").join(joined)
    outer = [found.pop(key) for key in _JOINING_OUTER if key in found]
    main = max(found.values(), key=len, default="") if len(set(found.values())) > 1 else next(iter(found.values()), "")
    return ", ".join(text for text in (*outer[:1], main, *outer[1:]) if text) if outer else main


def _text(nodes: Graph, value: Any, seen: set[str]) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and len(value) == 2:
        return _texts(nodes, str(value[0]), seen)
    return ""


def _values(node: dict[str, Any], keys: Iterable[str]) -> Iterator[str]:
    return (node["inputs"][key] for key in keys if isinstance(node["inputs"].get(key), str))


def _loras(nodes: Iterable[dict[str, Any]]) -> Iterator[str]:
    for node in nodes:
        for key, value in node["inputs"].items():
            if isinstance(value, str) and key.startswith("lora_name") and value != "None":
                yield value
            elif isinstance(value, dict) and value.get("on", True) and isinstance(value.get("lora"), str):
                yield value["lora"]  # rgthree's Power Lora Loader
