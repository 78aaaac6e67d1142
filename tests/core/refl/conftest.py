from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def make_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Tiny pipelines by kind; the same weights each time."""
    import pipelines

    folder = tmp_path_factory.mktemp("pipelines")
    return lambda kind, seed=0: pipelines.pipeline(kind, folder, seed)
