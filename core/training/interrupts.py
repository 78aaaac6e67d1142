"""Ctrl-C, and what else asks a run to stop, at a moment of our choosing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Hold Ctrl-C back for as long as the weights and the optimizer's state disagree."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOPS}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    asked: list[int] = []
    for number in held:
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if asked:
        held[signal.Signals(asked[0])](asked[0], None)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which job schedulers and containers send before they kill, is to the block what Ctrl-C is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
