"""Whether results can be written to a place, found out before the work and not after it.

Found out by writing: permissions tell little on Windows, on network drives and to an administrator.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ImageRewardError, UnwritableFile
from .atomic import as_unwritable, is_pipe, patiently, replacing, temporary_beside


def expect_writable(path: str | os.PathLike[str]) -> None:
    """Raises UnwritableFile if `replacing` would fail for this file. Makes its folder."""
    path = Path(path)
    if is_pipe(path):
        return
    with as_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():  # Windows refuses what another has open
            patiently(lambda: os.close(os.open(path, os.O_RDWR)), path, "replace")
    with suppress(_Proven), replacing(path) as file:
        file.write(b"imagereward" * 1000)
        file.flush()
        raise _Proven


def expect_writable_folder(folder: str | os.PathLike[str], *, room: int = 0) -> None:
    """Raises ImageRewardError unless files can be made in `folder`; afterwards everything is as it was.

    The folder need not exist. room: how many bytes must be free.
    """
    folder = Path(folder)
    try:
        with _existing(folder):
            expect_writable(temporary_beside(folder / "probe"))
            free = shutil.disk_usage(folder).free
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UnwritableFile(
            f"cannot write into {folder}: {reason}. Choose another output folder, or make this one writable."
        ) from error
    if free < room:
        raise ImageRewardError(
            f"expected {room / 1e9:.1f} GB of free disk space for {folder}, got {free / 1e9:.1f}. Free some, or choose another "
            f"output folder."
        )


class _Proven(Exception):
    pass


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
