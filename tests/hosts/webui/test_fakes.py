"""The stand-ins in `tests/fakes/webui/modules` say nothing that a real host does not: names, classes, parameters.

Both are read, not imported, so that this needs a checkout (SDWEBUI_PATH) and no environment of the host.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

FAKES = Path(__file__).resolve().parent.parent.parent / "fakes" / "webui" / "modules"
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Helps of the tests and simplifications: the state of a stand-in, or a class that the host spells differently.
OWN = {
    "shared.py": {"Options", "OptionInfo", "State", "CommandLine"},  # in modules/options.py, shared_state.py, argparse
    "devices.py": {"collected"},
    "script_callbacks.py": {"callbacks", "call"},
    "scripts.py": {"errors", "ScriptRunner.call", "ScriptRunner.__init__"},
    "processing.py": {"SIZE", "noise", "processing_for", "_quoted", "_one_batch", "_grid", "_hook"},
}


@pytest.fixture(scope="session")
def modules() -> Path:
    path = os.environ.get("SDWEBUI_PATH")
    if not path:
        pytest.skip("set SDWEBUI_PATH to a WebUI's checkout to compare the stand-ins with it")
    return Path(path) / "modules"


@pytest.mark.parametrize("fake", sorted(FAKES.glob("*.py")), ids=lambda path: path.name)
def test_a_stand_in_has_only_what_the_host_has(modules: Path, fake: Path) -> None:
    if fake.name == "__init__.py":
        return
    real = _parsed(modules / fake.name)
    real_names = _names(real)
    own = OWN.get(fake.name, set())
    for node in _parsed(fake).body:
        for name in _defined(node):
            if name in own or name.startswith("__"):
                continue
            assert name in real_names, f"{fake.name}: the host has no {name}"
            there = real_names[name]
            if isinstance(node, ast.ClassDef) and isinstance(there, ast.ClassDef):
                _check_methods(node, there, fake.name, own)
            elif isinstance(node, Function) and isinstance(there, Function):
                _check_parameters(node, there, f"{fake.name}: {name}")


def test_options_of_the_host_have_what_ours_use(modules: Path) -> None:
    [real] = [
        n for n in ast.walk(_parsed(modules / "options.py")) if isinstance(n, ast.ClassDef) and n.name == "OptionInfo"
    ]
    [fake] = [n for n in _parsed(FAKES / "shared.py").body if isinstance(n, ast.ClassDef) and n.name == "OptionInfo"]
    _check_methods(fake, real, "OptionInfo", set())


def _check_methods(fake: ast.ClassDef, real: ast.ClassDef, file: str, own: set[str]) -> None:
    methods = {node.name: node for node in real.body if isinstance(node, Function)}
    for node in fake.body:
        if isinstance(node, Function) and f"{fake.name}.{node.name}" not in own:
            if node.name == "__init__" and node.name not in methods:
                continue  # a dataclass there
            assert node.name in methods, f"{file}: the host's {fake.name} has no {node.name}"
            _check_parameters(node, methods[node.name], f"{file}: {fake.name}.{node.name}")


def _check_parameters(fake: Function, real: Function, where: str) -> None:
    there, here = _parameters(real), _parameters(fake)
    missing = [name for name in here if name not in there]
    assert not missing or real.args.kwarg, f"{where}: the host takes no {missing}, but {there}"
    kept = [name for name in there if name in here]
    assert kept == [name for name in here if name in there], f"{where}: the host's order is {there}"


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, *Function.__args__)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _names(tree: ast.Module) -> dict[str, ast.stmt]:
    """Everything a module offers: definitions (also below `if` and `try`) and imports."""
    found: dict[str, ast.stmt] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            for name in _defined(node):
                found.setdefault(name, node)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found.setdefault((alias.asname or alias.name).split(".")[0], node)
    return found
