"""Mounts the checkout these tests lie in as `sd_imagereward`, installed or not, and offers the shared fixtures."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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


mount_package()


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, rankings and vocabularies; not part of the repository."""
    folder = Path(os.environ.get("IMAGEREWARD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder} (set IMAGEREWARD_TEST_DATA to its folder)")
    return folder
