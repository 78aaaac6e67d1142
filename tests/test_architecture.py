"""The arrows of the house plan, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "sdwebui_extension", "comfyui_nodes", "scripts")
HOST_MODULES = {
    "core": {"gradio", "modules", "comfy", "comfy_api", "folder_paths", "nodes", "fastapi"},
    "sdwebui_extension": {"comfy", "comfy_api", "folder_paths", "nodes"},
    "comfyui_nodes": {"gradio", "modules", "fastapi"},
}
# Within core, from top to bottom: a room may import from its own layer and those below, never from above.
LAYERS = (
    ("cli", "drop_in", "gallery"),  # doors
    ("refl", "preference", "curate", "prompts"),  # subjects
    ("scoring", "training", "pages"),  # shared work
    ("scorers",),  # scoring
    ("pictures",),  # matter
    ("infotext", "networks", "weights", "files", "demo", "errors"),  # ground
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
OPTIONAL = {"transformers", "diffusers", "accelerate", "peft", "datasets", "gradio", "ray", "faiss", "wandb", "yaml"}
OPTIONAL |= {"sentence_transformers", "tensorboard", "matplotlib", "pandas", "pyarrow", "torchvision", "timm", "clip"}


def _python_files() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))
    yield from (path for path in (ROOT / "__init__.py", ROOT / "install.py") if path.exists())


PYTHON_FILES = list(_python_files())


def imports_of(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(absolute dotted name under the root, or the module's own name; relative level; whether at the top of the module)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module or "", 0, id(node) in top
                continue
            package = path.relative_to(ROOT).parent.parts
            base = package[: len(package) - (node.level - 1)]
            target = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield ".".join([*target, alias.name]), node.level, id(node) in top


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_inside_the_repository_are_relative(path: Path) -> None:
    bare = [name for name, level, _ in imports_of(path) if level == 0 and name.split(".")[0] in ROOMS]
    assert not bare, f"{path.name} imports {bare} absolutely; another extension may own that name"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_imports_a_host_that_is_not_its_own(path: Path) -> None:
    forbidden = HOST_MODULES.get(room_of(path), set())
    if path.parent == ROOT / "core" / "gallery":
        forbidden = forbidden - {"gradio"}  # a Gradio page of its own
    found = {name.split(".")[0] for name, level, _ in imports_of(path) if level == 0} & forbidden
    assert not found


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_two_host_rooms_never_meet_and_core_knows_neither(path: Path) -> None:
    targets = {name.split(".")[0] for name, level, _ in imports_of(path) if level > 0}
    allowed = {
        "core": {"core"},
        "sdwebui_extension": {"core", "sdwebui_extension"},
        "comfyui_nodes": {"core", "comfyui_nodes"},
        "scripts": {"sdwebui_extension"},
        "__init__.py": {"core", "comfyui_nodes"},
        "install.py": set(),
    }[room_of(path)]
    assert targets <= allowed, f"{path.relative_to(ROOT)} reaches {targets - allowed}"


CORE_FILES = sorted((ROOT / "core").rglob("*.py"))


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_point_downwards(path: Path) -> None:
    own = core_room(path.relative_to(ROOT).with_suffix("").parts)
    if own == "__init__":
        return
    assert own in LAYER, f"core/{own} has no layer in the house plan yet; give it one here"
    for name, level, _ in imports_of(path):
        target = core_room(name.split("."))
        if level > 0 and name.startswith("core.") and target in LAYER:
            assert LAYER[target] >= LAYER[own], f"{path.relative_to(ROOT)} reaches up to core/{target}"


def test_no_loose_file_on_the_threshold_of_core() -> None:
    assert {path.name for path in (ROOT / "core").glob("*.py")} == {"__init__.py", "errors.py"}


def test_no_circle_of_files() -> None:
    """Files that import no other are taken away until none is left; what stays is a circle, or leads to one."""
    arrows = {module_name(path): files_imported(path) for path in PYTHON_FILES}
    while leaves := [name for name, targets in arrows.items() if not targets & (arrows.keys() - {name})]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"these files import each other in a circle: {sorted(arrows)}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def files_imported(path: Path) -> set[str]:
    """The files of the repository that this one imports, at its top or late, but for the packages it lies in."""
    names = {module_name(file) for file in PYTHON_FILES}
    own = module_name(path)
    found = set()
    for name, level, _ in imports_of(path):
        if level > 0:
            found.add(name if name in names else name.rpartition(".")[0])
    return {name for name in found & names if name != own and not own.startswith(name + ".")}


def core_room(parts: object) -> str:
    return list(parts)[1] if len(list(parts)) > 1 else "__init__"  # type: ignore[call-overload]


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_extras_are_imported_late(path: Path) -> None:
    early = {name.split(".")[0] for name, level, top in imports_of(path) if level == 0 and top} & OPTIONAL
    assert not early, f"{path.relative_to(ROOT)} needs {early} to be imported at all"


def pyproject() -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10, where pytest brings tomli along
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    import sd_imagereward

    assert pyproject()["project"]["version"] == sd_imagereward.__version__
    assert f"version: {sd_imagereward.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {sd_imagereward.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_package_is_listed_in_pyproject() -> None:
    """The root is the package, which no automatic discovery knows; so the list is checked here."""
    listed = set(pyproject()["tool"]["setuptools"]["packages"])
    rooms = ("core", "sdwebui_extension", "comfyui_nodes")
    folders = [p.parent for room in rooms for p in (ROOT / room).rglob("__init__.py")]
    found = {"sd_imagereward"} | {"sd_imagereward." + ".".join(f.relative_to(ROOT).parts) for f in folders}
    assert listed == found


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import conftest; from sd_imagereward.core.cli import make_parser; "
        "import sd_imagereward; make_parser(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
