"""What ComfyUI-Manager and the registry read of the repository without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sd_imagereward.comfyui_nodes.extension import NODES


def test_comfyui_manager_reads_the_ids_of_our_nodes_and_no_others(repository: Path) -> None:
    found = [one for file in python_files(repository) for one in listed_nodes(file.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(node.define_schema().node_id for node in NODES)


def python_files(folder: Path) -> Iterator[Path]:
    """The Manager reads every folder, tests too."""
    for file in sorted(folder.rglob("*.py")):
        if not any(".git" in part or part in ("__pycache__", "build") for part in file.relative_to(folder).parts):
            yield file


def listed_nodes(code: str) -> set[str]:
    """The ids that the Manager's `scanner.py` finds: literal `node_id=` of V3 schemas, literal names in V1 mappings."""
    classes = (one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.ClassDef))
    schemas = (first_schema_id(one) for one in classes if any(last_name(base) == "ComfyNode" for base in one.bases))
    mappings = re.findall(r"_CLASS_MAPPINGS\s*(?::\s*\w+\s*)?=\s*(?:\\\s*)?{([^}]*)}", code)
    of_mappings = (name for text in mappings for name in re.findall(r"""["']([^"']*)["']\s*:""", text))
    added = re.findall(r"""^[^=\n]*_CLASS_MAPPINGS\[["'](.*?)["']\]""", code, flags=re.MULTILINE)
    return {one for one in (*schemas, *of_mappings, *added) if one}


def first_schema_id(node: ast.ClassDef) -> str | None:
    methods = (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "define_schema")
    for call in (one for method in methods for one in ast.walk(method) if isinstance(one, ast.Call)):
        for keyword in call.keywords if last_name(call.func) == "Schema" else ():
            if keyword.arg == "node_id" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return None


def last_name(expression: ast.expr) -> str | None:
    """`ComfyNode` of both `ComfyNode` and `io.ComfyNode`."""
    return getattr(expression, "attr", None) or getattr(expression, "id", None)
