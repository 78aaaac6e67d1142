"""Sizes read off a checkpoint's tensors: so a tiny random checkpoint takes exactly the road of a real one."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UnknownCheckpoint

HEAD_DIM = 64
# The head count is in no tensor's shape. Text towers have heads of 64 throughout, and so have image towers, but for those of
# open_clip that are wider than ViT-L's (open_clip/model_configs/*.json: `head_width`), which all have 16 heads.
_VISION_HEADS = {
    1280: 16,  # ViT-H: 80 wide
    1408: 16,  # ViT-g: 88
    1664: 16,  # ViT-bigG: 104
    1792: 16,  # ViT-e: 112
}
_WIDER = (80, 88, 104, 112)


def heads_of(width: int) -> int:
    """How many attention heads a text tower of this width has, and an image tower that is no CLIP's."""
    return max(1, width // HEAD_DIM)


def vision_heads_of(width: int) -> int:
    """How many attention heads an image tower of this width has. Raises UnknownCheckpoint where that cannot be known."""
    if width in _VISION_HEADS:
        return _VISION_HEADS[width]
    if width < HEAD_DIM:
        return 1
    for head in (HEAD_DIM, *_WIDER):  # of widths that nobody published, the commonest head that fits
        if width % head == 0:
            return width // head
    raise UnknownCheckpoint(
        f"expected an image tower whose width divides by {HEAD_DIM}, or of a published CLIP "
        f"({', '.join(map(str, _VISION_HEADS))}), got {width}: how many attention heads it has cannot be known"
    )


def count_layers(names: Iterable[str], prefix: str) -> int:
    """How many numbered layers stand under `prefix` ("visual_encoder.blocks.")."""
    numbers = {name[len(prefix) :].split(".", 1)[0] for name in names if name.startswith(prefix)}
    return len(numbers)
