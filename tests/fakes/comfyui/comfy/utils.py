"""Stand-in of ComfyUI's `comfy.utils`: the progress bar, with a record of what it showed; names; attributes by their path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

shown: list[tuple[int, int]] = []
previews: list[Any] = []
on_update: Callable[[int, int], None] | None = None


def reset() -> None:
    global on_update
    on_update = None
    shown.clear()
    previews.clear()


class ProgressBar:
    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = total or self.total
        shown.append((value, self.total))
        if preview is not None:
            previews.append(preview)
        if on_update is not None:
            on_update(value, self.total)


def get_attr(obj: Any, attr: str) -> Any:
    return attrgetter(attr)(obj)


def set_attr(obj: Any, attr: str, value: Any) -> None:
    *path, name = attr.split(".")
    setattr(get_attr(obj, ".".join(path)) if path else obj, name, value)


_RESNET = {
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TRANSFORMER = ("proj_in", "proj_out")
_BLOCK = tuple(
    f"{attention}.{layer}" for attention in ("attn1", "attn2") for layer in ("to_q", "to_k", "to_v", "to_out.0")
)
_BLOCK += ("ff.net.0.proj", "ff.net.2")


def unet_to_diffusers(unet_config: dict[str, Any]) -> dict[str, str]:
    """The names that diffusers gives a U-Net's weights -> the U-Net's own. Of the layers that a LoRA may change."""
    if "num_res_blocks" not in unet_config:
        return {}
    return {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in _layers(unet_config)}


def _layers(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    levels, counts = len(config["channel_mult"]), config["num_res_blocks"]
    down, up = list(config["transformer_depth"]), list(config["transformer_depth_output"])
    number = 1
    for level in range(levels):
        for i in range(counts[level]):
            yield from _block(f"down_blocks.{level}", i, f"input_blocks.{number}", down.pop(0))
            number += 1
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
        number += 1
    for i in (0, 1):
        yield from _resnet(f"mid_block.resnets.{i}", f"middle_block.{2 * i}")
    yield from _transformer("mid_block.attentions.0", "middle_block.1", config["transformer_depth_middle"])
    number = 0
    for level, count in enumerate(reversed(counts)):
        for i in range(count + 1):
            depth = up.pop()
            yield from _block(f"up_blocks.{level}", i, f"output_blocks.{number}", depth)
            if i == count:
                yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number}.{2 if depth else 1}.conv"
            number += 1


def _block(theirs: str, i: int, ours: str, depth: int) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.resnets.{i}", f"{ours}.0")
    if depth:
        yield from _transformer(f"{theirs}.attentions.{i}", f"{ours}.1", depth)


def _resnet(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{theirs}.{name}", f"{ours}.{own}") for own, name in _RESNET.items())


def _transformer(theirs: str, ours: str, depth: int) -> Iterator[tuple[str, str]]:
    names = [*_TRANSFORMER, *(f"transformer_blocks.{i}.{name}" for i in range(depth) for name in _BLOCK)]
    yield from ((f"{theirs}.{name}", f"{ours}.{name}") for name in names)
