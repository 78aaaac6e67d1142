"""Whether somebody differentiates through a computation: backwards, forwards, or by a transform of `torch.func`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def derivative_wanted(tensor: Tensor) -> bool:
    """Whether derivatives of any kind flow through a tensor, so that what is computed from it must stay differentiable."""
    return (torch.is_grad_enabled() and tensor.requires_grad) or is_transformed(tensor)


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor carries a tangent (forward mode), or stands for others within `vmap`, `grad`, `jvp` and their kin."""
    if _compiling():
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # the wrappers of torch.func have no memory of their own
        return True
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _compiling() -> bool:
    """Whether torch.compile traces this call: the tensors that it puts in have no memory either."""
    return hasattr(torch.compiler, "is_compiling") and torch.compiler.is_compiling()
