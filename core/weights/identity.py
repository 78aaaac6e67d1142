"""Which file a name stands for, so that what was computed with it can be kept."""

from __future__ import annotations

from pathlib import Path


def spec_identity(spec: str) -> str:
    """A name as it is; a file with size and time, so that a checkpoint made anew is not taken for the old one."""
    path = Path(spec).expanduser()
    if not path.is_file():
        return spec
    stat = path.stat()
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
