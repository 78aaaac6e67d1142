"""The one place that adapts our schemas to the running ComfyUI: newer keywords are left out where they are unknown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from comfy_api.latest import io

CATEGORY = "ImageReward"

Made = TypeVar("Made")


def fit(make: Callable[..., Made], *args: Any, **keywords: Any) -> Made:
    """`make(*args, **keywords)` with the keywords that this ComfyUI's `make` knows.

    An unknown keyword would cost the user the whole pack: `search_aliases` came with ComfyUI 0.11, `advanced` with 0.10.
    """
    known = inspect.signature(make).parameters
    return make(*args, **{name: value for name, value in keywords.items() if name in known})


def node_schema(node_id: str, display_name: str, **keywords: Any) -> io.Schema:
    return fit(io.Schema, node_id=node_id, display_name=display_name, category=CATEGORY, **keywords)
