"""Stand-in of `comfy.ops`: layers that compute in the type of what they are given, whatever type their weights have."""

from __future__ import annotations

from torch import Tensor, nn


class manual_cast:  # noqa: N801, the host's name
    class Linear(nn.Linear):
        comfy_cast_weights = True

        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.linear(input, *_cast(self, input))

    class Conv2d(nn.Conv2d):
        comfy_cast_weights = True

        def forward(self, input: Tensor) -> Tensor:
            weight, bias = _cast(self, input)
            return self._conv_forward(input, weight, bias)

    class GroupNorm(nn.GroupNorm):
        comfy_cast_weights = True

        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.group_norm(input, self.num_groups, *_cast(self, input), self.eps)

    class LayerNorm(nn.LayerNorm):
        comfy_cast_weights = True

        def forward(self, input: Tensor) -> Tensor:
            weight, bias = _cast(self, input) if self.elementwise_affine else (None, None)
            return nn.functional.layer_norm(input, self.normalized_shape, weight, bias, self.eps)

    class Embedding(nn.Embedding):
        comfy_cast_weights = True


def _cast(layer: nn.Module, input: Tensor) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    return weight.to(input.dtype), None if bias is None else bias.to(input.dtype)
