"""Low-rank adaptation on torch alone (Hu et al. 2021, arXiv 2106.09685): W + strength * alpha / rank * up @ down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..errors import ImageRewardError
from .config import INITS, LAYER_CHOICES
from .families import UNET_LAYERS, LoraLayers
from .randomness import derive_seed


class LoraLayer(nn.Module):
    """The low-rank branch of one linear or 2-D convolution layer.

    down: (rank, in) or (rank, in, kh, kw); up: (out, rank) or (out, rank, 1, 1). `up` starts at zero, so the network
    starts as it was. Both are float32 whatever the base layer's type; the branch is computed in the type of its input.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, *, init: str = "kaiming", seed: int = 0):
        super().__init__()
        weight = weight_of(base)
        out, inside, *kernel = weight.shape
        self.rank, self.alpha, self.strength = rank, float(alpha), 1.0
        self.convolution: dict[str, Any] | None = None
        if kernel:
            self.convolution = {name: getattr(base, name) for name in ("stride", "padding", "dilation")}
        self.down = nn.Parameter(_initial((rank, inside, *kernel), init, seed))
        self.up = nn.Parameter(torch.zeros(out, rank, *(1 for _ in kernel)))

    @property
    def scale(self) -> float:
        return self.strength * self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """What the branch adds to the base layer's output."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if self.convolution is None:
            return F.linear(F.linear(x, down), up) * self.scale
        return F.conv2d(F.conv2d(x, down, **self.convolution), up) * self.scale


class Lora(nn.Module):
    """The LoRA layers of a network by diffusers name, as one module: its parameters are what is trained.

    Args:
        layers: the branches by the name of their layer.
        rank: of every branch.
        alpha: the branches count `alpha / rank`.
    """

    def __init__(self, layers: Mapping[str, LoraLayer], rank: int, alpha: float):
        super().__init__()
        self.names = list(layers)
        self.layers = nn.ModuleList(layers.values())  # a ModuleDict refuses names with dots
        self.rank, self.alpha = rank, float(alpha)
        self._hooks: list[RemovableHandle] = []

    @classmethod
    def on(
        cls,
        layers: Mapping[str, nn.Module],
        *,
        rank: int,
        alpha: float | None = None,
        which: str = "attention",
        of: LoraLayers = UNET_LAYERS,
        init: str = "kaiming",
        seed: int = 0,
    ) -> Lora:
        """Fresh LoRA layers for those of `layers` that `which` ("attention" or "linear") selects, on their devices.

        of: what the family's layers are called (`Family.layers`). Raises ImageRewardError where none is among `layers`.
        """
        chosen = {name: module for name, module in layers.items() if touches(name, module, which, of)}
        if not chosen:
            raise ImageRewardError(
                f"no layer of the network is one that LoRA layers '{which}' change: expected names with "
                f"{' or '.join(of.blocks)} in them, ending in {', '.join(of.attention)}; got "
                f"{', '.join(list(layers)[:3]) or 'no layers'}"
            )
        alpha = float(rank if alpha is None else alpha)
        made = {
            name: LoraLayer(module, rank, alpha, init=init, seed=derive_seed(seed, "lora", name)).to(
                weight_of(module).device
            )
            for name, module in chosen.items()
        }
        return cls(made, rank, alpha)

    def items(self) -> Iterator[tuple[str, LoraLayer]]:
        return zip(self.names, self.layers, strict=True)  # type: ignore[arg-type]

    def hook(self, layers: Mapping[str, nn.Module]) -> None:
        """Add each branch to the output of the layer of its name."""
        if self._hooks:
            raise ImageRewardError("these LoRA layers are already attached to a network: call unhook() first")
        for name, layer in self.items():
            if name not in layers:
                raise ImageRewardError(
                    f"the network has no layer '{name}' that this LoRA changes: it was made for another model"
                )
            self._hooks.append(layers[name].register_forward_hook(_add_branch(layer)))

    def unhook(self) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()

    @contextmanager
    def at(self, strength: float) -> Iterator[None]:
        """Draw at another strength for a while; 0 is the untouched base network, exactly."""
        before = [layer.strength for _, layer in self.items()]
        for _, layer in self.items():
            layer.strength = float(strength)
        try:
            yield
        finally:
            for (_, layer), was in zip(self.items(), before, strict=True):
                layer.strength = was


def weight_of(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def touches(name: str, module: nn.Module, which: str, of: LoraLayers = UNET_LAYERS) -> bool:
    """Is this layer one that a LoRA of this kind changes? "linear" is every linear layer of the transformer blocks."""
    if which not in LAYER_CHOICES:
        raise ImageRewardError(f"LoRA layers must be one of {', '.join(LAYER_CHOICES)}, not '{which}'")
    weight = getattr(module, "weight", None)
    if weight is None or not any(block in name for block in of.blocks):
        return False
    return name.endswith(of.attention) if which == "attention" else weight.ndim == 2


def _add_branch(layer: LoraLayer):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if layer.strength == 0 else output + layer(inputs[0])

    return hook


def _initial(shape: tuple[int, ...], init: str, seed: int) -> Tensor:
    """Kaiming uniform with a = sqrt(5) (kohya, PEFT's default), or normal of deviation 1 / rank (PEFT's "gaussian")."""
    generator = torch.Generator().manual_seed(seed)
    if init == "gaussian":
        return torch.randn(shape, generator=generator) / shape[0]
    if init == "kaiming":
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        return (torch.rand(shape, generator=generator) * 2 - 1) * bound
    raise ImageRewardError(f"LoRA init must be one of {', '.join(INITS)}, not '{init}'")
