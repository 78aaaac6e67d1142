"""The public names: each is described in docs/api.md, documented where it stands, and the only ones that pages import."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = "sd_imagereward.core"
MODULES = [CORE, *(f"{CORE}.{subject}" for subject in ("refl", "preference", "curate", "prompts"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.py"))]


def names_of(module: str) -> list[str]:
    return importlib.import_module(module).__all__


NAMES = [(module, name) for module in MODULES for name in names_of(module)]
each_name = pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m}.{n}" for m, n in NAMES])


def value_of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", MODULES)
def test_the_page_describes_every_name_and_no_other(module: str) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    section = page.split(f"\n## `{module}`\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    described = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(described) == sorted(names_of(module))


@each_name
def test_a_name_is_what_a_module_of_its_subject_defines(module: str, name: str) -> None:
    """No module is named like it: importing that one would put it in the name's place."""
    assert not inspect.ismodule(value_of(module, name))
    folder = ROOT.joinpath(*module.split(".")[1:])
    assert not (folder / f"{name}.py").exists()
    assert not (folder / name).is_dir()


@pytest.mark.parametrize("module", MODULES)
def test_a_shell_completes_the_names_before_their_first_use(module: str) -> None:
    assert set(names_of(module)) <= set(dir(importlib.import_module(module)))


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match=r"module 'sd_imagereward.core' has no attribute 'rate'"):
        value_of(CORE, "rate")


@each_name
def test_a_docstring_says_arguments_result_and_errors(module: str, name: str) -> None:
    value = value_of(module, name)
    text = inspect.getdoc(value) or ""
    assert text
    if not isinstance(value, FunctionType):
        return
    function = inspect.unwrap(value)
    parameters = inspect.signature(function).parameters
    for parameter in parameters:
        assert re.search(rf"^    {parameter}: ", text, re.MULTILINE), f"Args lack {parameter}"
    assert ("Args:" in text) == bool(parameters)
    assert ("Returns:" in text) == (function.__annotations__["return"] != "None")
    body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(body)):
        assert "Raises:" in text


@each_name
def test_a_class_says_what_it_is_made_from(module: str, name: str) -> None:
    value = value_of(module, name)
    if not isinstance(value, type) or dataclasses.is_dataclass(value) or "__init__" not in vars(value):
        return
    text = inspect.getdoc(value) or ""
    for parameter in [*inspect.signature(value).parameters]:
        assert re.search(rf"^    {parameter}: ", text, re.MULTILINE), f"Args lack {parameter}"


@each_name
def test_fields_are_explained_in_comments_behind_them(module: str, name: str) -> None:
    """One convention: a docstring below a field, or a list of fields in the class's docstring, says it elsewhere."""
    value = value_of(module, name)
    if not (isinstance(value, type) and dataclasses.is_dataclass(value)):
        return
    (definition,) = ast.parse(inspect.getsource(value)).body
    assert isinstance(definition, ast.ClassDef)
    texts = [node for node in definition.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    assert len(texts) == 1
    listed = re.compile("|".join(rf"(^|\. ){field.name}: " for field in dataclasses.fields(value)), re.MULTILINE)
    assert not listed.search(inspect.getdoc(value) or "")


def imports_in(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^ *from (sd_imagereward[\w.]*) import (.+)$", text, re.MULTILINE)
    return [(module, name.strip()) for module, names in found for name in names.split(",")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_public_names_alone(page: Path) -> None:
    assert not [(module, name) for module, name in imports_in(page) if (module, name) not in NAMES]


def test_pages_import_something() -> None:
    assert len({name for page in PAGES for _, name in imports_in(page)}) > 10


def test_the_modules_cost_no_torch() -> None:
    code = f"import sys, {', '.join(MODULES)}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests'); import conftest; {code}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "False"
