"""The contract of generators (tests/generator_contract.py) over ComfyUI's adapter, on the stand-ins of the host."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from comfyui_scenes import KINDS, Networks
from generator_contract import CHECKS, Scene
from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
from sd_imagereward.comfyui_nodes.refl.memory import training_mode
from sd_imagereward.core.refl.generator import Denoiser
from torch import Tensor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_comfyuis_adapter_keeps_the_contract(
    check: Callable[[Scene], None], kind: str, networks: Callable[..., Networks], tiny: ModuleType
) -> None:
    with training_mode():
        check(Scene(lambda: ComfyGenerator(*networks(kind)), sampler="euler" if kind in tiny.FLOWS else "ddpm"))


def test_checkpointing_runs_blocks_a_second_time_in_the_backward_pass_and_only_when_on(
    networks: Callable[..., Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    runs: list[ResBlock] = []
    real = ResBlock.forward

    def counting(self: ResBlock, x: Tensor, emb: Tensor) -> Tensor:
        runs.append(self)
        return real(self, x, emb)

    monkeypatch.setattr(ResBlock, "forward", counting)
    counts = []
    with training_mode():
        scene = Scene(lambda: ComfyGenerator(*networks()), sampler="ddpm")
        for on in (False, True, False):
            scene.generator.gradient_checkpointing(on)
            runs.clear()
            scene.rollout(backward_through_x0)
            counts.append(len(runs))
    assert counts == [counts[0], 2 * counts[0], counts[0]]


def backward_through_x0(denoiser: Denoiser) -> None:
    with torch.enable_grad():
        x0 = denoiser.x0(denoiser.start().requires_grad_(True), 1)
        torch.autograd.backward(x0.square().sum())
