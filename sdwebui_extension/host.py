"""What the three hosts offer under different names: a device, room on it, a place for messages."""

from __future__ import annotations

import sys
from typing import Any

import torch
from modules import devices

from ..core.files.console import Console

# Forge's and reForge's memory managers; AUTOMATIC1111 has none.
MEMORY_MANAGERS = ("backend.memory_management", "ldm_patched.modules.model_management")


def device() -> torch.device:
    """The device that the host generates on."""
    return torch.device(devices.device)


def free_memory(needed: int, on: torch.device) -> None:
    """Asks the host to leave `needed` bytes free on a device, by whatever means it has."""
    for name in MEMORY_MANAGERS:
        manager = sys.modules.get(name)
        if manager is not None:
            manager.free_memory(needed, on)
            break
    devices.torch_gc()


def collect() -> None:
    devices.torch_gc()


def comment(p: Any, text: str) -> None:
    """A line under the gallery."""
    p.comment(text)


def log(text: str) -> None:
    """A line in the WebUI's console; never raises, whatever the console's code page lacks and even if there is none."""
    print(f"[ImageReward] {text}", file=Console(sys.stdout))
