"""Run by the WebUI (and by ComfyUI-Manager) with the host's Python. Installs only what is missing altogether.

A package that is there is never touched, whatever its version: the host has pinned it for a reason.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


def missing(requirements: str) -> list[str]:
    """The requirements (one a line, as in requirements.txt) whose package is not installed."""
    lines = [line.split("#")[0].strip() for line in requirements.splitlines()]
    return [line for line in lines if line and not _is_installed(re.split(r"[<>=!~;\[ ]", line)[0])]


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install(requirements: list[str]) -> None:
    """Installs them with every version that is there held fast, so that pip fails rather than upgrades."""
    launch = _host_launcher()
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(installed_versions()), encoding="utf-8")
        for requirement in requirements:
            if launch is None:
                command = [sys.executable, "-m", "pip", "install", requirement, "--constraint", str(constraints)]
                subprocess.check_call(command)
            elif not getattr(getattr(launch, "args", None), "skip_install", False):
                arguments = f'install "{requirement}" --constraint "{constraints}"'
                launch.run_pip(arguments, f"ImageReward requirement: {requirement}")


def _host_launcher() -> ModuleType | None:
    """AUTOMATIC1111's, Forge's and reForge's `launch`, which honours --skip-install, proxies and index settings."""
    try:
        return importlib.import_module("launch")
    except ImportError:
        return None


def installed_versions() -> list[str]:
    """Every installed package as "name==version"."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return [
        f"{name}=={version}"
        for name, version in sorted(found.items(), key=lambda item: str(item[0]))
        if name and version
    ]


if __name__ == "__main__":
    install(missing(REQUIREMENTS.read_text(encoding="utf-8")))
