"""`download_root`, as the reference's loaders have it."""

from __future__ import annotations

import os

from ..weights.locate import add_folder


def look_into(folder: str | os.PathLike[str] | None) -> None:
    """From now on weights are looked for in `folder` first and downloaded to it; None changes nothing."""
    if folder is not None:
        add_folder(os.path.expanduser(folder))
