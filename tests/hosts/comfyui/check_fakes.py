"""Run by the host's Python: every class and function of the stand-ins exists in the host and takes what the stand-in takes."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entering import enter_host

# Only the stand-ins have these: they set a test up, record what was asked, or stand where the host has a method or a product.
OWN = {
    "comfy.ldm.modules.diffusionmodules.mmdit.FREQUENCIES",
    "comfy.ldm.modules.diffusionmodules.mmdit.unpatchify",
    "comfy.ldm.flux.model.FREQUENCIES",
    "comfy.model_management.cpu",
    "comfy.model_management.interrupted",
    "comfy.model_management.requests",
    "comfy.model_management.reset",
    "comfy.utils.on_update",
    "comfy.utils.previews",
    "comfy.utils.reset",
    "comfy.utils.shown",
    "folder_paths.use",
}
SKIPPED_FILES = {"run_node.py", "node_texts.py"}


def differences(fakes: Path) -> Iterator[str]:
    for file in sorted(fakes.rglob("*.py")):
        if file.name in SKIPPED_FILES:
            continue
        name = ".".join(file.relative_to(fakes).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        yield from _compare(name, ast.parse(file.read_text(encoding="utf-8")).body, module)


def _compare(where: str, body: list[ast.stmt], real: Any) -> Iterator[str]:
    for statement in body:
        for defined in _names(statement):
            name = f"{where}.{defined}"
            if name in OWN or (defined.startswith("_") and not defined.startswith("__")):
                continue
            if not hasattr(real, defined):
                yield f"{name} is not in the host"
                continue
            found = getattr(real, defined)
            if isinstance(statement, ast.ClassDef):
                yield from _compare(name, statement.body, found)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _arguments(name, statement, found)


def _names(statement: ast.stmt) -> Iterator[str]:
    """What a statement defines, but for annotations without a value, which say what an instance has."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _arguments(name: str, fake: ast.FunctionDef | ast.AsyncFunctionDef, real: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(real).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    ours = [one.arg for one in [*fake.args.args, *fake.args.kwonlyargs] if one.arg not in ("self", "cls")]
    for one in ours:
        if one not in parameters:
            yield f"{name} takes no {one!r} in the host, but {list(parameters)}"


if __name__ == "__main__":
    fakes, comfyui = Path(sys.argv[1]), sys.argv[2]
    enter_host(comfyui)
    found = list(differences(fakes))
    print("\n".join(found))
    sys.exit(bool(found))
