"""What `fingerprint_inputs` answers: a short text that changes when the node must run again.

ComfyUI writes the answer into the history and into every saved image. If `fingerprint_inputs` raises, it writes NaN there,
which is no JSON: the page can't read the history any more.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def stamp(values: Iterable[Any], files: Iterable[str | os.PathLike[str] | None] = ()) -> str:
    """Changes with the values and with the names, sizes and times of the files; None and missing files count as such."""
    found = repr((list(values), [_state(file) for file in files]))
    return hashlib.blake2b(found.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def always() -> str:
    """Unlike every other: a linked value is not known before the node runs, so nobody can tell what its files are."""
    return secrets.token_hex(16)


def _state(file: str | os.PathLike[str] | None) -> Any:
    if file is None:
        return None
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return os.fspath(file)
    return Path(file).name, found.st_size, found.st_mtime_ns
