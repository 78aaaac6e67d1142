"""The system's trash, from which files can be had back."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import ImageRewardError
from ..files.atomic import patiently


def trash() -> Callable[[Path], None]:
    """What moves a file to the trash. Raises ImageRewardError if the package for it is missing."""
    try:
        send = importlib.import_module("send2trash").send2trash
    except ImportError as error:
        raise ImageRewardError(
            "files go to the system's trash alone, and that needs a package: pip install send2trash"
        ) from error
    return lambda path: patiently(lambda: send(os.fspath(path)), path, "delete")
