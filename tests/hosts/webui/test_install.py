"""install.py as a WebUI runs it: by its own Python, from its root, with its `launch` module at hand."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

Run = Callable[..., subprocess.CompletedProcess[str]]
MISSING = "a-package-that-no-index-has"


@pytest.fixture
def run() -> Run:
    root, python = os.environ.get("SDWEBUI_PATH"), os.environ.get("SDWEBUI_PYTHON")
    if not root or not python:
        pytest.skip("set SDWEBUI_PATH to a WebUI's checkout and SDWEBUI_PYTHON to its Python to run it")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": root, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [python, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


def install(repository: Path, requirement: str) -> tuple[str, str]:
    return "-c", f"import sys; sys.path.append({str(repository)!r}); import install; install.install([{requirement!r}])"


def test_the_hosts_environment_is_left_as_it_is(run: Run, repository: Path) -> None:
    before = run("-m", "pip", "freeze").stdout
    done = run(str(repository / "install.py"))
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert run("-m", "pip", "freeze").stdout == before


def test_what_is_missing_is_asked_of_the_hosts_pip(run: Run, repository: Path) -> None:
    done = run(*install(repository, MISSING))
    assert done.returncode != 0
    assert f"ImageReward requirement: {MISSING}" in done.stdout + done.stderr


def test_skip_install_is_obeyed(run: Run, repository: Path) -> None:
    done = run(*install(repository, MISSING), "--skip-install")
    assert done.returncode == 0, done.stderr
