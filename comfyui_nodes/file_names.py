"""What the marks in `filename_prefix` stand for.

ComfyUI's page replaces dates and the values of nodes for its own Save Image alone, and a graph that comes through the API
has no page at all. The server's own marks (%width%, %year%, ...) are left to `folder_paths.get_save_image_path`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..core.files.names import safe_name

SCORE_MARK = "%score%"
NUMBER_MARK = "%batch_num%"
LONGEST_NAME = 150  # bytes, without number and ending: Windows allows 260 characters for the whole path

_DATE = re.compile(r"%date:([^%]+)%")
_DATE_PART = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_NODE_VALUE = re.compile(r"%([^%.]+)\.([^%.]+)%")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


def fill_in(prefix: str, graph: Mapping[str, Any] | None, now: datetime) -> str:
    """With dates (%date:yyyy-MM-dd%) and values of nodes (%KSampler.seed%) as the page writes them for Save Image.

    graph: as ComfyUI runs it; a node is found by its class or its title. An unknown node's mark stays as it is.
    """
    dated = _DATE.sub(lambda found: _date(found[1], now), prefix)
    return _NODE_VALUE.sub(lambda found: _value(graph or {}, found[1], found[2], found[0]), dated)


def for_image(prefix: str, score: float, position: int) -> str:
    """The prefix of one image; a prefix that is a folder (`winners/`, or empty) has the score as the file's name.

    What some system does not allow in a file's name becomes `_`, and a name that is too long is cut.
    """
    value = f"{score:.4f}"
    filled = prefix.replace(SCORE_MARK, value).replace(NUMBER_MARK, str(position))
    folder, name = os.path.split(filled)
    return os.path.join(folder, safe_name(name, LONGEST_NAME) or value)


def _date(form: str, now: datetime) -> str:
    numbers = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        text = found[0]
        if text[0] == "y":
            return {"yy": f"{now:%y}", "yyyy": f"{now:%Y}"}.get(text, text)
        return f"{numbers[text[0]]:0{len(text)}}"

    return _DATE_PART.sub(part, form)


def _value(graph: Mapping[str, Any], name: str, widget: str, otherwise: str) -> str:
    for node in graph.values():
        if name in (node.get("class_type"), node.get("_meta", {}).get("title")):
            value = node.get("inputs", {}).get(widget)
            if value is not None and not isinstance(value, list):  # a list is a link
                return _NOT_IN_NAMES.sub("_", str(value))
    return otherwise
