"""One server for all scenes. Nothing here runs unless SDWEBUI_PATH names a checkout of a WebUI.

SDWEBUI_PYTHON: the Python of its environment. SDWEBUI_CHECKPOINT: a Stable Diffusion checkpoint; without it
`make_checkpoint.py` makes a tiny one, which AUTOMATIC1111 alone accepts. SDWEBUI_ARGS: more arguments.
SDWEBUI_SIDE, SDWEBUI_STEPS: smaller pictures and fewer steps, for full-size models on a CPU.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_imagereward

from .neo import Neo
from .sdnext import SDNext
from .server import WebUI


def kind_of(root: Path) -> type[WebUI]:
    """The class for the host at hand."""
    return next((kind for kind in (SDNext, Neo) if kind.is_at(root)), WebUI)


def webui_root() -> Path:
    path = os.environ.get("SDWEBUI_PATH")
    if not path or not os.environ.get("SDWEBUI_PYTHON"):
        pytest.skip("set SDWEBUI_PATH to a WebUI's checkout and SDWEBUI_PYTHON to its Python to run it")
    return Path(path)


@pytest.fixture(scope="session")
def sd_checkpoint(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    if os.environ.get("SDWEBUI_CHECKPOINT"):
        return Path(os.environ["SDWEBUI_CHECKPOINT"])
    root, folder = webui_root(), tmp_path_factory.mktemp("stable-diffusion")
    maker, made, arguments = kind_of(root).checkpoint_maker(root, folder)
    tokenizer = str(shared_data / "clip-tokenizer")
    command = [os.environ["SDWEBUI_PYTHON"], str(Path(__file__).with_name(maker)), *arguments, tokenizer]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def furnish(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, request: pytest.FixtureRequest
) -> Callable[..., WebUI]:
    """A WebUI that is not started yet: more arguments of its command line, other fields of `WebUI`."""
    root = webui_root()

    def furnish(*more: str, checkpoint: Path | None = None, **fields: Any) -> WebUI:
        checkpoint = checkpoint or request.getfixturevalue("sd_checkpoint")
        data = tmp_path_factory.mktemp("webui")
        models = data / "models"
        (models / "Stable-diffusion").mkdir(parents=True)
        write_imagereward(models / "ImageReward")
        kind = kind_of(root)
        arguments = (*shlex.split(os.environ.get("SDWEBUI_ARGS", kind.default_arguments)), *more)
        server = kind(root, os.environ["SDWEBUI_PYTHON"], data, models, checkpoint, repository, arguments, **fields)
        server.side = int(os.environ.get("SDWEBUI_SIDE", server.side))
        server.steps = int(os.environ.get("SDWEBUI_STEPS", server.steps))
        return server

    return furnish


@pytest.fixture(scope="session")
def webui(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    server = furnish()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def fresh(webui: WebUI) -> Iterator[WebUI]:
    """The server with default settings and no output files."""
    for kind in ("txt2img-images", "txt2img-grids", "img2img-images", "img2img-grids", "extras-images"):
        for file in webui.saved(kind):
            file.unlink()
    yield webui
    webui.set_options(**DEFAULTS, **webui.defaults)


DEFAULTS = {
    "samples_format": "png",
    "samples_filename_pattern": "",
    "save_txt": False,
    "return_grid": True,
    "image_reward_rejected": "Drop",
    "image_reward_after": "Move to RAM",
    "image_reward_decimals": 4,
}


@pytest.fixture
def shot(page: Any) -> Iterator[None]:
    """A screenshot after the scene, if a folder is given for it."""
    yield
    folder = os.environ.get("IMAGEREWARD_SCREENSHOTS")
    if folder:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
        page.screenshot(Path(folder) / f"{name}.png")
