"""For scripts that the host's own Python runs: the host's modules, this package, the tests' tiny networks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]


def enter_host(comfyui: str) -> None:
    """As the host's main.py does before it imports anything else."""
    sys.path[0] = comfyui  # in place of this folder, whose `server` is another
    sys.argv[1:] = ["--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    if importlib.util.find_spec("utils"):  # before `nodes`, which puts another `utils` on the path
        importlib.import_module("utils.extra_config")


def mount() -> None:
    """This checkout as `sd_imagereward`, and the tests' own modules, behind the host's."""
    sys.path.append(str(TESTS))
    importlib.import_module("mounting").mount_package()


def tiny_models() -> ModuleType:
    return tiny_module("models")


def tiny_module(name: str) -> ModuleType:
    """`tiny_pack/NAME.py` without what the pack's `__init__` does, which needs a server."""
    if "tiny_pack" not in sys.modules:
        pack = ModuleType("tiny_pack")
        pack.__path__ = [str(HERE / "tiny_pack")]
        sys.modules["tiny_pack"] = pack
    return importlib.import_module(f"tiny_pack.{name}")
