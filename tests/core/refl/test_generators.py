"""The contract of generators (tests/generator_contract.py) over the toy and the diffusers adapter.

ComfyUI's adapter passes it in the real host: tests/hosts/comfyui/test_generator.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from generator_contract import CHECKS, Scene
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl.randomness import SampleNoise
from toy_generator import ToyGenerator


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_toy_keeps_the_contract(check: Callable[[Scene], None]) -> None:
    check(Scene(ToyGenerator, guides=False))


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_diffusers_adapter_keeps_the_contract(
    check: Callable[[Scene], None], kind: str, make_pipeline: Callable[..., Any]
) -> None:
    pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
    pytest.importorskip("transformers", reason='transformers is not installed (pip install -e ".[refl]")')
    from sd_imagereward.core.refl import DiffusersGenerator

    check(Scene(lambda: DiffusersGenerator(make_pipeline(kind), device="cpu")))


def test_a_generator_that_cannot_encode_says_what_to_leave_out() -> None:
    with pytest.raises(ImageRewardError, match=r"ToyGenerator cannot encode images, .* set pretraining_data to none"):
        ToyGenerator().encode(torch.zeros(1, 3, 8, 8), SampleNoise.of_seeds([0]))
