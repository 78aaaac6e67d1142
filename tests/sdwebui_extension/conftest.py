"""The extension on stand-ins of the host, with a tiny random ImageReward in the host's model folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import write_imagereward

FAKES = Path(__file__).resolve().parent.parent / "fakes" / "webui"
HOST_PACKAGES = ("modules", "gradio", "fastapi", "starlette")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_imagereward(folder / "ImageReward")
    return folder


@pytest.fixture
def webui(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The stand-ins by name, freshly imported; nothing of them, nor of the extension on top, stays behind."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    monkeypatch.setattr("sd_imagereward.core.weights.locate._host_folders", [])
    monkeypatch.syspath_prepend(str(FAKES))
    importlib.invalidate_caches()
    found = SimpleNamespace(**{name: importlib.import_module(f"modules.{name}") for name in FAKE_MODULES})
    found.paths.models_path = str(models)
    yield found
    service = sys.modules.get("sd_imagereward.sdwebui_extension.service")
    if service is not None:
        service.service.unload()
    for name in [name for name in sys.modules if _is_ours(name)]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture(autouse=True)
def host(webui: SimpleNamespace) -> SimpleNamespace:
    """The stand-ins and the extension's modules by name, with its callbacks registered."""
    for name in EXTENSION_MODULES:
        setattr(webui, name, importlib.import_module(f"sd_imagereward.sdwebui_extension.{name}"))
    webui.callbacks.register()
    webui.script_callbacks.call("ui_settings")
    return webui


FAKE_MODULES = (
    "shared",
    "devices",
    "paths",
    "call_queue",
    "script_callbacks",
    "scripts",
    "images",
    "processing",
    "scripts_postprocessing",
    "ui_components",
)
EXTENSION_MODULES = (
    "host",
    "request",
    "settings",
    "service",
    "job",
    "saving",
    "results",
    "rounds",
    "companion",
    "script",
    "panel",
    "xyz",
    "extras",
    "api",
    "callbacks",
    "gallery_tab",
)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in HOST_PACKAGES or name.startswith("sd_imagereward.sdwebui_extension")


@pytest.fixture
def p(host: SimpleNamespace, tmp_path: Path) -> Any:
    """Four pictures of two batches, saved under `tmp_path`, with the companion's hooks."""
    return host.processing.processing_for(tmp_path, host.companion.ImageRewardCompanion())


@pytest.fixture
def run(host: SimpleNamespace, p: Any) -> Iterator[Any]:
    """`run(sort=True, ...)`: the script from the dropdown, with the panel's arguments by name."""

    def call(**arguments: Any) -> Any:
        names = ("scorer", "filter", "threshold", "sort", "keep_best", "plain_prompt", "until", "tries")
        unknown = set(arguments) - set(names)
        assert not unknown, unknown
        return host.script.ImageRewardScript().run(p, *(arguments.get(name) for name in names))

    yield call
    assert host.scripts.errors == [], "\n".join(host.scripts.errors)


@pytest.fixture
def no_weights(host: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint anywhere, no network."""
    from sd_imagereward.core.weights import locate

    host.service.service.unload()
    monkeypatch.setattr(locate, "_host_folders", [])
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(locate.Path, "expanduser", lambda path: tmp_path / "home" / path.name)
    host.paths.models_path = str(tmp_path / "models")
