"""On a host that lacks any one thing that the extension uses, the host itself works as without the extension.

The things are read off the extension's own code, so that none is forgotten. Callbacks and `ui` are called without a guard, as
some hosts call them: what raises there costs the page, or every answer of the API.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from hosts.webui.contract.uses import uses_of
from PIL import Image

from .lacking import take
from .test_generation import files
from .test_panel import AxisOption

ROOT = Path(__file__).resolve().parents[2]


class AxisOptions(list[AxisOption]): ...


def things() -> list[tuple[str, str]]:
    """Dotted path and argument of each; `launch` is of the installer, which runs in a process of its own."""
    found = {(use.paths[0], use.keyword) for use in uses_of(ROOT) if not use.positional}
    return sorted((path, keyword) for path, keyword in found if not path.startswith("launch."))


METHODS = ("add_option", "set", "save")  # of the host's settings

# What the extension cannot be imported without: the host tells so and goes on without it.
NEEDED = {
    "modules.call_queue.queue_lock",
    "modules.call_queue.wrap_queued_call",
    "modules.devices",
    "modules.images",
    "modules.paths",
    "modules.processing",
    "modules.script_callbacks",
    "modules.scripts",
    "modules.scripts.Script",
    "modules.scripts_postprocessing",
    "modules.scripts_postprocessing.ScriptPostprocessing",
    "modules.shared",
    "modules.ui_components",
}


@pytest.fixture
def host(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stand-ins before anything of ours is imported, with an X/Y/Z plot."""
    grid: Any = ModuleType("scripts.xyz_grid")
    grid.axis_options, grid.AxisOption = AxisOptions([AxisOption("Nothing", str, None)]), AxisOption
    monkeypatch.setitem(sys.modules, grid.__name__, grid)
    webui.scripts.scripts_data[:] = [SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=grid)]
    return webui


@pytest.mark.parametrize(("path", "keyword"), things(), ids=lambda value: value)
def test_a_host_that_lacks_one_thing(
    host: SimpleNamespace,
    path: str,
    keyword: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    take(path, keyword, monkeypatch)
    try:
        door = open_door()
    except (ImportError, AttributeError):
        assert path in NEEDED
        assert host.script_callbacks.callbacks == {}
        return
    assert path not in NEEDED
    show_page(host, door)
    grid = generate(host, door, tmp_path / "always")
    assert grid or "could not" in capsys.readouterr().out
    run_script(host, door, tmp_path / "script")
    use_extras(host, door)
    assert host.scripts.errors == []


def test_each_hook_and_callback_passes_the_guarded_door(host: SimpleNamespace) -> None:
    """Whatever fails in it; those that use nothing cannot fail. What `run` raises before it generates reaches the user."""
    called = [callback for callbacks in vars(open_door()).values() for callback in vars(callbacks).values()]
    hooks = [one for one in called if isinstance(one, FunctionType) and not one.__name__.startswith("_")]
    callbacks = [one for registered in host.script_callbacks.callbacks.values() for one in registered]
    guarded = {one.__name__ for one in (*hooks, *callbacks) if hasattr(one, "is_guarded")}
    assert {"ui", "process", "postprocess", "before_save", "after_save", "add_routes"} <= guarded
    others = {one.__name__ for one in (*hooks, *callbacks) if not hasattr(one, "is_guarded") and one.__code__.co_names}
    assert others <= {"title", "run"}


def test_every_setting_and_flag_that_is_read_has_a_default(host: SimpleNamespace) -> None:
    open_door()
    ours = sys.modules["sd_imagereward.sdwebui_extension.host"]
    read = {use.paths[0] for use in uses_of(ROOT)} - {f"modules.shared.opts.{name}" for name in METHODS}
    for owner, defaults in (("opts", ours.OPTIONS), ("cmd_opts", ours.FLAGS)):
        start = f"modules.shared.{owner}."
        assert {path.removeprefix(start) for path in read if path.startswith(start)} == set(defaults)


@pytest.mark.parametrize("mask", [False, True])
def test_a_host_without_the_settings_works_by_the_defaults(
    host: SimpleNamespace, mask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door()
    p = host.processing.processing_for(tmp_path, door.companion())
    p.mask_for_overlay = Image.new("L", (40, 40)) if mask else None
    for key in sys.modules["sd_imagereward.sdwebui_extension.host"].OPTIONS:
        take(f"modules.shared.opts.{key}", "", monkeypatch)
    processed = door.script().run(p, "Technical", True, -99.0, True, 0, True, 0, 1)
    assert len(processed.images) == len(processed.infotexts) == 5
    assert processed.index_of_first_image == len(files(tmp_path / "grids")) == 1
    assert processed.comments.startswith("4 images scored with Technical")


def open_door() -> SimpleNamespace:
    spec = importlib.util.spec_from_file_location("image_reward.py", ROOT / "scripts" / "image_reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(
        script=module.ImageRewardScript, companion=module.ImageRewardCompanion, step=module.ImageRewardStep
    )


def show_page(host: SimpleNamespace, door: SimpleNamespace) -> None:
    import fastapi

    for event in ("ui_settings", "before_ui", "ui_tabs"):
        host.script_callbacks.call(event)
    for key, info in getattr(host.shared.opts, "data_labels", {}).items():
        if key.startswith("image_reward_") and callable(info.component_args):
            info.component_args()
    for axis in sys.modules["scripts.xyz_grid"].axis_options:
        if axis.choices is not None:
            axis.choices()
    for script in (door.script(), door.companion()):
        script.title()
        script.show(False)
        list(script.ui(False) or [])
    app = fastapi.FastAPI()
    app.add_api_route("/sdapi/v1/txt2img", lambda: None)
    host.script_callbacks.call("app_started", None, app)


def generate(host: SimpleNamespace, door: SimpleNamespace, folder: Path) -> bool:
    """With the accordion on: four images come out and are saved. Returns whether their grid is, too."""
    companion = door.companion()
    companion.args_from, companion.args_to = 1, 3
    p = host.processing.processing_for(folder, companion, script_args=(0, True, "Technical"))
    processed = host.processing.process_images(p)
    assert len(files(folder / "images")) == 4
    assert all("Seed:" in text for text in processed.infotexts)
    assert len(processed.images) - processed.index_of_first_image == 4
    return processed.index_of_first_image == len(files(folder / "grids")) == 1


def run_script(host: SimpleNamespace, door: SimpleNamespace, folder: Path) -> None:
    """The script may refuse to run, but not once the host has generated anything."""
    p = host.processing.processing_for(folder, door.companion())
    try:
        processed = door.script().run(p, "Technical", False, 0.0, True, 3, True, 0, 1)
    except Exception:
        assert files(folder) == []
    else:
        assert len(processed.images) >= 3
        assert len(files(folder / "images")) >= 3


def use_extras(host: SimpleNamespace, door: SimpleNamespace) -> None:
    step = door.step()
    controls = step.ui()
    pp = host.scripts_postprocessing.PostprocessedImage(host.processing.noise(1))
    values = {
        name: value for name, value in {"enable": True, "scorer": "Technical", "prompt": ""}.items() if name in controls
    }
    step.process_firstpass(pp, **values)
    step.process(pp, **values)
