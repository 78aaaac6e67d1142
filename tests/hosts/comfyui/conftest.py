"""Real ComfyUI: set COMFYUI_PATH to its checkout, and COMFYUI_PYTHON to its interpreter if that is not this one.

COMFYUI_FRONTEND: the `static` folder of another comfyui-frontend-package, in place of the one installed beside it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from checkpoints import write_imagereward
from hosts.comfyui.process import host_python
from hosts.comfyui.server import Server

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
Start = Callable[..., AbstractContextManager[Server]]


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


def furnish(base: Path, *packs: str) -> Path:
    """A base folder: the tests' own node pack, links called `packs` to this checkout, two tiny models and their mixture."""
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True)
    (nodes / "tiny_pack").symlink_to(HERE / "tiny_pack", target_is_directory=True)
    for name in packs:
        (nodes / name).symlink_to(REPOSITORY, target_is_directory=True)
    models = base / "models" / "ImageReward"
    for seed, name in enumerate(("tiny.pt", "other.pt")):
        shutil.move(write_imagereward(models, seed=seed), models / name)
    (models / "mine.json").write_text('{"mix": {"tiny.pt": 1, "other.pt": 0.5}}')
    (base / "input").mkdir()
    return base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("comfyui"), "sd-imagereward")


@pytest.fixture(scope="session")
def server(comfyui: Path, base: Path) -> Iterator[Server]:
    page = os.environ.get("COMFYUI_FRONTEND")
    with started(comfyui, base, *(["--front-end-root", page] if page else [])) as server:
        yield server


@contextmanager
def started(comfyui: Path, base: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    python = host_python()
    server = Server(comfyui, python, base, *arguments, environment=environment)
    try:
        server.get("/tiny")  # counts from here on
        yield server
    finally:
        server.stop()


@pytest.fixture
def start(comfyui: Path) -> Start:
    """Another server: `with start(base, "--lowvram") as server`."""

    def start(base: Path, *arguments: str, **environment: str) -> AbstractContextManager[Server]:
        return started(comfyui, base, *arguments, **environment)

    return start
