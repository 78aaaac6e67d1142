from __future__ import annotations

import errno
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mounting import ROOT
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.networks import devices
from sd_imagereward.core.networks.devices import (
    collective_backend,
    default_device,
    full_precision,
    is_out_of_memory,
    mixed_precision,
    release_memory,
)
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

# As they were reported by people, or stand in the sources of those who say them.
OUT_OF_MEMORY = {
    "CUDA": "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 3.81 GiB total capacity; 3.21 GiB already allocated)",
    "CUDA driver": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA by code": "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
    "ROCm": "HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.98 GiB",
    "ROCm runtime": "HIP error: hipErrorOutOfMemory",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "hipBLAS": "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "cuDNN 8": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN 9": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "MIOpen": "miopenStatusAllocFailed",
    "MPS": "MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1.33 GB, max allowed: 10.20 GB).",
    "MPS, one tensor": "Invalid buffer size: 19.45 GB",
    "XPU": "XPU out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 15.59 GiB",
    "Level Zero": "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Level Zero, resources": "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "SYCL": "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "SYCL, host": "Native API failed. Native API returns: -6 (PI_ERROR_OUT_OF_HOST_MEMORY)",
    "IPEX": "Allocation is out of device memory on current platform.",
    "DirectML": "Could not allocate tensor with 530841600 bytes. There is not enough GPU video memory available!",
    "CPU, Linux": "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4294967296000 bytes. Error code 12 (Cannot allocate memory)",
    "CPU, Windows": "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to allocate "
    "1073741824 bytes.",
    "C++ on Windows": "bad allocation",
    "oneDNN": "could not create a memory object",
    "mmap": "unable to mmap 1790000000 bytes from file <ImageReward.pt>: Cannot allocate memory (12)",
}
SOMETHING_ELSE = [
    "CUDA error: device-side assert triggered",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "could not create a primitive",
    "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "MPS does not support min/max ops with int64 input",
    "mat1 and mat2 shapes cannot be multiplied (1x64 and 32x1)",
]


@pytest.mark.parametrize("words", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_memory_that_ran_out_halves_the_batch(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load_scorer("technical", device="cpu")
    real, batches = type(scorer).components, []

    def components(self: Any, pixels: torch.Tensor, prompts: Any) -> Any:
        batches.append(len(pixels))
        if len(pixels) > 2:
            raise RuntimeError(words)
        return real(self, pixels, prompts)

    monkeypatch.setattr(type(scorer), "components", components)
    assert len(score_images(scorer, [torch.rand(3, 20, 20) for _ in range(4)], "").components["Technical"]) == 4
    assert batches == [4, 2, 2]


@pytest.mark.parametrize("words", SOMETHING_ELSE)
def test_other_errors_are_no_lack_of_memory(words: str) -> None:
    assert not is_out_of_memory(RuntimeError(words))


def _windows(code: int) -> OSError:
    error = OSError(errno.EINVAL, "Die Auslagerungsdatei ist zu klein")
    error.winerror = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("whatever"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError("页面文件太小，无法完成操作。 (os error 1455)"), True),
        (_windows(1455), True),
        (_windows(8), True),
        (_windows(32), False),
        (OSError(errno.ENOENT, "No such file"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_errors_of_the_system(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps", "xpu", "meta", "privateuseone"])
def test_full_precision_never_fails(kind: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.device(kind)):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.float32 if kind == "cpu" else torch.bfloat16)


def test_mixed_precision_where_there_is_one() -> None:
    with mixed_precision(torch.device("cpu"), torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(ImageRewardError, match=r"no mixed precision on meta\. Train in float32 there"):
        mixed_precision(torch.device("meta"), torch.bfloat16)


def test_the_choice_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(is_available=lambda: "xpu" in there), raising=False)
    for kind in ("cpu", "xpu", "mps", "cuda"):
        there.add(kind)
        assert default_device().type == kind


def test_every_cache_is_emptied_and_a_failing_one_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []

    def empty(name: str) -> None:
        emptied.append(name)
        if name == "cuda":
            raise RuntimeError("CUDA error: device-side assert triggered")

    for name in ("cuda", "mps", "xpu"):
        module = SimpleNamespace(is_available=lambda: True, empty_cache=lambda name=name: empty(name))
        monkeypatch.setattr(torch, name, module, raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    release_memory()
    assert emptied == ["cuda", "mps", "xpu"]


@pytest.mark.parametrize(("kind", "has_nccl", "expected"), [("cuda", True, "nccl"), ("cuda", False, "gloo")])
def test_processes_use_nccl_where_it_is(
    kind: str, has_nccl: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.torch.distributed, "is_nccl_available", lambda: has_nccl)
    assert collective_backend(torch.device(kind)) == expected
    assert collective_backend(torch.device("cpu")) == "gloo"


def test_what_devices_lack_is_asked_in_one_place() -> None:
    asked = re.compile(
        r"torch\.(autocast|amp\.autocast|(cuda|mps|xpu)\.(autocast|empty_cache|is_available))|mps\.is_av|\"nccl\""
    )
    rooms = ("core", "comfyui_nodes", "sdwebui_extension", "scripts", "examples")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py") if path.name != "devices.py"]
    assert len(files) > 200
    assert [path.name for path in files if asked.search(path.read_text(encoding="utf-8"))] == []
