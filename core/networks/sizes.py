"""Sizes read off a checkpoint's tensors: so a tiny random checkpoint takes exactly the road of a real one."""

from __future__ import annotations

from collections.abc import Iterable

HEAD_DIM = 64
# The head count is in no tensor's shape. Every network here uses heads of 64, but for ViT-H's image tower (open_clip: 16 x 80).
_HEADS = {1280: 16}


def heads_of(width: int) -> int:
    """How many attention heads a tower of this width has."""
    return _HEADS.get(width, max(1, width // HEAD_DIM))


def count_layers(names: Iterable[str], prefix: str) -> int:
    """How many numbered layers stand under `prefix` ("visual_encoder.blocks.")."""
    numbers = {name[len(prefix) :].split(".", 1)[0] for name in names if name.startswith(prefix)}
    return len(numbers)
