"""Networks without double copies: made on the meta device, then given the checkpoint's tensors one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import UnknownCheckpoint
from ..files.console import counted
from ..weights.stored import StoredTensor

M = TypeVar("M", bound=nn.Module)


def build(
    make: Callable[[], M], tensors: Mapping[str, Tensor | StoredTensor], dtype: torch.dtype, device: torch.device
) -> M:
    """A network in eval mode, frozen, whose every parameter comes from `tensors` (others in there are ignored).

    A stored tensor is read after all shapes were found right, and converted before the next one is read.

    Hosts run hooks under inference mode; a network built there could neither be moved nor be trained through later.
    """
    with torch.inference_mode(False), torch.no_grad():
        with torch.device("meta"), _NoRandomNumbers():
            network = make()
        expected = network.state_dict()
        missing = [name for name in expected if name not in tensors]
        if missing:
            raise UnknownCheckpoint(
                f"the checkpoint lacks {counted(len(missing), 'tensor')}, the first is {missing[0]!r}"
            )
        for name, tensor in expected.items():
            if tensors[name].shape != tensor.shape:
                raise UnknownCheckpoint(
                    f"expected {name} of shape {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}"
                )
        network.load_state_dict({name: _placed(_read(tensors[name]), dtype, device) for name in expected}, assign=True)
    return network.eval().requires_grad_(False)


def _read(tensor: Tensor | StoredTensor) -> Tensor:
    return tensor.read() if isinstance(tensor, StoredTensor) else tensor


def _placed(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """On `device`, in `dtype`; whole numbers (positions) stay whole."""
    return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves initialisation out: on the meta device it does nothing, and `normal_` imports all of torch._dynamo for it."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))
