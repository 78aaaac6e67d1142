"""What ComfyUI-Manager and the registry read of the repository without running it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sd_imagereward.comfyui_nodes.extension import NODES


def test_comfyui_manager_reads_the_ids_of_our_nodes_and_no_others(repository: Path) -> None:
    found = [one for file in python_files(repository) for one in listed_nodes(file.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(node.define_schema().node_id for node in NODES)


def python_files(folder: Path) -> Iterator[Path]:
    """The Manager reads every folder of the repository, tests too."""
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).parts
        if not any(part.startswith(".") or part in ("__pycache__", "build") for part in parts):
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


# -- what `comfy node publish` zips ------------------------------------------------------------------------------------

LARGEST = 1_000_000  # bytes of the zip; it was 0.68 MB when this was written


@pytest.fixture(scope="module")
def published(repository: Path) -> list[str]:
    """git's files (and those that it will have) but for those that .comfyignore names: its patterns are .gitignore's."""
    if not (repository / ".git").exists():
        pytest.skip("needs a git checkout")
    left_out = git_files(repository, "--ignored", "--exclude-from=.comfyignore")
    return sorted(git_files(repository, "--exclude-standard") - left_out)


def git_files(repository: Path, *options: str) -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", *options]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (repository / name).exists()}


@pytest.fixture(scope="module")
def package(published: list[str], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, unpacked."""
    folder = tmp_path_factory.mktemp("published")
    with zipfile.ZipFile(folder / "node.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in published:
            zipped.write(repository / name, name)
    assert (folder / "node.zip").stat().st_size < LARGEST
    with zipfile.ZipFile(folder / "node.zip") as zipped:
        zipped.extractall(folder / "sd_imagereward")
    return folder / "sd_imagereward"


def test_the_package_has_only_what_is_used(published: list[str]) -> None:
    folders = {name.split("/")[0] for name in published if "/" in name}
    assert not folders & {"tests", "benchmarks", "examples", ".github", ".ci"}
    assert not [
        name for name in published if name.endswith((".png", ".jpg", ".webp", ".svg", ".py")) and "docs/" in name
    ]


def test_the_package_has_all_that_is_packaged_or_served(package: Path, repository: Path) -> None:
    """The Python packages with their data as pyproject lists them, and what ComfyUI serves."""
    served = [
        *(repository / "locales").glob("*/*.json"),
        *(one for folder in ("example_workflows", "web") for one in (repository / folder).rglob("*.*")),
    ]
    declared = toml(repository / "pyproject.toml")["tool"]["setuptools"]
    data = [
        file
        for package_name, patterns in declared["package-data"].items()
        for pattern in patterns
        for file in repository.joinpath(*package_name.split(".")[1:]).glob(pattern)
    ]
    sources = [file for name in declared["packages"] for file in repository.joinpath(*name.split(".")[1:]).glob("*.py")]
    doors = [repository / name for name in ("install.py", "requirements.txt", "pyproject.toml", "README.md", "NOTICE")]
    for file in (*served, *data, *sources, *doors, *(repository / "scripts").glob("*.py")):
        assert (package / file.relative_to(repository)).is_file(), f".comfyignore takes {file.name} away"


IMPORT_ALL = """
import asyncio, importlib, pathlib, sys
import sd_imagereward
root = pathlib.Path(sd_imagereward.__file__).parent
assert str(root) == sys.argv[1], root
nodes = asyncio.run(asyncio.run(sd_imagereward.comfy_entrypoint()).get_node_list())
for file in sorted((root / "comfyui_nodes").rglob("[!_]*.py")):
    importlib.import_module(".".join(["sd_imagereward", *file.relative_to(root).with_suffix("").parts]))
print(*[node.__name__ for node in nodes])
"""


def test_the_package_starts_in_comfyui(package: Path, repository: Path) -> None:
    paths = os.pathsep.join([str(package.parent), str(repository / "tests/fakes/comfyui")])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(package)],
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [node.__name__ for node in NODES]


def toml(file: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10, where pytest brings tomli along
        import tomli as tomllib
    return tomllib.loads(file.read_text(encoding="utf-8"))


def test_the_oldest_comfyui_is_the_same_everywhere(repository: Path) -> None:
    """What the registry, the reader and the checks of each commit are told."""
    required = toml(repository / "pyproject.toml")["tool"]["comfy"]["requires-comfyui"]
    oldest = required.removeprefix(">=")
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert f"ComfyUI {oldest} or later" in readme
    assert f"ComfyUI ({oldest} or later)" in readme
    assert f'version: ["v{oldest}", "master"]' in (repository / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    fakes = (repository / "tests/fakes/comfyui/comfy_api/latest/_io.py").read_text(encoding="utf-8")
    assert f"keywords of {oldest}," in fakes


# -- how it is published -----------------------------------------------------------------------------------------------


def test_the_action_that_is_given_the_secret_is_a_fixed_commit_and_keeps_our_checkout(repository: Path) -> None:
    workflow = (repository / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    assert re.search(r"uses: Comfy-Org/publish-node-action@[0-9a-f]{40}\b", workflow)
    assert re.search(r'skip_checkout: "true"', workflow)


@pytest.mark.skipif(sys.platform != "linux", reason="the workflow runs on Linux, with GNU sed")
def test_publishing_names_the_repository_and_the_pictures(repository: Path, tmp_path: Path) -> None:
    workflow = (repository / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    script = re.search(r"run: \|\n((?: {10}.*\n)+)", workflow)
    assert script
    shutil.copy(repository / "pyproject.toml", tmp_path)
    names = {
        "PAGE": "https://github.com/owner/name",
        "PICTURES": "https://raw.githubusercontent.com/owner/name/0/docs/images",
    }
    subprocess.run(["bash", "-ec", script[1]], cwd=tmp_path, env=os.environ | names, check=True)
    made = toml(tmp_path / "pyproject.toml")
    assert made["project"]["urls"] == {
        "Repository": names["PAGE"],
        "Documentation": f"{names['PAGE']}#comfyui",
        "Issues": f"{names['PAGE']}/issues",
        "Paper": "https://arxiv.org/abs/2304.05977",
    }
    for key in ("Icon", "Banner"):
        address = made["tool"]["comfy"][key]
        assert address.startswith(names["PICTURES"])
        assert (repository / "docs/images" / address.rpartition("/")[2]).is_file()


def test_the_manager_warns_on_no_device_and_no_system(repository: Path) -> None:
    classifiers = toml(repository / "pyproject.toml")["project"]["classifiers"]
    assert "Operating System :: OS Independent" in classifiers
    assert not [one for one in classifiers if one.startswith("Environment ::")]


def test_the_banner_is_21_to_9(repository: Path) -> None:
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', (repository / "docs/images/banner.svg").read_text(encoding="utf-8"))
    assert size
    assert int(size[1]) * 9 == int(size[2]) * 21
