"""What lets a forked process score: its parent's other threads, which hold locks and do torch's work, are not in it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from weakref import WeakSet

import torch


class ForkSafeLock:
    """A re-entrant lock for `with` blocks, open in a forked process. Its copies are locks of their own."""

    ever_held = False  # any of them, in this process or one that it was forked off

    def __init__(self) -> None:
        self.open()
        _locks.add(self)

    def open(self) -> None:
        """Whoever holds the lock, it is free afterwards."""
        self._lock = threading.RLock()

    def __enter__(self) -> ForkSafeLock:
        self._lock.acquire()
        ForkSafeLock.ever_held = True
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # not acquired: this process was forked off within the block
            self._lock.release()

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        return ForkSafeLock, ()


_locks: WeakSet[ForkSafeLock] = WeakSet()


def _after_fork() -> None:
    for lock in _locks:
        lock.open()
    if ForkSafeLock.ever_held:
        torch.set_num_threads(
            1
        )  # GNU's OpenMP would wait for threads that the parent started; DataLoader does the same


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
