"""A GPU for machines without one: with TINY_GPU_BYTES set, `cpu:0` is ComfyUI's device, with so much free memory beyond what
ComfyUI keeps for inference. To torch it is the CPU; to ComfyUI's memory management it is another device, that fills up.
TINY_GPU_STATE: the VRAMState that `--lowvram` or `--novram` would set, which ComfyUI does not take beside `--cpu`, or
DYNAMIC for dynamic VRAM, with room for as many bytes of pages."""

from __future__ import annotations

import os

import comfy.model_management as model_management
import torch

from . import paging

GPU = torch.device("cpu", 0)
capacity = 0  # bytes


def is_dynamic() -> bool:
    return os.environ.get("TINY_GPU_STATE") == "DYNAMIC"


def install() -> None:
    global capacity
    wanted = os.environ.get("TINY_GPU_BYTES")
    if wanted is None:
        return
    capacity = model_management.minimum_inference_memory() + int(wanted)
    usual = model_management.get_free_memory

    def get_free_memory(dev=None, torch_free_too=False):
        if dev not in (None, GPU):
            return usual(dev, torch_free_too)
        loaded = model_management.current_loaded_models
        free = capacity - sum(one.model_loaded_memory() for one in loaded if one.device == GPU)
        return (free, 0) if torch_free_too else free

    model_management.get_free_memory = get_free_memory
    model_management.get_torch_device = lambda: GPU
    model_management.is_device_cpu = lambda device: device == torch.device("cpu")  # GPU is unequal to it
    state = os.environ.get("TINY_GPU_STATE", "NORMAL_VRAM")
    if is_dynamic():
        model_management.text_encoder_device = lambda: GPU
        paging.room = int(wanted)
        paging.install(GPU)
        state = "NORMAL_VRAM"
    model_management.vram_state = model_management.VRAMState[state]
