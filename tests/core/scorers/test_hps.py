"""What HPS sees of a picture: all of it, on black, and the same when it is prepared twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scorer_cases import CASES
from sd_imagereward.core import load_scorer


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("shape", [(300, 200), (224, 224)])
def test_preparing_twice_changes_nothing(tmp_path: Path, shape: tuple[int, int], with_gradient: bool) -> None:
    scorer = load_scorer(CASES["hpsv2.1"].make(tmp_path), device="cpu", dtype="fp32")
    pixels = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_(with_gradient)
    once = scorer.prepare(pixels)
    assert once.shape == (1, 3, 224, 224)
    assert torch.equal(scorer.prepare(once), once)
    assert torch.equal(scorer.prepare(once.detach()), once)  # values between 8-bit levels stay as they are
