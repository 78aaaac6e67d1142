"""Which of its inputs a switch of a ComfyUI graph delivers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from .comfyui_graph import Graph, Node

_SWITCH = re.compile(
    r"switch|select|choose|chooser|branch|if ?else|\bif\b|mux|toggle|\bindex\b|indexswitch", re.IGNORECASE
)
_TRUE, _FALSE = (
    re.compile(rf"(?:^|_|\b)(?:{words})(?:$|_|\b)", re.IGNORECASE) for words in ("true|tt|yes", "false|ff|no|else")
)
_SELECTOR = re.compile(
    r"select|index|^input$|switch|choice|which|number|bool|cond|toggle|enable|^value$|^int$|^num", re.IGNORECASE
)
_NUMBER_FIELD = re.compile(r"value|int|num|bool|index|select|switch|toggle|enable|^a$", re.IGNORECASE)
_MOST_STEPS = 100  # to a number that another node holds


def is_switch(node: Node) -> bool:
    if _named_switch(node.kind):
        return True
    keys = [*node.links, *node.values]
    return any(map(_is_true, keys)) and any(map(_is_false, keys))


@lru_cache(4096)
def _named_switch(kind: str) -> bool:
    return _SWITCH.search(kind) is not None and "style" not in kind.lower()


@lru_cache(4096)
def _is_true(key: str) -> bool:
    return _TRUE.search(key) is not None


@lru_cache(4096)
def _is_false(key: str) -> bool:
    return _FALSE.search(key) is not None


def delivered(graph: Graph, node: Node) -> tuple[list[str], bool]:
    """(the inputs that a switch may deliver, in the order in which it tries them; whether the choice is known)."""
    either = _true_or_false(node)
    if either:
        chosen = _selector(graph, node, set(either))
        if chosen is None:
            return list(either), False
        return [either[0 if _truth(chosen) else 1]], True
    members = _members(node)
    if not members:
        return list(node.links), len(node.links) < 2
    chosen = _selector(graph, node, set(members))
    if chosen is None:  # "Any Switch": the first that is there. A selector that another node holds is not known.
        given = any(_SELECTOR.search(key) for key in node.links if key not in members)
        return members, not given or len(members) < 2
    found = _member(members, chosen)
    return ([found], True) if found is not None else (members, len(members) < 2)


@lru_cache(4096)
def stem_and_number(key: str) -> tuple[str, str]:
    """ "text_b" -> ("text", "b"), "input2" -> ("input", "2"), "text" -> ("text", "")."""
    found = re.fullmatch(r"(.*?)[ _\-.]*(\d+)", key) or re.fullmatch(r"(.*?)(?:[ _\-.]|^)([a-zA-Z])", key)
    found = found or re.fullmatch(r"(.*[a-z])([A-Z])", key)
    return (found[1].lower(), found[2].lower()) if found else (key.lower(), "")


def families(keys: Iterable[str]) -> dict[str, list[str]]:
    """The keys that differ in a number or letter at their end alone, each family in its order."""
    found: dict[str, list[str]] = {}
    for key in keys:
        stem, number = stem_and_number(key)
        if number:
            found.setdefault(stem, []).append(key)
    for members in found.values():
        members.sort(key=lambda key: (len(stem_and_number(key)[1]), stem_and_number(key)[1]))
    return found


def _true_or_false(node: Node) -> tuple[str, str] | None:
    keys = [*node.links, *(key for key, value in node.values.items() if isinstance(value, str))]
    true = next((key for key in keys if _is_true(key)), None)
    false = next((key for key in keys if _is_false(key)), None)
    return (true, false) if true is not None and false is not None else None


def _members(node: Node) -> list[str]:
    """The family of inputs that a switch chooses from: links, or fields with text where no link is one."""
    for keys in (list(node.links), [key for key, value in node.values.items() if isinstance(value, str)]):
        found = max(families(keys).values(), key=len, default=[])
        if found:
            stem = stem_and_number(found[0])[0]
            return families([*node.links, *(k for k, v in node.values.items() if isinstance(v, str))])[stem]
    return []


def _selector(graph: Graph, node: Node, members: set[str]) -> Any:
    """The value of the field, or of the node linked to it, that says which input is delivered; None if it is unknown."""
    for key, value in node.values.items():
        if key not in members and _SELECTOR.search(key) and isinstance(value, (bool, int, str)) and value != "":
            return value
    for key, (source, _) in node.links.items():
        if key not in members and _SELECTOR.search(key):
            return _number_in(graph, source)
    return None


def _number_in(graph: Graph, name: str) -> Any:
    for _ in range(_MOST_STEPS):
        node = graph.get(name)
        if node is None:
            return None
        for key, value in node.values.items():
            if isinstance(value, (bool, int)) and (_NUMBER_FIELD.search(key) or len(node.values) == 1):
                return value
        if len(node.links) != 1:
            return None
        name = next(iter(node.links.values()))[0]
    return None


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "no", "off", "2", "disable")
    return bool(value)


def _member(members: list[str], chosen: Any) -> str | None:
    if isinstance(chosen, str):
        if chosen in members:
            return chosen
        digits = re.search(r"\d+", chosen)
        if digits is None:
            return None
        chosen = int(digits[0])
    numbers = [stem_and_number(key)[1] for key in members]
    if isinstance(chosen, bool):  # two inputs, the first of which is meant by True
        return members[0 if chosen else -1]
    label = str(chosen) if numbers[0].isdigit() else chr(ord("a") + chosen - 1) if 0 < chosen < 27 else ""
    return next(
        (key for key, number in zip(members, numbers, strict=True) if number.lstrip("0") == label.lstrip("0")), None
    )
