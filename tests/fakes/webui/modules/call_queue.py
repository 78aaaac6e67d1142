"""The lock that one generation, API call or queued button at a time holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

queue_lock = threading.Lock()


def wrap_queued_call(func: Callable[..., Any]) -> Callable[..., Any]:
    def queued(*args: Any, **kwargs: Any) -> Any:
        with queue_lock:
            return func(*args, **kwargs)

    return queued
