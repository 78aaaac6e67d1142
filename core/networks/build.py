"""Networks without double copies: made on the meta device, then given the checkpoint's own (memory-mapped) tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import UnknownCheckpoint

M = TypeVar("M", bound=nn.Module)


def build(make: Callable[[], M], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> M:
    """A network in eval mode, frozen, whose every parameter comes from `tensors` (others in there are ignored).

    Hosts run hooks under inference mode; a network built there could neither be moved nor be trained through later.
    """
    with torch.inference_mode(False), torch.no_grad():
        with torch.device("meta"):
            network = make()
        expected = network.state_dict()
        missing = [name for name in expected if name not in tensors]
        if missing:
            raise UnknownCheckpoint(f"the checkpoint lacks {len(missing)} tensors, the first is {missing[0]!r}")
        for name, tensor in expected.items():
            if tensors[name].shape != tensor.shape:
                got, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
                raise UnknownCheckpoint(f"expected {name} of shape {wanted}, got {got}")
        network.load_state_dict({n: tensors[n].to(device=device, dtype=dtype) for n in expected}, assign=True)
    return network.eval().requires_grad_(False)
