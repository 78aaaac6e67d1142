"""The editor's `workflow` chunk of a ComfyUI picture, as the graph that it would become.

What the editor knows and the graph does not is resolved as ComfyUI does it when a workflow is queued: muted and bypassed nodes,
subgraphs, Reroute, Set and Get, primitives, and fields whose values carry no names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .comfyui_fields import is_negative, is_positive
from .comfyui_graph import UNNAMED, Graph, Link, Node

_MUTED, _BYPASSED = 2, 4
_SUBGRAPH_INPUT, _SUBGRAPH_OUTPUT = -10, -20
_MOST_INSIDE = 2_000  # nodes of all subgraphs together
_REROUTES = {"Reroute", "ReroutePrimitive|pysssss"}
_NOT_QUEUED = {"Note", "MarkdownNote", "PrimitiveNode", *_REROUTES}
_SEED_MODES = {"fixed", "increment", "decrement", "randomize"}
# Fields of nodes that were saved before the editor named them: those up to the last text.
_SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
_WILDCARDS = ("wildcard_text", "populated_text", "mode")
_EASY_LOADER = (
    *("ckpt_name", "vae_name", "clip_skip", "lora_name", "lora_model_strength", "lora_clip_strength", "resolution"),
    *("empty_latent_width", "empty_latent_height", "positive", "negative"),
)
_FIELDS: dict[str, tuple[str, ...]] = {
    "CLIPTextEncodeSDXL": (*_SIZES, "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl", "empty_padding"),
    "CLIPTextEncodeHiDream": ("clip_l", "clip_g", "t5xxl", "llama"),
    "CLIPTextEncodeHunyuanDiT": ("bert", "mt5xl"),
    "CLIPTextEncodeLumina2": ("system_prompt", "user_prompt"),
    "CLIPTextEncodePixArtAlpha": ("width", "height", "text"),
    "CLIPTextEncodeKandinsky5": ("clip_l", "qwen25_7b"),
    "ImpactWildcardProcessor": _WILDCARDS,
    "ImpactWildcardEncode": _WILDCARDS,
    "WildcardEncode //Inspire": ("token_normalization", "weight_interpretation", *_WILDCARDS),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "StringReplace": ("string", "find", "replace"),
    "JoinStringMulti": ("inputcount", "string_1", "string_2", "delimiter"),
    "Text Concatenate": ("delimiter", "clean_whitespace", "text_a", "text_b", "text_c", "text_d"),
    "CR Text Concatenate": ("text1", "text2", "separator"),
    "StringFunction|pysssss": ("action", "tidy_tags", "text_a", "text_b", "text_c"),
    "Efficient Loader": (
        *("ckpt_name", "vae_name", "clip_skip", "lora_name", "lora_model_strength", "lora_clip_strength"),
        *("positive", "negative"),
    ),
    "Eff. Loader SDXL": (
        *("base_ckpt_name", "base_clip_skip", "refiner_ckpt_name", "refiner_clip_skip", "positive_ascore"),
        *("negative_ascore", "vae_name", "positive", "negative"),
    ),
    "easy a1111Loader": _EASY_LOADER,
    "easy comfyLoader": _EASY_LOADER,
    "easy fullLoader": (
        *(
            "ckpt_name",
            "config_name",
            "vae_name",
            "clip_skip",
            "lora_name",
            "lora_model_strength",
            "lora_clip_strength",
        ),
        *("resolution", "empty_latent_width", "empty_latent_height", "positive", "positive_token_normalization"),
        *("positive_weight_interpretation", "negative"),
    ),
    "easy wildcards": ("text",),
    "easy stylesSelector": ("styles", "positive", "negative", "select_styles"),
    "easy promptReplace": ("prompt", "find1", "replace1", "find2", "replace2", "find3", "replace3"),
    "easy cascadeLoader": (
        *("stage_c", "stage_b", "stage_a", "clip_name", "lora_name", "lora_model_strength", "lora_clip_strength"),
        *("resolution", "empty_latent_width", "empty_latent_height", "compression", "positive", "negative"),
    ),
    "ImpactSwitch": ("select", "sel_mode"),
    "SDXLPromptStyler": ("text_positive", "text_negative", "style"),
}


_FIELDS_WHERE_FEW = {("Text Concatenate", 1): ("linebreak_addition",)}  # of older versions


@dataclass
class _Level:
    """The nodes of a workflow or subgraph, by what links call them, with the name that each has in the whole graph."""

    prefix: str
    nodes: dict[Any, dict[str, Any]]
    origins: dict[Any, tuple[Any, int]]  # link -> (node, its output)
    outer: tuple[_Level, dict[str, Any]] | None = None  # the level and the node that this one is the inside of
    subgraph: Mapping[str, Any] = field(default_factory=dict)
    inner: dict[Any, _Level] = field(default_factory=dict)
    setters: dict[str, dict[str, Any]] = field(default_factory=dict)
    everywhere: dict[tuple[str, int], tuple[Any, int]] = field(default_factory=dict)


def graph_of_workflow(workflow: Mapping[str, Any]) -> Graph:
    """The graph of a `workflow` chunk; an empty one if it is none. Links that lead nowhere are left out."""
    if not isinstance(workflow.get("nodes"), list):
        return {}
    levels = list(_levels(workflow))
    graph: Graph = {}
    for level in levels:
        for key, row in level.nodes.items():
            kind = row["type"]
            if row.get("mode") in (_MUTED, _BYPASSED) or key in level.inner or kind in _NOT_QUEUED:
                continue
            if not (_is_setter(kind) or _is_getter(kind)):
                node = _node(level, key, row)
                graph[node.name] = node
    return graph


def _levels(workflow: Mapping[str, Any]) -> Iterator[_Level]:
    definitions = workflow.get("definitions")
    rows = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {row["id"]: row for row in _dicts(rows) if isinstance(row.get("id"), str)}
    waiting: list[tuple[_Level, frozenset[str]]] = [(_level(workflow, "", None), frozenset())]
    room = _MOST_INSIDE
    for level, within in waiting:  # which grows meanwhile
        for key, row in level.nodes.items():
            subgraph = subgraphs.get(row["type"])
            # One that holds itself would never end.
            if subgraph is None or row["type"] in within or row.get("mode") in (_MUTED, _BYPASSED):
                continue
            room -= len(list(_dicts(subgraph.get("nodes"))))
            if room >= 0:
                level.inner[key] = _level(subgraph, f"{level.prefix}{key}:", (level, row))
                waiting.append((level.inner[key], within | {row["type"]}))
        yield level


def _level(data: Mapping[str, Any], prefix: str, outer: tuple[_Level, dict[str, Any]] | None) -> _Level:
    nodes = {}
    for row in _dicts(data.get("nodes")):
        if isinstance(row.get("id"), (int, str)) and isinstance(row.get("type"), str):
            nodes[row["id"]] = row
    level = _Level(prefix, nodes, dict(_origins(data.get("links"))), outer, data)
    for row in nodes.values():
        if _is_setter(row["type"]):
            level.setters.setdefault(_first_text(row), row)
    extra = data.get("extra")
    for link in _dicts(extra.get("ue_links") if isinstance(extra, dict) else None):  # "Anything Everywhere"
        end = (str(link.get("downstream")), link.get("downstream_slot"))
        start = _key_in(nodes, link.get("upstream"))
        if isinstance(end[1], int) and isinstance(link.get("upstream_slot"), int) and start is not None:
            level.everywhere[end[0], end[1]] = (start, link["upstream_slot"])
    if not isinstance(extra, dict) or "ue_links" not in extra:
        level.everywhere |= _prompts_everywhere(level)
    return level


def _prompts_everywhere(level: _Level) -> dict[tuple[str, int], tuple[Any, int]]:
    """What "Prompts Everywhere" sends, where the editor did not write it down: to open inputs called positive and negative."""
    found: dict[tuple[str, int], tuple[Any, int]] = {}
    senders = [row for row in level.nodes.values() if row["type"] == "Prompts Everywhere"]
    for sender in senders[:1]:
        sent = [_input(level, sender, 0), _input(level, sender, 1)]
        for key, row in level.nodes.items():
            for number, slot in enumerate(_dicts(row.get("inputs"))):
                name = str(slot.get("name"))
                start = sent[0] if is_positive(name) else sent[1] if is_negative(name) else None
                if start is not None and slot.get("link") is None:
                    found[str(key), number] = start
    return found


def _origins(links: Any) -> Iterator[tuple[Any, tuple[Any, int]]]:
    """link -> (node, output), of either form that links are written in."""
    for link in links if isinstance(links, list) else []:
        if isinstance(link, list) and len(link) >= 5:
            name, source, slot = link[:3]
        elif isinstance(link, dict):
            name, source, slot = link.get("id"), link.get("origin_id"), link.get("origin_slot")
        else:
            continue
        if isinstance(name, (int, str)) and isinstance(source, (int, str)) and type(slot) is int:
            yield name, (source, slot)


# -- one node ------------------------------------------------------------------------------------------------------------


def _node(level: _Level, key: Any, row: dict[str, Any]) -> Node:
    values = _values(row)
    links: dict[str, Link] = {}
    for number, slot in enumerate(_dicts(row.get("inputs"))):
        name = str(slot.get("name") or slot.get("type") or number)
        found = _source(level, level.origins.get(_hashable(slot.get("link"))))
        if found is None and slot.get("link") is None:
            found = _source(level, level.everywhere.get((str(key), number)))
        if isinstance(found, _Value):
            values[name] = found.value
        elif found is not None:
            links[name] = found
            values.pop(name, None)
    outputs = tuple((str(out.get("name") or ""), str(out.get("type") or "")) for out in _dicts(row.get("outputs")))
    return Node(f"{level.prefix}{key}", row["type"], values, links, outputs, _shown(row))


@dataclass(frozen=True)
class _Value:
    """What a primitive, or a field on the outside of a subgraph, holds."""

    value: Any


def _source(level: _Level, start: tuple[Any, int] | None) -> Link | _Value | None:
    """Where a link really begins: behind reroutes, Get, bypassed nodes, and the walls of subgraphs. None: nowhere."""
    at, seen = start, set()
    while at is not None:
        key, slot = at
        if (id(level), key, slot) in seen:
            return None
        seen.add((id(level), key, slot))
        if key == _SUBGRAPH_INPUT:
            found = _outside(level, slot)
            if isinstance(found, _Value) or found is None:
                return found
            level, at = found
            continue
        row = level.nodes.get(key)
        if row is None or row.get("mode") == _MUTED:
            return None
        if key in level.inner:
            level = level.inner[key]
            at = _inside(level, slot)
        elif row["type"] in _REROUTES:
            at = _input(level, row, 0)
        elif _is_getter(row["type"]):
            level, at = _set(level, _first_text(row))
        elif row.get("mode") == _BYPASSED:
            at = _through(level, row, slot)
        elif row["type"] == "PrimitiveNode":
            held = row.get("widgets_values")
            return _Value(held[0]) if isinstance(held, list) and held else None
        elif _is_setter(row["type"]):
            at = _input(level, row, 0)
        else:
            return f"{level.prefix}{key}", slot
    return None


def _input(level: _Level, row: dict[str, Any], number: int) -> tuple[Any, int] | None:
    slots = list(_dicts(row.get("inputs")))
    return level.origins.get(_hashable(slots[number].get("link"))) if number < len(slots) else None


def _through(level: _Level, row: dict[str, Any], slot: int) -> tuple[Any, int] | None:
    """What a bypassed node passes on: its input of the same number if the type is the same, else the first of the type."""
    outputs, inputs = list(_dicts(row.get("outputs"))), list(_dicts(row.get("inputs")))
    kind = outputs[slot].get("type") if 0 <= slot < len(outputs) else None
    for number in (slot, *range(len(inputs))):
        if 0 <= number < len(inputs) and kind is not None and inputs[number].get("type") in (kind, "*"):
            return _input(level, row, number)
    return None


def _outside(level: _Level, slot: int) -> tuple[_Level, tuple[Any, int]] | _Value | None:
    """What comes into a subgraph through its input of this number."""
    if level.outer is None:
        return None
    outer, row = level.outer
    names = [str(one.get("name")) for one in _dicts(level.subgraph.get("inputs"))]
    name = names[slot] if 0 <= slot < len(names) else None
    slots = list(_dicts(row.get("inputs")))
    found = next((one for one in slots if one.get("name") == name), slots[slot] if 0 <= slot < len(slots) else None)
    start = outer.origins.get(_hashable(found.get("link"))) if found is not None else None
    if start is not None:
        return outer, start
    values = _values(row)
    return _Value(values[name]) if name in values else None


def _inside(level: _Level, slot: int) -> tuple[Any, int] | None:
    """What a subgraph gives out of its output of this number."""
    links = level.subgraph.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, list) and len(link) >= 5:
            target, number, name = link[3], link[4], link[0]
        elif isinstance(link, dict):
            target, number, name = link.get("target_id"), link.get("target_slot"), link.get("id")
        else:
            continue
        if target == _SUBGRAPH_OUTPUT and number == slot:
            return level.origins.get(_hashable(name))
    return None


def _set(level: _Level, name: str) -> tuple[_Level, tuple[Any, int] | None]:
    """What a Set node of this name was given, here or outside."""
    at: _Level | None = level
    while at is not None:
        if name in at.setters:
            return at, _input(at, at.setters[name], 0)
        at = at.outer[0] if at.outer else None
    return level, None


# -- fields --------------------------------------------------------------------------------------------------------------


def _values(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a node by name, as far as the workflow or its kind tells the names; other texts are numbered."""
    held = row.get("widgets_values")
    if isinstance(held, dict):
        return {str(key): value for key, value in held.items()}
    if not isinstance(held, list):
        return {}
    promoted = _promoted(row)
    if promoted and len(promoted) == len(held):
        return {name: value for name, value in zip(promoted, held, strict=True) if name and value is not None}
    slots = [slot for slot in _dicts(row.get("inputs")) if isinstance(slot.get("widget"), dict)]
    names = [str(slot["widget"].get("name") or slot.get("name")) for slot in slots]
    listed = _FIELDS_WHERE_FEW.get((row["type"], len(held))) or _FIELDS.get(row["type"], ())
    rest = _without_seed_modes(held)
    if len(names) == len(rest) and not (listed and len(names) < len(listed)):
        return dict(zip(names, rest, strict=True))
    if listed and len(held) >= min(2, len(listed)):
        return dict(zip(listed, held, strict=False))
    return _guessed(row["type"], held)


def _promoted(row: dict[str, Any]) -> list[str]:
    """The names of the fields on the outside of a subgraph; "" for those whose values a node inside holds."""
    properties = row.get("properties")
    rows = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    pairs = [pair for pair in rows if isinstance(pair, list) and len(pair) == 2] if isinstance(rows, list) else []
    return [str(name) if str(node) == "-1" else "" for node, name in pairs]


def _without_seed_modes(held: list[Any]) -> list[Any]:
    """The values without "randomize" and the like, which follow a seed and are no fields."""
    return [
        value
        for number, value in enumerate(held)
        if not (
            number and isinstance(value, str) and value in _SEED_MODES and isinstance(held[number - 1], (int, float))
        )
    ]


def _guessed(kind: str, held: list[Any]) -> dict[str, Any]:
    texts = [value for value in held if isinstance(value, str)]
    if not texts:
        return {
            f"{number}{UNNAMED}": value for number, value in enumerate(held) if isinstance(value, (int, float, dict))
        }
    if "Lora" in kind:
        return {"lora_name": texts[0]}
    if any(word in kind for word in ("Checkpoint", "UNET", "Unet")):
        return {"ckpt_name": texts[0]}
    if any(word in kind for word in ("Text", "String", "Primitive", "Prompt")) and len(held) == 1:
        return {"text": texts[0]}
    numbers = {f"{number}{UNNAMED}": value for number, value in enumerate(held) if isinstance(value, (int, float))}
    first = {"text": texts[0]} if "TextEncode" in kind else {}
    return (
        numbers
        | first
        | {f"{number}{UNNAMED}": text for number, text in enumerate(texts) if not (first and number == 0)}
    )


def _shown(row: dict[str, Any]) -> str:
    """The text that a node without named fields shows: `widgets_values` is [["a text"]] or ["", "a text"]."""
    held = row.get("widgets_values")
    flat = (
        [one for value in held for one in (value if isinstance(value, list) else [value])]
        if isinstance(held, list)
        else []
    )
    kind = row["type"].lower()
    if not any(word in kind for word in ("show", "display", "preview", "view", "debug")):
        return ""
    return max((one for one in flat if isinstance(one, str)), key=len, default="")


def _is_setter(kind: str) -> bool:
    return kind.lower().replace(" ", "").endswith("setnode")


def _is_getter(kind: str) -> bool:
    return kind.lower().replace(" ", "").endswith("getnode")


def _first_text(row: dict[str, Any]) -> str:
    held = row.get("widgets_values")
    values: Iterable[Any] = held if isinstance(held, list) else held.values() if isinstance(held, dict) else ()
    return next((value for value in values if isinstance(value, str)), "")


def _dicts(rows: Any) -> Iterator[dict[str, Any]]:
    return (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else iter(())


def _key_in(nodes: Mapping[Any, Any], name: Any) -> Any:
    """The key of a node that a link names as text or as number."""
    return next((key for key in nodes if str(key) == str(name)), None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else None
