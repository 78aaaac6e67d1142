"""What `fingerprint_inputs` answers: a short text that changes when the node must run again.

ComfyUI writes the answer into the history and into every saved image. If `fingerprint_inputs` raises, it writes NaN there,
which is no JSON: the page can't read the history any more.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..core.errors import ImageRewardError


def stamp(names: Sequence[Any], files: Callable[[], Iterable[str | os.PathLike[str] | None]]) -> str:
    """Changes with the names, sizes and times of the files. Unlike every other where nobody can tell what they are.

    names: what the user chose; None stands for a linked value, which ComfyUI does not know before the node runs.
    files: finds the files of these names; not called for a linked one.
    """
    if None in names:
        return secrets.token_hex(16)
    try:
        found = repr((list(names), [_state(file) for file in files() if file is not None]))
    except (OSError, ValueError, ImageRewardError):  # gone, or not permitted: the node itself says so
        return secrets.token_hex(16)
    return hashlib.blake2b(found.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _state(file: str | os.PathLike[str]) -> tuple[str, int, int]:
    found = os.stat(file)
    return os.path.basename(file), found.st_size, found.st_mtime_ns
