from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sd_imagereward as RM
from sd_imagereward.core.weights import locate


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What the package answered on the same weights: tests/reference/make_drop_in_goldens.py."""
    numbers: dict[str, Any] = json.loads((Path(__file__).parents[2] / "goldens" / "drop_in.json").read_text())
    return numbers


@pytest.fixture
def model(tiny_checkpoint: Path) -> RM.ImageReward:
    return RM.load(str(tiny_checkpoint), device="cpu")


@pytest.fixture(autouse=True)
def no_folder_outlives_its_test() -> Iterator[None]:
    """`download_root` is looked into from then on."""
    before = list(locate._host_folders)
    yield
    locate._host_folders[:] = before


@pytest.fixture(scope="session")
def make_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Tiny pipelines by kind; the same weights each time."""
    import pipelines

    folder = tmp_path_factory.mktemp("pipelines")
    return lambda kind, seed=0: pipelines.pipeline(kind, folder, seed)
