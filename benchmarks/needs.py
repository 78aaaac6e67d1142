"""What each scorer needs of memory: bytes of its parameters, and of its activations at the peak, for one picture.

    python benchmarks/needs.py

Counted operation by operation on torch's meta device, which knows shapes and no numbers: takes a second and no memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from checkout import mount
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

mount()

from sd_imagereward.core.networks.bert import BertSizes  # noqa: E402 (found through the package just mounted)
from sd_imagereward.core.networks.clip import ClipText, ClipVision, TextSizes  # noqa: E402
from sd_imagereward.core.networks.vit import ViTSizes  # noqa: E402
from sd_imagereward.core.scorers.blip import BlipNetwork  # noqa: E402
from sd_imagereward.core.scorers.imagereward import ImageRewardNetwork  # noqa: E402

VIT_L16 = ViTSizes(width=1024, depth=24, heads=16, hidden=4096, patch=16, image_size=224)
VIT_L14 = ViTSizes(width=1024, depth=24, heads=16, hidden=4096, patch=14, image_size=224)
VIT_H14 = ViTSizes(width=1280, depth=32, heads=16, hidden=5120, patch=14, image_size=224)
BERT = BertSizes(vocabulary=30524, positions=512, width=768, depth=12, heads=12, hidden=3072, image_width=VIT_L16.width)
TEXT_L = TextSizes(vocabulary=49408, positions=77, width=768, depth=12, heads=12, hidden=3072, embedding=768)
TEXT_H = TextSizes(vocabulary=49408, positions=77, width=1024, depth=24, heads=16, hidden=4096, embedding=1024)

Run = Callable[[Tensor], Any]


def imagereward() -> tuple[nn.Module, Run]:
    network = ImageRewardNetwork(VIT_L16, BERT)
    return network, lambda pixels: network(_ids(35), None, network.image_features(pixels))


def blip() -> tuple[nn.Module, Run]:
    network = BlipNetwork(VIT_L16, BERT, 256)
    return network, lambda pixels: (network.image_embedding(pixels), network.text_embedding(_ids(35), None))


def clip(vision: ViTSizes, text: TextSizes, activation: str) -> tuple[nn.Module, Run]:
    towers = ClipVision(vision, text.embedding, activation), ClipText(text, activation)
    return nn.ModuleList(towers), lambda pixels: (towers[0](pixels), towers[1](_ids(text.positions)))


def aesthetic() -> tuple[nn.Module, Run]:
    tower = ClipVision(VIT_L14, TEXT_L.embedding, "quick_gelu")  # the head is a vector
    return tower, tower


SCORERS: dict[str, Callable[[], tuple[nn.Module, Run]]] = {
    "`imagereward`": imagereward,
    "`blip`": blip,
    "`clip`": lambda: clip(VIT_L14, TEXT_L, "quick_gelu"),
    "`aesthetic`": aesthetic,
    "`pickscore`, `hpsv2`, `hpsv2.1`": lambda: clip(VIT_H14, TEXT_H, "gelu"),
}


def _ids(tokens: int) -> Tensor:
    return torch.zeros(1, tokens, dtype=torch.int64)


class LiveBytes(TorchDispatchMode):
    """The most that tensors took at once of what operations made while it was on; parameters do not count."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {parameter.untyped_storage()._cdata for parameter in network.parameters()}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(one, Tensor):
                self._count(one.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def main() -> None:
    print("| scorer | fp32 | fp16, bf16 | a picture, fp32 |\n|---|---|---|---|")
    with torch.device("meta"), torch.no_grad():
        for name, make in SCORERS.items():
            network, run = make()
            numbers = sum(parameter.numel() for parameter in network.parameters())
            pixels = torch.rand(1, 3, 224, 224)
            with LiveBytes(network) as live:
                run(pixels)
            sizes = f"{4 * numbers / 2**30:.2f} GiB | {2 * numbers / 2**30:.2f} GiB | {live.peak / 2**20:.0f} MiB"
            print(f"| {name} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
