"""Windows' rules for files, imposed on this process on Linux; a plugin of pytest.

A test with the mark `windows_rules` always runs under them, every test with `pytest --windows-rules`. What they are:

- a file that this process has open or mapped is not replaced, renamed or removed, nor a folder renamed that holds one;
- a read-only file is not replaced, removed or opened for writing;
- the project's first attempt to replace, rename or remove a file is denied, as by an antivirus that looks at it;
- no names such as `con.png`, `a?.png` or `a.`, and no paths of more than 259 characters;
- no symbolic links, no fork, no `fcntl`; processes are spawned.

They bind the project alone, and the libraries that it calls; the tests may prepare and clean up as they like.
"""

from __future__ import annotations

import builtins
import errno
import io
import multiprocessing
import os
import pathlib
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
NOT_THERE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline"}
LONGEST_PATH = 259
RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])\s*(\.|$)", re.IGNORECASE)
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[ .]$')

ACCESS_DENIED, SHARING_VIOLATION, INVALID_NAME, PATH_NOT_FOUND, NO_PRIVILEGE = 5, 32, 123, 3, 1314


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--windows-rules", action="store_true", help="run every test under Windows' rules for files")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "windows_rules: runs under Windows' rules for files (tests/windows_rules.py)")
    config.addinivalue_line("markers", "posix: of what Windows does not have; left out under its rules")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    imposed = config.getoption("--windows-rules")
    for item in items:
        if item.get_closest_marker("posix") and (imposed or os.name == "nt"):
            item.add_marker(pytest.mark.skip(reason="of what Windows does not have"))


@pytest.fixture(autouse=True)
def _windows_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.node.get_closest_marker("windows_rules") and not request.config.getoption("--windows-rules"):
        yield
        return
    if sys.platform != "linux":
        pytest.skip("the rules are imposed on Linux")
    method = multiprocessing.get_start_method()
    with pytest.MonkeyPatch.context() as patch:
        impose(patch)
        multiprocessing.set_start_method("spawn", force=True)
        yield
    multiprocessing.set_start_method(method, force=True)


def impose(patch: pytest.MonkeyPatch) -> None:
    """Puts the rules in the place of the system's functions."""
    rules = Rules()
    put(patch, os, "replace", rules.replace(os.replace))
    put(patch, os, "rename", rules.rename(os.rename))
    for name in ("unlink", "remove"):
        put(patch, os, name, rules.unlink(os.unlink))
    put(patch, os, "mkdir", rules.named(os.mkdir))
    put(patch, os, "symlink", unprivileged(os.symlink))
    put(patch, os, "fork", missing(os.fork, "os.fork"))
    put(patch, os, "open", rules.os_open(os.open))
    opening = rules.open(open)
    put(patch, builtins, "open", opening)
    put(patch, io, "open", opening)
    put(patch, builtins, "__import__", importing(builtins.__import__))


def put(patch: pytest.MonkeyPatch, owner: Any, name: str, function: Callable[..., Any]) -> None:
    patch.setattr(owner, name, function)
    accessor = getattr(pathlib, "_NormalAccessor", None)  # Python 3.10's paths keep the functions
    if accessor is not None and owner is not builtins and hasattr(accessor, name):
        patch.setattr(accessor, name, staticmethod(function))


class Rules:
    """What one test has met so far."""

    def __init__(self) -> None:
        self.looked_at: set[str] = set()

    def replace(self, real: Callable[..., None]) -> Callable[..., None]:
        def replace(source: Any, target: Any, **options: Any) -> None:
            if by_the_project():
                check_name(target)
                self.check_free(source, read_only=False)
                self.check_free(target, read_only=True)
                self.look_at(target)
            real(source, target, **options)

        return replace

    def rename(self, real: Callable[..., None]) -> Callable[..., None]:
        def rename(source: Any, target: Any, **options: Any) -> None:
            if by_the_project():
                check_name(target)
                if os.path.lexists(target) and not os.path.samefile(source, target):
                    raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
                self.check_free(source, read_only=False)
                self.look_at(source)
            real(source, target, **options)

        return rename

    def unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def unlink(path: Any, *, dir_fd: int | None = None) -> None:
            if by_the_project():
                whole = path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
                self.check_free(whole, read_only=True)
                self.look_at(whole)
            real(path, dir_fd=dir_fd)

        return unlink

    def named(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def make(path: Any, *arguments: Any, **options: Any) -> Any:
            if by_the_project():
                check_name(path)
            return real(path, *arguments, **options)

        return make

    def os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and by_the_project():
                check_writable(path)
            return real(path, flags, *arguments, **options)

        return opened

    def open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not isinstance(file, int) and set(mode) & set("wax+") and by_the_project():
                check_writable(file)
            return real(file, mode, *arguments, **options)

        return opened

    def check_free(self, path: Any, *, read_only: bool) -> None:
        path = os.path.abspath(os.fsdecode(path))
        if holder := holder_of(path):
            raise denied(path, SHARING_VIOLATION, f"this process has it {holder}")
        if read_only and is_read_only(path):
            raise denied(path, ACCESS_DENIED, "it is read-only")

    def look_at(self, path: Any) -> None:
        """As an antivirus does: once, and it holds the file meanwhile. How other libraries bear that is theirs to say."""
        if not caller().startswith(ROOT) or "site-packages" in caller():
            return
        path = os.path.realpath(os.fsdecode(path))
        if path not in self.looked_at and os.path.lexists(path):
            self.looked_at.add(path)
            raise denied(path, ACCESS_DENIED, "an antivirus looks at it")


def by_the_project() -> bool:
    """Whether the innermost frame of the repository is one of the project, not of its tests."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ROOT) and "site-packages" not in file:
            return not file.startswith(TESTS)
        frame = frame.f_back  # type: ignore[assignment]
    return False


def caller() -> str:
    """The file of the code that called a function of the system, be it through `Path` or `shutil`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, pathlib.__file__, shutil.__file__):
        frame = frame.f_back
    return frame.f_code.co_filename


def holder_of(path: str) -> str:
    """ "open" or "mapped" by this process, or ""."""
    real = os.path.realpath(path)
    inside = os.path.join(real, "")
    for number in os.listdir("/proc/self/fd"):
        try:
            held = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the listing's own
            continue
        if (held == real and not os.path.isdir(real)) or held.startswith(inside):
            return "open"
    with io.FileIO("/proc/self/maps") as file:
        lines = file.readall().decode(errors="surrogateescape").splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count(" ") > 4 and "/" in line}
    return "mapped" if real in mapped or any(each.startswith(inside) for each in mapped) else ""


def is_read_only(path: Any) -> bool:
    try:
        return not os.lstat(path).st_mode & stat.S_IWUSR
    except OSError:
        return False


def check_name(path: Any) -> None:
    path = os.path.abspath(os.fsdecode(path))
    name = os.path.basename(path)
    if RESERVED.match(name) or FORBIDDEN.search(name):
        raise windows_error(OSError, errno.EINVAL, INVALID_NAME, "The file name is not a name that Windows takes", path)
    if len(path) > LONGEST_PATH:
        raise windows_error(
            FileNotFoundError, errno.ENOENT, PATH_NOT_FOUND, "The path is longer than Windows takes", path
        )


def check_writable(path: Any) -> None:
    check_name(path)
    if is_read_only(path):
        raise denied(path, ACCESS_DENIED, "it is read-only")


def denied(path: Any, code: int, why: str) -> OSError:
    return windows_error(PermissionError, errno.EACCES, code, f"Access is denied ({why})", os.fsdecode(path))


def windows_error(kind: type[OSError], number: int, code: int, text: str, path: str) -> OSError:
    error = kind(number, text, path)
    error.winerror = code  # type: ignore[attr-defined]
    return error


def unprivileged(real: Callable[..., None]) -> Callable[..., None]:
    def symlink(source: Any, target: Any, *arguments: Any, **options: Any) -> None:
        if caller().startswith(TESTS):
            pytest.skip("symbolic links need a privilege on Windows")
        raise windows_error(
            OSError, errno.EINVAL, NO_PRIVILEGE, "A required privilege is not held", os.fsdecode(target)
        )

    return symlink


def missing(real: Callable[..., int], name: str) -> Callable[..., int]:
    def absent() -> int:
        if by_the_project():
            raise AttributeError(f"Windows has no {name}")
        return real()

    return absent


def importing(real: Callable[..., Any]) -> Callable[..., Any]:
    def load(name: str, globals: Any = None, *arguments: Any, **options: Any) -> Any:
        if name in NOT_THERE and str((globals or {}).get("__name__", "")).startswith("sd_imagereward"):
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        return real(name, globals, *arguments, **options)

    return load
