"""Files are replaced, written and removed by `core/files` alone: it waits for those who hold them and leaves no halves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("core", "comfyui_nodes", "sdwebui_extension", "scripts")
FILES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.parent != ROOT / "core" / "files"]
OF_OS = {"replace", "rename", "renames", "remove", "unlink", "link", "truncate"}
OF_SHUTIL = {"move", "copyfile", "copy", "copy2", "copyfileobj"}
OF_PATHS = {"unlink", "write_text", "write_bytes", "hardlink_to"}


def loose(source: str) -> Iterator[str]:
    """Calls that change files by themselves."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        arguments = len(node.args) + len(node.keywords)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        module = owner.id if isinstance(owner, ast.Name) else ""
        if (
            (module == "os" and name in OF_OS)
            or (module == "shutil" and name in OF_SHUTIL)
            or (owner is not None and name in OF_PATHS)
            # of a path; a text's replace takes two arguments or more, and those of dataclasses and dates take keywords
            or (owner is not None and name == "replace" and arguments == 1 and len(node.args) == 1)
            or (
                name == "open"
                and any(_empties(argument) for argument in (*node.args, *(k.value for k in node.keywords)))
            )
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _empties(argument: ast.expr) -> bool:
    """Whether it is the mode of an `open` that empties the file."""
    return isinstance(argument, ast.Constant) and argument.value in ("w", "wb", "w+", "w+b", "wt")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_replaces_writes_or_removes_a_file_by_itself(path: Path) -> None:
    assert not list(loose(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    [
        *("os.replace(a, b)", "os.rename(a, b)", "shutil.move(a, b)", "shutil.copyfile(a, b)", "a.replace(b)"),
        *("a.unlink(missing_ok=True)", "os.remove(a)", "a.write_text(b)", "open(a, 'w')", "a.open(mode='wb')"),
    ],
)
def test_such_a_call_is_seen(source: str) -> None:
    assert list(loose(source))


@pytest.mark.parametrize(
    "source",
    ["'a'.replace('b', 'c')", "replace(settings, steps=1)", "now.replace(tzinfo=None)", "open(a)", "open(a, 'a')"],
)
def test_others_are_not(source: str) -> None:
    assert not list(loose(source))
