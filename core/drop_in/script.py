"""A script that says `import ImageReward`, ready to run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType

from ..errors import ImageRewardError
from .names import install_as_imagereward

_SCRIPT = "IMAGEREWARD_SCRIPT"  # tells spawned processes which script runs: `sys.argv` does not there


def script_of(arguments: list[str], *, spawned: bool) -> tuple[str, CodeType]:
    """The file and code of a script; `sys.argv` and `sys.path` become what they are when Python runs it.

    arguments: this program, the script and its own arguments. spawned: in a process that the script started.
    """
    if not spawned:
        if len(arguments) < 2:
            raise ImageRewardError("expected a script: python -m sd_imagereward.as_imagereward SCRIPT [ARGUMENT ...]")
        del arguments[0]
        os.environ[_SCRIPT] = os.path.abspath(arguments[0])
        sys.path.insert(0, os.path.dirname(os.environ[_SCRIPT]))
    install_as_imagereward()
    file = os.environ[_SCRIPT]
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise ImageRewardError(
            f"{file} cannot be read ({error.strerror}). Fix: give the path of a Python script"
        ) from error
    return file, compile(source, file, "exec", dont_inherit=True)
