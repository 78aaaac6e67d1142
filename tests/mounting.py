"""Mounts the checkout that this file lies in as `sd_imagereward`. Free of pytest, for tests that run in another Python."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


# The command `imagereward` of this checkout, whatever its folder is called and whether it is installed or not.
COMMAND = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); from mounting import mount_package; mount_package(); "
    "from sd_imagereward.core.cli import main; sys.exit(main())",
]


def mount_package() -> None:
    mounted = sys.modules.get("sd_imagereward")
    if mounted is not None and Path(str(mounted.__file__)).parent == ROOT:
        return  # a second mount would be a second package, and tests would patch the one that nobody uses
    spec = importlib.util.spec_from_file_location(
        "sd_imagereward", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["sd_imagereward"] = module
    spec.loader.exec_module(module)
