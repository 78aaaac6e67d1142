"""The four scores that the ImageReward repository publishes. Runs where the real weights are; downloads nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sd_imagereward.core import load_scorer, score_images
from sd_imagereward.core.scorers.registry import scorer_infos
from sd_imagereward.core.weights.locate import find_weight, search_folders

PROMPT = "a painting of an ocean with clouds and birds, day time, low depth field effect"
PUBLISHED = [0.5812, 0.2745, -1.4132, -2.0296]  # README of THUDM/ImageReward, 1.webp to 4.webp


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 2e-3), ("fp16", 0.02)])
def test_the_published_scores(shared_data: Path, dtype: str, tolerance: float) -> None:
    weights = scorer_infos()["imagereward"].weights
    missing = [weight.name for weight in weights if find_weight(weight) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in any of {', '.join(map(str, search_folders()))}")
    scorer = load_scorer("imagereward", device="cpu", dtype=dtype)
    images = [shared_data / "sample_images" / f"{i}.webp" for i in (1, 2, 3, 4)]
    assert score_images(scorer, images, PROMPT).total.tolist() == pytest.approx(PUBLISHED, abs=tolerance)
