"""Scores do not depend on torch's defaults: dtype, device, and what accelerate does to new parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scorer_cases import CASES
from sd_imagereward.core import ImageRewardError, load_scorer

PROMPTS = ["a red castle", "a photo of a cat " * 20]
PIXELS = torch.rand(2, 3, 240, 250, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[name for name in CASES if "," not in name])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return CASES[request.param].make(tmp_path)


@pytest.fixture
def default_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_default_dtypes_change_nothing(spec: Path | str, default_dtype: None, dtype: torch.dtype) -> None:
    expected = load_scorer(spec, device="cpu", dtype="fp32", shared=False).score(PIXELS, PROMPTS)
    torch.set_default_dtype(dtype)
    found = load_scorer(spec, device="cpu", dtype="fp32", shared=False).score(PIXELS, PROMPTS)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_a_default_device_changes_nothing(spec: Path | str) -> None:
    expected = load_scorer(spec, device="cpu", dtype="fp32", shared=False).score(PIXELS, PROMPTS)
    with torch.device("meta"):
        found = load_scorer(spec, device="cpu", dtype="fp32", shared=False).score(PIXELS, PROMPTS)
    assert torch.equal(found, expected)


def test_empty_weights_are_refused_with_a_cure(spec: Path | str) -> None:
    accelerate = pytest.importorskip("accelerate")
    with accelerate.init_empty_weights(), pytest.raises(ImageRewardError, match="load_scorer outside of that block"):
        load_scorer(spec, device="cpu", dtype="fp32", shared=False)
