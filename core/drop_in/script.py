"""A script that says `import ImageReward`, ready to run."""

from __future__ import annotations

import os
import sys
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType

from ..errors import ImageRewardError
from .names import install_as_imagereward

_SCRIPT = "IMAGEREWARD_SCRIPT"  # tells spawned processes which script runs: `sys.argv` does not there


class Script(InspectLoader):
    """Runs one file in whatever module is given to `exec_module`."""

    def __init__(self, file: str, code: CodeType) -> None:
        self.file, self._code = file, code

    def get_code(self, fullname: str) -> CodeType:
        return self._code

    def get_source(self, fullname: str) -> None:
        """Tracebacks read the file by themselves."""


def script_of(arguments: list[str], *, spawned: bool) -> Script:
    """A script, ready to run; `sys.argv` and `sys.path` become what they are when Python runs it.

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
    return Script(file, compile(source, file, "exec", dont_inherit=True))
