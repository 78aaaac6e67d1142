"""A small checkpoint, and pictures with a planted preference: people like red."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_imagereward
from PIL import Image
from sd_imagereward.core.preference.rankings import Ranking

PROMPTS = ("a cat", "a red dragon under the sun", "the city at night, oil painting")


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagereward(tmp_path_factory.mktemp("base"), image_size=32)


def red_is_better(folder: Path, prompts: int, per_prompt: int = 4, seed: int = 0) -> list[Ranking]:
    """Noise pictures, the redder the better; `prompts` rankings of `per_prompt` images."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rankings = []
    for number in range(prompts):
        reds = generator.permutation(per_prompt) * 50 + generator.integers(0, 30, per_prompt)
        images = []
        for place, red in enumerate(reds):
            pixels = generator.integers(0, 120, (36, 32, 3))
            pixels[..., 0] = np.clip(pixels[..., 0] * 0.3 + red, 0, 255)
            images.append(folder / f"{number}_{place}.png")
            Image.fromarray(pixels.astype(np.uint8)).save(images[-1])
        ranks = tuple(float(rank) for rank in (-reds).argsort().argsort() + 1)
        rankings.append(Ranking(str(number), f"{PROMPTS[number % 3]}, {number}", tuple(images), ranks))
    return rankings


@pytest.fixture(scope="session")
def red_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Ranking]:
    """80 prompts, 480 pairs."""
    return red_is_better(tmp_path_factory.mktemp("red"), 80)
