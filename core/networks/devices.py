"""Devices: which there are, memory that ran out on them, and memory to give back."""

from __future__ import annotations

import ctypes
import gc
import sys

import torch

from ..errors import ImageRewardError


def default_device() -> torch.device:
    """CUDA (or ROCm), then Apple's GPU, then Intel's, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("cpu")


def device_of(device: torch.device | str) -> torch.device:
    """Raises ImageRewardError when torch cannot put anything there."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # by kind of device
        reason = str(error).splitlines()[0]
        raise ImageRewardError(
            f"expected a device that torch can use here, as '{default_device()}', got '{device}': {reason}"
        ) from error
    return place


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's, Apple's and the CPU allocator's way of saying that memory ran out."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def release_memory() -> None:
    """Gives unused blocks back: to the device, so that a smaller batch finds room, and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform.startswith("linux"):
        # glibc keeps freed blocks of up to 32 MB for itself, which is most of a network's.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
