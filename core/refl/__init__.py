"""Reward feedback learning (ReFL): tune an image generator with a differentiable reward (ImageReward, arXiv 2304.05977)."""

from .config import ReflConfig, config_from, preset, read_config
from .generator import Denoiser, Generator, Sampling
from .guard import Evaluation, Guard
from .lora import Lora
from .lora_files import read_lora, write_lora
from .loop import ReflResult, ReflTrainer
from .observers import Observer

__all__ = [
    "Denoiser",
    "Evaluation",
    "Generator",
    "Guard",
    "Lora",
    "Observer",
    "ReflConfig",
    "ReflResult",
    "ReflTrainer",
    "Sampling",
    "config_from",
    "preset",
    "read_config",
    "read_lora",
    "write_lora",
]
