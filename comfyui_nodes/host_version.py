"""The one place that adapts our schemas to the running ComfyUI: newer keywords are left out where they are unknown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from comfy_api.latest import io

CATEGORY = "ImageReward"

Made = TypeVar("Made")


def fit(make: Callable[..., Made], *args: Any, **keywords: Any) -> Made:
    """`make(*args, **keywords)` with the keywords that this ComfyUI's `make` knows: an unknown one costs the whole pack."""
    known = inspect.signature(make).parameters
    return make(*args, **{name: value for name, value in keywords.items() if name in known})


def Schema(*, node_id: str, display_name: str, **keywords: Any) -> io.Schema:  # noqa: N802
    """A schema in our category.

    ComfyUI-Manager finds the ids of a pack by reading its source for calls of this name with a literal `node_id=`.
    """
    return fit(io.Schema, node_id=node_id, display_name=display_name, category=CATEGORY, **keywords)
