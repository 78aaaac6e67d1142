"""What a node of a ComfyUI graph does to a text that passes through it, as far as its fields tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .comfyui_graph import Node

_REPLACED = re.compile(r"(?P<find>find|old)_?(?P<number>\d*)")
_NEW = {"find": "replace", "old": "new"}
_PLACE = re.compile(r"\{(\w+)\}")
_PLACE_BY_NUMBER = re.compile(r"\{\d*\}")
_CUTS = re.compile(r"regex|extract|substring|slice|\bsplit|truncat", re.IGNORECASE)
_FILLS_TOKENS = re.compile(r"parse ?_?tokens|noodle ?soup", re.IGNORECASE)
_TOKEN = re.compile(r"\[\w+\]|__\w+__")
_DRAWS = re.compile(r"random|shuffle", re.IGNORECASE)
_HAS_LINES = re.compile(r"(?<!multi)(?<!multi[ _])lines?(?![a-z])|lists?(?![a-z])", re.IGNORECASE)
_CHOOSES_LINE = re.compile(r"index|seed|rows?$|select|^line", re.IGNORECASE)
_STYLES = ("select_styles", "style_name", "style", "styles")  # "styles" is a file where the styles are selected
_NO_STYLE = {"", "none", "base", "no style", "default", "[]"}


def replacements(node: Node) -> list[tuple[str, str]]:
    """The (input of the old words, input of the new ones) pairs of a node that replaces words."""
    keys = {*node.values, *node.links}
    if node.values.get("action") == "replace":  # StringFunction|pysssss
        return [("text_b", "text_c")] if {"text_b", "text_c"} <= keys else []
    found = []
    for key in keys:
        match = _REPLACED.fullmatch(key)
        new = _NEW[match["find"]] + key.removeprefix(match["find"]) if match else ""
        if new and new in keys:
            found.append((key, new))
    return sorted(found)


def template_of(node: Node) -> str:
    """The field of a node whose {names} are those of its other inputs; empty if there is none."""
    keys = {*node.values, *node.links}
    return next(
        (
            key
            for key, value in node.values.items()
            if isinstance(value, str) and (keys - {key}).intersection(_PLACE.findall(value))
        ),
        "",
    )


def places_of(template: str) -> list[str]:
    return _PLACE.findall(template)


def replaced(text: str, old: str, new: str, longest: int) -> str:
    """The text with its words replaced, right up to `longest` characters: beyond, what is cut off anyway stays."""
    return text.replace(old, new, longest // max(1, len(new)) + 1) if old else text


def filled(template: str, texts: Mapping[str, str], longest: int) -> str:
    """The template with the texts in place of their {names}, right up to `longest` characters; what has none stays."""
    parts, end, length = [], 0, 0
    for place in _PLACE.finditer(template):
        parts += [template[end : place.start()], texts.get(place[1], place[0])]
        end = place.end()
        length += len(parts[-1]) + len(parts[-2])
        if length > longest:
            break
    return "".join([*parts, template[end:]])


def what_is_not_told(node: Node, text: str) -> str:
    """Why what a node made of a text is not in the file; "" where it is."""
    kind = node.kind
    if _CUTS.search(kind) or _is_template_by_number(node):
        return f"{node} changes its text, and what it made of it is not in the file"
    if _FILLS_TOKENS.search(kind) and _TOKEN.search(text):
        return f"{node} puts words in place of {_TOKEN.findall(text)[0]!r}, and which is not in the file"
    if _gives_one_line(node) and "\n" in text.strip():
        return f"{node} gives one of several lines, and which is not in the file"
    if "styl" in kind.lower():
        style = next((str(node.values[key]) for key in _STYLES if key in node.values), "")
        if style.strip().lower() not in _NO_STYLE:
            return f"{node} adds the words of the style {style[:40]!r}, which are not in the file"
    return ""


def first_of_drawn(node: Node, text: str) -> str:
    """Of a node that gives one of several lines the first, as of a choice in a prompt; of others the text as it is."""
    return text.strip().split("\n")[0] if _gives_one_line(node) else text


def _gives_one_line(node: Node) -> bool:
    if _DRAWS.search(node.kind):
        return True
    return bool(_HAS_LINES.search(node.kind)) and any(map(_CHOOSES_LINE.search, (*node.values, *node.links)))


def _is_template_by_number(node: Node) -> bool:
    """ "a {} fox" beside links that fill it."""
    return bool(node.links) and any(
        re.search(r"template|format", key, re.IGNORECASE) and isinstance(value, str) and _PLACE_BY_NUMBER.search(value)
        for key, value in node.values.items()
    )
