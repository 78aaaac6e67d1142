"""Ctrl-C, and what else asks a run to stop, at a moment of our choosing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What schedulers and containers send before they kill, a terminal that closes, and on Windows Ctrl-Break and a console that
# closes. Each system has some of them.
_OTHERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
STOPS: tuple[signal.Signals, ...] = (signal.SIGINT, *_OTHERS)


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Hold Ctrl-C back for as long as the weights and the optimizer's state disagree, or a file is half written.

    In a thread, which no signal interrupts, nothing is held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOPS}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    arrived: list[int] = []
    for number in held:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if arrived:
        held[signal.Signals(arrived[0])](arrived[0], None)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Every signal that would end the process is to the block what Ctrl-C is.

    A signal that somebody handles or ignores, as `nohup` does SIGHUP, is left to him; so are all of them in a thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in STOPS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
