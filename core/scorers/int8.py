"""Opt-in int8 linear layers on the CPU: about twice as fast, and the scores move (docs: how much). Never a default."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..networks.derivatives import derivative_wanted

MIN_WIDTH = 64  # smaller layers gain nothing
# Cross-attention multiplies by these weights directly instead of calling the layers.
ABSORBED = ("crossattention.self.key", "crossattention.self.value")


class Int8Linear(nn.Module):
    """Weights as int8 with a scale for each output, activations quantised at each call; x86 and Arm kernels of torch.

    Where a derivative is wanted the original float weights answer.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self._pack()

    def _pack(self) -> None:
        scale = self.weight.detach().abs().amax(1).clamp(min=1e-12).double() / 127
        zero = torch.zeros(len(self.weight), dtype=torch.long, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # torch announces that these tensors will move to another package
            quantised = torch.quantize_per_channel(self.weight.detach().float(), scale, zero, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantised, None if self.bias is None else self.bias.detach())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._pack()

    def forward(self, x: Tensor) -> Tensor:
        if derivative_wanted(x):
            return F.linear(x, self.weight, self.bias)
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)


def quantise_linears(network: nn.Module) -> None:
    """Replaces the large linear layers of a network on the CPU, in place."""
    if torch.backends.quantized.engine == "none" or not hasattr(torch, "quantize_per_channel"):
        raise ImageRewardError("this build of torch has no int8 kernels; use fp32")
    for path, layer in list(network.named_modules()):
        if isinstance(layer, nn.Linear) and _worth_it(path, layer):
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, Int8Linear(layer))


def _worth_it(path: str, layer: nn.Linear) -> bool:
    return min(layer.in_features, layer.out_features) >= MIN_WIDTH and not path.endswith(ABSORBED)
