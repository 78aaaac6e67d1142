"""ReFL on stand-ins of ComfyUI's models: the same tiny networks that the host's tests build, in the stand-ins' classes."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from comfyui_scenes import Networks
from hosts.comfyui.entering import tiny_models
from torch import Tensor


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return tiny_models()


@pytest.fixture
def networks(tiny: ModuleType) -> Callable[..., Networks]:
    """`networks("sd1")`: fresh ones, equal to the bit each time."""

    def make(kind: str = "sd1") -> Networks:
        return tiny.make_model(0, kind), tiny.make_clip(1), tiny.make_vae(2, kind)

    return make


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each prediction of a diffusion model so far."""
    import comfy.model_base

    made: list[int] = []
    real = comfy.model_base.BaseModel.apply_model

    def counting(self: Any, *args: Any, **keywords: Any) -> Tensor:
        made.append(len(made))
        return real(self, *args, **keywords)

    monkeypatch.setattr(comfy.model_base.BaseModel, "apply_model", counting)
    return made
