from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.scorers import loading


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ImageReward of a megabyte in the real layout, its vocabulary beside it."""
    return checkpoints.write_imagereward(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def no_scorer_outlives_its_test() -> Iterator[None]:
    yield
    loading.unload_all()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Four pictures of unequal size and format."""
    paths = []
    for i, (width, height, suffix) in enumerate(
        [(64, 48, "png"), (120, 200, "jpg"), (224, 224, "webp"), (31, 300, "png")]
    ):
        array = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{i}.{suffix}")
        Image.fromarray(array).save(paths[-1])
    return paths
