"""Reward feedback learning (ReFL): tune an image generator with a differentiable reward (ImageReward, arXiv 2304.05977)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_names

if TYPE_CHECKING:
    from .config import ReflConfig as ReflConfig
    from .config import config_from as config_from
    from .config import preset as preset
    from .config import read_config as read_config
    from .diffusers_generator import DiffusersGenerator as DiffusersGenerator
    from .generator import Denoiser as Denoiser
    from .generator import Generator as Generator
    from .generator import Sampling as Sampling
    from .guard import Evaluation as Evaluation
    from .guard import Guard as Guard
    from .loop import ReflTrainer as ReflTrainer
    from .lora import Lora as Lora
    from .lora_files import LoraRecord as LoraRecord
    from .lora_files import read_lora as read_lora
    from .lora_files import write_lora as write_lora
    from .observers import Observer as Observer
    from .observers import ProgressBar as ProgressBar
    from .report import write_report as write_report
    from .result import ReflResult as ReflResult
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
