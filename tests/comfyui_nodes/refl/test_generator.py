"""The contract of generators (tests/generator_contract.py) over ComfyUI's adapter, on the stand-ins of the host."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from comfyui_scenes import KINDS, Networks
from generator_contract import CHECKS, Scene
from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
from sd_imagereward.comfyui_nodes.refl.memory import training_mode


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_comfyuis_adapter_keeps_the_contract(
    check: Callable[[Scene], None], kind: str, networks: Callable[..., Networks], tiny: ModuleType
) -> None:
    with training_mode():
        check(Scene(lambda: ComfyGenerator(*networks(kind)), sampler="euler" if kind in tiny.FLOWS else "ddpm"))
