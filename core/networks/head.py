"""A chain of linear layers without activation between, as ImageReward's and LAION's heads are: one vector, really."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..errors import UnknownCheckpoint
from ..weights.stored import StoredTensor

Layer = tuple[StoredTensor, StoredTensor]  # weight, bias


def chain_of(tensors: Mapping[str, StoredTensor]) -> dict[int, Layer]:
    """The layers "0.weight", "0.bias", "2.weight" ... of an nn.Sequential: place -> (weight, bias), in order."""
    places = sorted(int(name.split(".")[0]) for name in tensors if name.endswith(".weight"))
    return {place: (tensors[f"{place}.weight"], tensors[f"{place}.bias"]) for place in places}


def collapse_head(layers: Sequence[Layer]) -> tuple[Tensor, Tensor]:
    """A chain of linear layers without activation as one: float64 weight (1, width) and bias (1,)."""
    _require_chain(layers)
    weight, bias = layers[0][0].read().double(), layers[0][1].read().double()
    for next_weight, next_bias in layers[1:]:
        matrix = next_weight.read().double()
        bias = matrix @ bias + next_bias.read().double()
        weight = matrix @ weight
    return weight, bias


def _require_chain(layers: Sequence[Layer]) -> None:
    """Raises UnknownCheckpoint unless each layer takes what the one before gives, and the last gives one number."""
    shapes = [(tuple(weight.shape), tuple(bias.shape)) for weight, bias in layers]
    two_axes = all(len(weight) == 2 and bias == weight[:1] for weight, bias in shapes)
    if not two_axes or [weight[0] for weight, _ in shapes] != [*(weight[1] for weight, _ in shapes[1:]), 1]:
        raise UnknownCheckpoint(f"expected a head of linear layers that end in one number, got the shapes {shapes}")
