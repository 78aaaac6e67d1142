"""This checkout as the package `sd_imagereward`, installed or not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def mount() -> None:
    if "sd_imagereward" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "sd_imagereward", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sd_imagereward"] = module
    spec.loader.exec_module(module)
