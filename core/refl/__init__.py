"""Reward feedback learning (ReFL): tune an image generator with a differentiable reward (ImageReward, arXiv 2304.05977).

The names below are imported when first used, so that the command line can list its options without torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Denoiser": "generator",
    "DiffusersGenerator": "diffusers_generator",
    "Evaluation": "guard",
    "Generator": "generator",
    "Guard": "guard",
    "Lora": "lora",
    "LoraRecord": "lora_files",
    "Observer": "observers",
    "ReflConfig": "config",
    "ReflResult": "result",
    "ReflTrainer": "loop",
    "Sampling": "generator",
    "config_from": "config",
    "preset": "config",
    "read_config": "config",
    "read_lora": "lora_files",
    "write_lora": "lora_files",
    "write_report": "report",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
