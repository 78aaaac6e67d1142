"""The nodes on stand-ins of ComfyUI (`tests/fakes/comfyui`), with a fresh base folder for each test."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

FAKES = Path(__file__).resolve().parent.parent / "fakes" / "comfyui"
sys.path.insert(0, str(FAKES))

import comfy.model_management as model_management  # noqa: E402, stand-ins are on the path from here on
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
from checkpoints import write_imagereward  # noqa: E402
from sd_imagereward.comfyui_nodes import folders, hosting  # noqa: E402
from sd_imagereward.core.scorers.loading import load_scorer, unload_all  # noqa: E402
from sd_imagereward.core.weights import locate  # noqa: E402


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(locate, "_host_folders", [])
    folder_paths.use(tmp_path)
    folders.register()
    model_management.reset()
    comfy.utils.reset()
    yield tmp_path
    gc.collect()
    unload_all()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagereward(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def model(checkpoint: Path) -> hosting.RewardModel:
    return hosting.host(load_scorer(checkpoint, device="cpu"), torch.device("cpu"))


@pytest.fixture
def pictures() -> Callable[..., torch.Tensor]:
    """IMAGE (n, h, w, 3): the same for the same seed."""

    def make(n: int = 4, h: int = 40, w: int = 56, seed: int = 0) -> torch.Tensor:
        return torch.rand(n, h, w, 3, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the scorer was given."""
    from sd_imagereward.core.scorers.imagereward import ImageRewardScorer

    calls: list[int] = []
    real: Any = ImageRewardScorer.score

    def counting(self: Any, pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        calls.append(len(prompts))
        return real(self, pixels, prompts)

    monkeypatch.setattr(ImageRewardScorer, "score", counting)
    return calls
