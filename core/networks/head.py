"""A chain of linear layers without activation between, as ImageReward's and LAION's heads are: one vector, really."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def chain_of(tensors: Mapping[str, Tensor]) -> dict[int, tuple[Tensor, Tensor]]:
    """The layers "0.weight", "0.bias", "2.weight" ... of an nn.Sequential: place -> (weight, bias), in order."""
    places = sorted(int(name.split(".")[0]) for name in tensors if name.endswith(".weight"))
    return {place: (tensors[f"{place}.weight"], tensors[f"{place}.bias"]) for place in places}


def collapse_head(layers: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A chain of linear layers without activation as one: float64 weight (1, width) and bias (1,)."""
    weight, bias = layers[0][0].double(), layers[0][1].double()
    for next_weight, next_bias in layers[1:]:
        bias = next_weight.double() @ bias + next_bias.double()
        weight = next_weight.double() @ weight
    return weight, bias
