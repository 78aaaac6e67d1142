"""What torch has on which device: which device there is, autocast, memory that ran out or is given back.

Whatever differs between CUDA, ROCm, Apple's MPS, Intel's XPU, DirectML and the CPU, in any torch from 2.1 on, stands here.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch

from ..errors import DeviceUnavailable, ImageRewardError

# How allocators and libraries say that memory ran out, in lower case. Wordings that have other causes, too, are left out:
# CUDNN_STATUS_NOT_INITIALIZED, CUDNN_STATUS_INTERNAL_ERROR alone, oneDNN's "could not create a primitive".
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP and XPU caching allocators, their drivers, "MPS backend out of memory"
    "can't allocate memory",  # torch's CPU allocator on Linux and macOS
    "not enough memory",  # the same on Windows
    "cannot allocate memory",  # strerror(ENOMEM)
    "bad allocation",  # std::bad_alloc of Microsoft's runtime
    "std::bad_alloc",
    "is not enough gpu video memory",  # DirectML
    "invalid buffer size:",  # MPS, for one tensor that is larger than Metal's largest buffer
    "out of device memory",  # Intel's extension for torch
    "_out_of_memory",  # CUDA_ERROR_, hipError... and CL_ codes by name
    "hiperroroutofmemory",
    "_out_of_device_memory",  # SYCL's UR_RESULT_ERROR_ and Vulkan's VK_ERROR_
    "_out_of_host_memory",
    "_out_of_resources",  # SYCL's PI_ERROR_ and UR_RESULT_ERROR_
    "cublas_status_alloc_failed",
    "hipblas_status_alloc_failed",
    "rocblas_status_memory_error",
    "cusolver_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "host_allocation_failed",
    "miopenstatusallocfailed",
    "could not create a memory object",  # oneDNN
    "os error 1455",  # Windows' page file is too small, as safetensors says it in any language
    "os error 12)",  # ENOMEM in the same way
)
_WINDOWS_OUT_OF_MEMORY = (8, 14, 1455)  # NOT_ENOUGH_MEMORY, OUTOFMEMORY, COMMITMENT_LIMIT (page file)


# -- which there are -------------------------------------------------------------------------------------------------


def default_device() -> torch.device:
    """CUDA (or ROCm), then Apple's GPU, then Intel's, then the CPU.

    Returns:
        The first of them that torch can use here.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("cpu")


def device_of(device: torch.device | str | int) -> torch.device:
    """Raises DeviceUnavailable when torch cannot put anything there."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # by kind of device
        reason = str(error).splitlines()[0]
        raise DeviceUnavailable(
            f"expected a device that torch can use here, as '{default_device()}', got '{device}': {reason}"
        ) from error
    return place


def collective_backend(device: torch.device) -> str:
    """What several processes exchange tensors of this device with: NCCL for CUDA where this build has it, else gloo.

    Windows' builds of torch have no NCCL.
    """
    return "nccl" if device.type == "cuda" and torch.distributed.is_nccl_available() else "gloo"


# -- precision -------------------------------------------------------------------------------------------------------


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A block without autocast, for sums that half precision would spoil; nothing on devices that know no autocast.

    `torch.autocast` raises for those even with enabled=False: MPS before torch 2.5, DirectML, meta.
    """
    return _autocast(device, None) or nullcontext()


def mixed_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A block in which float32 networks compute in `dtype`. Raises ImageRewardError on devices that know no autocast."""
    context = _autocast(device, dtype)
    if context is None:
        raise ImageRewardError(
            f"torch {torch.__version__} has no mixed precision on {device.type}. Train in float32 there, or on "
            f"{'torch 2.5 or later' if device.type == 'mps' else 'another device'}."
        )
    return context


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast computes in on this kind of device just now; None where it is off, or not known there."""
    if hasattr(torch, "get_autocast_dtype"):  # from torch 2.4 on; the functions below warn there
        with suppress(RuntimeError):  # of a device that knows no autocast
            return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        return None
    if device.type == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def in_float64(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in float64, on the CPU: Apple's and most of Intel's GPUs have none."""
    return tensor.cpu().double()


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any] | None:
    try:
        return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
    except (RuntimeError, AssertionError, AttributeError):  # a device unknown to it; DirectML's without its module
        return None


# -- memory ----------------------------------------------------------------------------------------------------------


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device or on the machine, in the words of whoever noticed it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and (
        error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_OUT_OF_MEMORY
    ):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(words in text for words in _OUT_OF_MEMORY)


def release_memory() -> None:
    """Gives unused blocks back: to each device that has any, so that a smaller batch finds room, and to the system."""
    gc.collect()
    for name in ("cuda", "mps", "xpu"):
        module = getattr(torch, name, None)
        # A device that just failed may fail here, too; a module may be there without a device, or without a cache.
        with suppress(RuntimeError, AssertionError, AttributeError):
            if module is not None and _is_available(name):
                module.empty_cache()
    if sys.platform.startswith("linux"):
        # glibc keeps freed blocks of up to 32 MB for itself, which is most of a network's.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _is_available(name: str) -> bool:
    if name == "mps":
        return torch.backends.mps.is_available()
    return bool(getattr(torch, name).is_available())
