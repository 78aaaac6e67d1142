"""Mounts the checkout these tests lie in as `sd_imagereward`, installed or not, and offers the shared fixtures."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from mounting import ROOT, mount_package

mount_package()
pytest_plugins = ["windows_rules"]

# How long an example takes is up to what else the machine does, tests in parallel above all.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_modules_frozen = 0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Takes what was imported since the last test out of the garbage collector's sight.

    Unloading a scorer collects garbage, many tests do so, and to walk a million objects of torch's takes half a second.
    """
    global _modules_frozen
    if len(sys.modules) > _modules_frozen + 20:
        gc.collect()
        gc.freeze()
        _modules_frozen = len(sys.modules)
    return (yield)


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
