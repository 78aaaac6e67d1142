"""How far a long work is: a bar on a terminal; in a log or a pipe, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from .console import Console, counted

LINE_SECONDS = 30.0  # at least, between two lines of a log
QUIET_SECONDS = 5.0  # what is over sooner leaves no line at all


class Progress:
    """Shows `done` of `total` on a stream: `with Progress("score", "image", 12) as progress: ... progress.show(3)`.

    Args:
        label: what is done, at the beginning of the bar or line.
        unit: what is counted, in the singular; "B" counts bytes.
        total: None if it is not known, or known later.
        done: what was done before, which says nothing of the pace.
        leave: a terminal keeps the bar once all is done.
        hidden: show nothing.
        stream: stderr by default.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        label: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        *,
        leave: bool = False,
        hidden: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream = None if hidden else stream or sys.stderr
        self._console = stream if isinstance(stream, Console) else Console(stream, bars=True)
        self.label, self.unit, self.total, self.done, self.note = label, unit, total, done, ""
        self._first, self._clock, self._began = done, clock, clock()
        self._said: tuple[float, int] = (self._began, -1)  # when, and how much was done
        self._bar = self._drawn(leave) if self._on_terminal else None

    @property
    def _on_terminal(self) -> bool:
        with suppress(AttributeError, ValueError):  # a stream of a host that has no isatty, or is closed
            return self._console.isatty()
        return False

    def _drawn(self, leave: bool) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self.total, initial=self.done, desc=self.label, unit=self.unit, unit_scale=self.unit == "B", leave=leave,
            file=self._console,
        )  # fmt: skip

    def show(self, done: int, total: int | None = None, note: str = "") -> None:
        """`done` so far, of `total` where that has changed; note: what else to say, such as the loss."""
        self.total = self.total if total is None else total
        self.done, self.note = done, note
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._clock() - self._said[0] >= LINE_SECONDS:
            self._say()

    def write(self, text: str, stream: TextIO | None = None) -> None:
        """A line of its own, above the bar; stream: where to, if not to where the bar is."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._console if stream is None else stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """The work is over, done or not."""
        if self._bar is not None:
            self._bar.close()
        elif self._said[1] != self.done and self._clock() - self._began >= QUIET_SECONDS:
            self._say()
        self._said = (self._clock(), self.done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _say(self) -> None:
        self._said = (self._clock(), self.done)
        print(self._line(self._said[0] - self._began), file=self._console, flush=True)

    def _line(self, seconds: float) -> str:
        """ "train: 120 of 1,200 steps (10%), loss 0.6512, 1.3 s/step, 23:24 left"."""
        from tqdm import tqdm

        now = self.done - self._first
        parts = [self._amount(), *([self.note] if self.note else []), *self._pace(now, seconds)]
        if self.total is not None and now > 0 and self.done < self.total:
            parts.append(f"{tqdm.format_interval(seconds / now * (self.total - self.done))} left")
        else:
            parts.append(f"after {tqdm.format_interval(seconds)}")
        return f"{self.label}: {', '.join(parts)}"

    def _amount(self) -> str:
        done, total = self.done, self.total
        if self.unit == "B":
            amount = _bytes(done) if total is None else f"{_bytes(done)} of {_bytes(total)}"
        else:
            amount = counted(done, self.unit) if total is None else f"{done:,} of {counted(total, self.unit)}"
        return f"{amount} ({100 * done // total}%)" if total else amount

    def _pace(self, now: int, seconds: float) -> list[str]:
        if now <= 0 or seconds <= 0:
            return []
        if self.unit == "B":
            return [f"{_bytes(now / seconds)}/s"]
        return [f"{now / seconds:.1f} {self.unit}s/s" if now > seconds else f"{seconds / now:.1f} s/{self.unit}"]


def _bytes(number: float) -> str:
    """ "1.79 GB", in powers of ten as disks are sold."""
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:.2f} {name}"
    return f"{number:.0f} B"
