"""Whether results can be written to a place, found out before the work and not after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ImageRewardError
from .atomic import remove, temporary_beside


def expect_writable(folder: str | os.PathLike[str], *, room: int = 0) -> None:
    """Raises ImageRewardError unless files can be made in `folder`; afterwards everything is as it was.

    The folder need not exist. Found out by writing: permissions tell little on Windows, on network drives and to an
    administrator. room: how many bytes must be free.
    """
    folder = Path(folder)
    try:
        with _existing(folder):
            probe = temporary_beside(folder / "probe")
            try:
                probe.write_bytes(b"imagereward" * 1000)
                free = shutil.disk_usage(folder).free
            finally:
                with suppress(OSError):
                    remove(probe)
    except OSError as error:
        raise ImageRewardError(
            f"cannot write into {folder}: {error.strerror or error}. Choose another output folder, or make this one writable."
        ) from error
    if free < room:
        raise ImageRewardError(
            f"expected {room / 1e9:.1f} GB of free disk space for {folder}, got {free / 1e9:.1f}. Free some, or choose another "
            f"output folder."
        )


@contextmanager
def _existing(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it for the block alone."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
