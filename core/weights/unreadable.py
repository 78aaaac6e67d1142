"""Why the system does not let a checkpoint be read: what says nothing of the file is not told as damage."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from ..errors import ImageRewardError, OutOfMemory, UnknownCheckpoint
from ..networks.devices import is_out_of_memory

_PAGE_FILE = 1455  # Windows: the commitment limit
_HELD = (32, 33)  # Windows: sharing and lock violation
# What torch's reader of tensors refuses: "Unsupported global: GLOBAL os.system", "Unsupported class os.system".
_REFUSED = re.compile(r"(?:Unsupported class|GLOBAL) ([\w.]+)")
_OF_THE_SYSTEM = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EIO, errno.ENOENT, errno.EMFILE, errno.ENFILE)


def says_nothing_of_the_file(error: BaseException) -> bool:
    """Whether the same file may be read another time: it is held, not permitted, or memory ran out."""
    if is_out_of_memory(error):
        return True
    return isinstance(error, OSError) and (_winerror(error) in _HELD or error.errno in _OF_THE_SYSTEM)


def unreadable(path: Path, error: BaseException) -> ImageRewardError:
    """What to raise when a checkpoint cannot be read, with what mends it."""
    if _winerror(error) == _PAGE_FILE or f"os error {_PAGE_FILE}" in str(error):
        return OutOfMemory(
            f"no memory to read {path}: Windows' page file is too small (error {_PAGE_FILE}). The file is not damaged. Close "
            f"other programs, or enlarge the page file (System, Advanced, Performance, Virtual memory)."
        )
    if is_out_of_memory(error):
        return OutOfMemory(f"no memory to read {path}. The file is not damaged. Close other programs and try again.")
    if _winerror(error) in _HELD or getattr(error, "errno", None) == errno.EBUSY:
        return UnknownCheckpoint(
            f"{path} cannot be read: another program has it open, perhaps an antivirus, OneDrive or a download. The file is "
            f"not damaged. Close it there and try again."
        )
    return UnknownCheckpoint(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def reason_of(error: BaseException) -> str:
    """What is wrong with the bytes of a file, in one line, without torch's advice to load it with its code."""
    text = str(error)
    if text.startswith("Weights only load failed"):
        refused = _REFUSED.search(text)
        return f"it asks for {refused[1]}, which is no tensor" if refused else "it holds more than tensors"
    return (text.strip().splitlines() or [type(error).__name__])[0]


def _winerror(error: BaseException) -> int:
    return getattr(error, "winerror", None) or 0
