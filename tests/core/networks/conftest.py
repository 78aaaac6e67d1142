"""A small checkpoint and pictures to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_imagereward
from PIL import Image
from sd_imagereward.core.preference.rankings import Ranking


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagereward(tmp_path_factory.mktemp("small"), image_size=32)


@pytest.fixture(scope="session")
def red_pictures_of_six(tmp_path_factory: pytest.TempPathFactory) -> list[Ranking]:
    """Three flat pictures for each of six prompts, the redder the better."""
    folder, rankings = tmp_path_factory.mktemp("red"), []
    for number in range(6):
        images = [folder / f"{number}_{place}.png" for place in range(3)]
        for place, image in enumerate(images):
            Image.fromarray(np.full((40, 36, 3), (60 * place + number, 90, 90), np.uint8)).save(image)
        rankings.append(Ranking(str(number), f"a cat, {number}", tuple(images), (3.0, 2.0, 1.0)))
    return rankings
