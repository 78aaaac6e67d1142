"""What a file is besides its bytes: owner, permissions, times, and the extended attributes that hold tags and ACLs."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import UnwritableFile

_COPYFILE_ACL, _COPYFILE_XATTR = 1 << 0, 1 << 2  # macOS' copyfile(3)
_OF_THE_SYSTEM = ("security.", "trusted.")  # set anew by the system's own policy
_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.EINVAL)


def copy_attributes(source: Path, found: os.stat_result, target: Path) -> None:
    """Gives `target` the owner, group, extended attributes, ACL and times of `source`, whose stat is `found`.

    Windows: the times alone. Raises UnwritableFile where the owner or an attribute cannot be given.
    """
    _copy_owner(source, found, target)
    if sys.platform == "darwin":
        _copy_on_macos(source, target)
    elif sys.platform == "linux":
        _copy_on_linux(source, target)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_owner(source: Path, found: os.stat_result, target: Path) -> None:
    new = target.stat()
    if (new.st_uid, new.st_gid) == (found.st_uid, found.st_gid) or not hasattr(os, "chown"):
        return
    try:
        os.chown(target, found.st_uid, found.st_gid)
    except PermissionError as error:
        raise UnwritableFile(
            f"cannot change {source}: it belongs to another user or group, and the changed file would belong to you. "
            "Run this as its owner."
        ) from error


def _copy_on_linux(source: Path, target: Path) -> None:
    if sys.platform != "linux":  # for the type checker
        return
    try:
        names = os.listxattr(source)
    except OSError:  # a file system without them
        return
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if name.startswith(_OF_THE_SYSTEM) or error.errno in _UNSUPPORTED:
                continue
            raise UnwritableFile(
                f"cannot change {source}: its extended attribute {name} cannot be kept ({error.strerror})."
            ) from error


def _copy_on_macos(source: Path, target: Path) -> None:
    """Python has no functions for them there."""
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.copyfile(os.fsencode(source), os.fsencode(target), None, _COPYFILE_ACL | _COPYFILE_XATTR)
