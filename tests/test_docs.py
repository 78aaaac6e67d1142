"""Runs what README and docs show. A block that cannot run here says why, in a comment above it: <!-- not run: reason -->."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import checkpoints
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "sh", "bash", "shell", "console", ""}
FILE = re.compile(r"<!-- file: (?P<path>[\w/.]+) -->\n```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
CASE = re.compile(r"<!-- line of CASES -->\n```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
TEST_MODULES = sorted((ROOT / "tests").glob("[!t]*.py"))  # what tests import, without the tests of this folder
BLOCK = re.compile(
    r"(?P<file><!-- (file:|line of) [^>]+-->\s*\n)?"
    r"(?P<mark><!--\s*not run:\s*(?P<reason>[^>]+?)\s*-->\s*\n)?"
    r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["file"]:
                continue
            line = text.count("\n", 0, match.start("code"))
            yield Block(page, line, match["language"], match["code"], match["reason"])


BLOCKS = [block for block in blocks() if block.language in LANGUAGES]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo pictures under the names the pages use, and a tiny ImageReward where the real one would be."""
    from sd_imagereward.core.demo.pictures import write_demo

    folder = tmp_path_factory.mktemp("docs")
    checkpoints.write_imagereward(folder / "weights")
    (folder / "weights" / "vocab.txt").rename(folder / "weights" / "bert-base-uncased-vocab.txt")
    pictures = write_demo(folder / "outputs")
    for picture, name in zip(pictures, ("1.webp", "2.webp", "cat.png", "fox.png"), strict=False):
        shutil.copy(picture, folder / name)
    for picture in pictures[6:]:
        picture.unlink()
    return folder


@pytest.fixture
def workshop(tmp_path: Path, furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of that folder to work in."""
    folder = tmp_path / "work"
    shutil.copytree(furnished, folder)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(folder / "weights"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_what_the_pages_show_runs(block: Block, workshop: Path) -> None:
    if block.reason is not None:
        pytest.skip(block.reason)
    if block.language == "python":
        script = workshop / "block.py"
        script.write_text(block.code, encoding="utf-8")
        runpy.run_path(str(script), run_name="__main__")
        return
    for command in commands(block.code):
        run_command(command)


def commands(code: str) -> Iterator[list[str]]:
    """Each command line, continuation lines joined, comments and prompts taken off."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def run_command(words: list[str]) -> None:
    from sd_imagereward.core.cli import main

    assert words[0] == "imagereward", (
        f"this block runs {words[0]!r}: say above it why the test cannot (<!-- not run: ... -->)"
    )
    arguments = [word for pattern in words[1:] for word in expand(pattern)]
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code in (0, 1), f"{' '.join(words)} ended with exit code {code}"


def expand(word: str) -> list[str]:
    """What a shell makes of an unquoted pattern."""
    matches = (
        sorted(str(path) for path in Path().glob(word)) if "*" in word and " " not in word and "<" not in word else []
    )
    return matches or [word]


def test_the_worked_example_of_a_scorer_passes_the_tests_when_pasted(workshop: Path) -> None:
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    example, line = FILE.search(page), CASE.search(page)
    package = workshop / "site" / "sd_imagereward"
    for folder in ("core", "tests/core/scorers"):
        shutil.copytree(ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("__init__.py", "pyproject.toml", "tests/core/conftest.py", *(f"tests/{p.name}" for p in TEST_MODULES)):
        shutil.copy(ROOT / file, package / file)
    (package / example["path"]).write_text(example["code"], encoding="utf-8")
    table = package / "tests/scorer_cases.py"
    table.write_text(table.read_text("utf-8").replace("CASES = {\n", "CASES = {\n" + line["code"]), encoding="utf-8")
    cases = package / "tests/core/scorers/test_contract.py"
    environment = os.environ | {"PYTHONPATH": str(workshop / "site")}

    def passes(*command: str) -> str:
        words = [sys.executable, "-m", *command]
        done = subprocess.run(words, cwd=package, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    score = ("score", "../../1.webp", "../../2.webp", "--scorer", "warmth", "--format", "json")
    assert len({row["score"] for row in json.loads(passes("sd_imagereward.core.cli", *score))}) == 2
    tested = passes("pytest", "-q", "-p", "no:cacheprovider", str(cases), "-k", "warmth or has_a_case")
    assert int(re.search(r"(\d+) passed", tested)[1]) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for match in LINK.finditer(text):
        if "://" not in match["target"] and not match["target"].startswith("mailto:"):
            assert (page.parent / match["target"]).exists(), (
                f"{page.name} links to {match['target']}, which is not there"
            )


def test_pictures_are_small() -> None:
    large = [
        p.name
        for p in (ROOT / "docs").rglob("*")
        if p.suffix in (".png", ".jpg", ".webp") and p.stat().st_size > 300_000
    ]
    assert not large


def test_what_is_installed_can_be_installed() -> None:
    """The package is not on PyPI, and an extra that a message or page names must be one."""
    extras = set(re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE))
    for path in [*PAGES, *(ROOT / "core").rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"pip install [^\n]*sd-imagereward", text), path
        named = re.findall(r"extra_needed\(['\"](\w+)['\"]\)|\"\.\[([\w,]+)\]\"", text)
        assert {extra for pair in named for extra in "".join(pair).split(",")} <= extras, path


def test_the_command_for_an_extra_names_the_checkout() -> None:
    from sd_imagereward.core.errors import extra_needed

    assert extra_needed("refl") == f'pip install -e "{ROOT}[refl]"'


def test_two_commands_do_all_there_is_to_do() -> None:
    """README, contributing.md and `.ci/run` show the same two lines."""
    shown = [block.code.splitlines() for block in BLOCKS if block.code.startswith("python3 -m venv")]
    assert len(shown) == 2
    assert len(shown[0]) == 2
    assert shown[0] == shown[1]
    assert re.findall(r"^eval '(.*)'$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE) == shown[0]


def test_the_exit_codes_of_the_page_are_those_of_the_shell() -> None:
    from sd_imagereward.core import cli

    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    page = (ROOT / "README.md").read_text("utf-8").split("| code | meaning |")[1].split("\n\n")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == codes
