"""Stand-in of ComfyUI's `comfy_execution.graph_utils`."""

from __future__ import annotations

from typing import Any


def is_link(obj: Any) -> bool:
    return isinstance(obj, list) and len(obj) == 2 and isinstance(obj[0], str) and isinstance(obj[1], (int, float))
