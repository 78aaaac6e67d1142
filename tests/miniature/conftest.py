"""Networks that were trained once and are kept beside the tests: see tests/data/miniature/README.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sd_imagereward.core.scorers.loading import unload_all
from sd_imagereward.examples.miniature.kept import unpack
from sd_imagereward.examples.miniature.world import Split

KEPT = Path(__file__).resolve().parents[1] / "data" / "miniature"


class Kept(NamedTuple):
    folder: Path
    split: Split

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def reward(self) -> Path:
        return self.folder / "reward" / "ImageReward.safetensors"

    @property
    def clip(self) -> Path:
        return self.folder / "clip" / "model.safetensors"


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("miniature")
    return Kept(folder, Split.of(unpack(KEPT, folder)))


@pytest.fixture(autouse=True)
def _no_scorer_left() -> Iterator[None]:
    yield
    unload_all()
