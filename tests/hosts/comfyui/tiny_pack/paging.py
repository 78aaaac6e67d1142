"""Dynamic VRAM for machines without a GPU: a stand-in for comfy-aimdo, on which ComfyUI's real ModelPatcherDynamic runs.

The GPU is that of `pretend`. Pages of weights are plain tensors; those of other models leave when the room is full, and a page
that left holds NaN from then on, so that nothing which still reads it goes unnoticed.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from pathlib import Path

import torch

room = 2**60  # bytes of all pages together
counts = {"read": 0, "refused": 0, "left": 0}
_numbers = itertools.count(1)
_ALIGNMENT = 512


class Page:
    def __init__(self, size: int) -> None:
        self.size, self.users = size, 0
        self.bytes: torch.Tensor | None = None
        self.signature: ctypes.Array[ctypes.c_uint32] | None = None

    def fill(self) -> None:
        self.bytes = torch.full((self.size,), 255, dtype=torch.uint8)
        self.signature = (ctypes.c_uint32 * 2)(next(_numbers), 0)

    def leave(self) -> int:
        assert self.bytes is not None
        with torch.inference_mode(self.bytes.is_inference()):
            self.bytes.data.fill_(255)  # NaN in each float type
        self.bytes = self.signature = None
        counts["left"] += 1
        return self.size


class ModelVBAR:
    """One model's pages by address. Of all models, the one that was used last keeps its pages longest."""

    all: list[ModelVBAR] = []  # noqa: RUF012, one list for all models

    def __init__(self, size, device):
        self.base, self.offset, self.pages = next(_numbers) << 44, 0, {}
        ModelVBAR.all.append(self)

    def prioritize(self):
        ModelVBAR.all.remove(self)
        ModelVBAR.all.append(self)

    def alloc(self, size):
        self.offset = -(-self.offset // _ALIGNMENT) * _ALIGNMENT
        address = self.base + self.offset
        self.offset += size
        self.pages[address] = Page(size)
        return self, address, size

    def loaded_size(self):
        return sum(page.size for page in self.pages.values() if page.bytes is not None)

    def free_memory(self, size):
        freed = 0
        for page in reversed(self.pages.values()):
            if freed < size and page.bytes is not None and not page.users:
                freed += page.leave()
        return freed

    def bring(self, page: Page) -> bool:
        for other in ModelVBAR.all:
            missing = sum(one.loaded_size() for one in ModelVBAR.all) + page.size - room
            if other is not self and missing > 0:
                other.free_memory(missing)
        if sum(one.loaded_size() for one in ModelVBAR.all) + page.size > room:
            counts["refused"] += 1
            return False
        page.fill()
        return True


def vbar_fault(allocated):
    """Use a page; None if there is no room for it."""
    counts["read"] += 1
    model, address, _ = allocated
    page = model.pages[address]
    if page.bytes is None and not model.bring(page):
        return None
    page.users += 1
    return page.signature


def vbar_unpin(allocated):
    if allocated is not None:
        model, address, _ = allocated
        page = model.pages[address]
        page.users = max(0, page.users - 1)


def vbar_signature_compare(one, other):
    return one is not None and other is not None and bytes(one) == bytes(other)


def aimdo_to_tensor(allocated, device):
    model, address, _ = allocated
    return model.pages[address].bytes


class HostBuffer:
    """Nothing is pinned here."""

    def __init__(self, size, prewarm=0, max_grow_size=0, mark_cold=True):
        self.size = 0

    def extend(self, size, **_):
        raise RuntimeError("no pinned memory")

    def truncate(self, size, do_unregister=True):
        self.size = size


class ModelMMAP:
    """A file in memory, of which a change stays this process's own."""

    def __init__(self, path):
        self.file = Path(path).open("rb")  # noqa: SIM115, the weights are views of it
        self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.buffer = (ctypes.c_char * len(self.map)).from_buffer(self.map)

    def get(self):
        return ctypes.addressof(self.buffer)

    def get_file_handle(self):
        return self.file.fileno()

    def bounce(self):
        return False


def install(gpu: torch.device) -> None:
    """Before anything is loaded, after `pretend` has put its GPU in place."""
    import comfy.memory_management
    import comfy.model_management as model_management
    import comfy.model_patcher
    import comfy.ops
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_mmap
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    from comfy.cli_args import args

    vbar = comfy_aimdo.model_vbar
    vbar.ModelVBAR, vbar.vbar_fault, vbar.vbar_unpin = ModelVBAR, vbar_fault, vbar_unpin
    vbar.vbar_signature_compare = vbar_signature_compare
    vbar.vbars_analyze = lambda device=None: 0
    vbar.vbars_reset_watermark_limits = lambda: None
    comfy_aimdo.torch.aimdo_to_tensor = aimdo_to_tensor
    comfy_aimdo.host_buffer.HostBuffer = HostBuffer
    comfy_aimdo.model_mmap.ModelMMAP = ModelMMAP
    args.disable_pinned_memory = True
    model_management.pinned_hostbuf_size = lambda size: 0
    usual = comfy.ops.cast_bias_weight

    def cast_bias_weight(layer, input=None, dtype=None, device=None, **more):
        """What lies on the pretended GPU says that it lies on the CPU."""
        on_cpu = (input.device if device is None else device).type == "cpu"
        return usual(layer, input, dtype, gpu if hasattr(layer, "_v") and on_cpu else device, **more)

    comfy.ops.cast_bias_weight = cast_bias_weight
    comfy.memory_management.aimdo_enabled = True
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
