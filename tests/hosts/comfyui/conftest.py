"""Real ComfyUI: set COMFYUI_PATH to its checkout, and COMFYUI_PYTHON to its interpreter if that is not this one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_imagereward
from hosts.comfyui.server import Server

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH is not set: the checkout of ComfyUI to test with")
    return Path(path)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A base folder with this checkout, the tests' own node pack, and two tiny reward models."""
    base = tmp_path_factory.mktemp("comfyui")
    nodes = base / "custom_nodes"
    nodes.mkdir()
    (nodes / "sd-imagereward").symlink_to(repository, target_is_directory=True)
    (nodes / "tiny_pack").symlink_to(HERE / "tiny_pack", target_is_directory=True)
    models = base / "models" / "ImageReward"
    for seed, name in enumerate(("tiny.pt", "other.pt")):
        shutil.move(write_imagereward(models, seed=seed), models / name)
    (base / "input").mkdir()
    return base


@pytest.fixture(scope="session")
def server(comfyui: Path, base: Path) -> Iterator[Server]:
    server = Server(comfyui, os.environ.get("COMFYUI_PYTHON", sys.executable), base)
    server.get("/tiny")  # counts from here on
    yield server
    server.stop()
