"""Text on a terminal, in a pipe or in a log: printing it neither fails on a character nor gives the terminal orders."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

# Escape sequences begin with one of these, and a carriage return or a change of direction shows another text than is there.
# Tabs and line breaks are a matter of the text; `one_line` takes them too.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_CONTROL_OR_BREAK = re.compile(f"[\t\n{_CONTROLS}]")
# How tqdm moves its bars: back to the line's start, or up over the bars below.
_BAR = re.compile("\r|(?:\x1b\\[A)+$")


def one_line(text: object) -> str:
    """The text with control characters, tabs and line breaks spelled out: `\\u001b`. For a cell, or a name in a sentence."""
    return _CONTROL_OR_BREAK.sub(_spelled, str(text))


def counted(number: int, noun: str) -> str:
    """ "1 image", "2 images", "1,024 images": the noun in the number that fits."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with control characters and unpaired surrogates spelled out; tabs and line breaks stay. For a page."""
    if text.isprintable():
        return text
    return fitting(_CONTROL.sub(_spelled, text.replace("\r\n", "\n")), "utf-8")


def fitting(text: str, encoding: str | None) -> str:
    """The text with what `encoding` lacks spelled out, and unpaired surrogates (names that are not UTF-8) everywhere.

    The spelling is JSON's, so that JSON stays JSON: `\\u96ea`.
    """
    encoding = encoding or "utf-8"
    if _fits(text, encoding):
        return text
    return "".join(char if _fits(char, encoding) else _spell(char) for char in text)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _spelled(match: re.Match[str]) -> str:
    return _spell(match[0])


def _spell(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


class Console:
    """A text stream around another one that never raises: its writing cannot end an action half way.

    Control characters and what the encoding lacks are spelled out. When the stream itself fails (a closed pipe, a full disk),
    `failure` holds the reason and everything after that is dropped.
    """

    def __init__(self, stream: TextIO | None, *, bars: bool = False) -> None:
        """stream: None as under pythonw, which has no console. bars: let tqdm move the cursor."""
        self.failure: OSError | None = None
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        kept = match[0] if self._bars and (match := _BAR.match(text)) else ""
        shown = kept + _CONTROL.sub(_spelled, text[len(kept) :])
        with self._failing() as stream:
            if stream is not None:
                _write(stream, shown)
        return len(text)

    def flush(self) -> None:
        with self._failing() as stream:
            if stream is not None:
                stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    @property
    def reader_left(self) -> bool:
        """Whether the other end of the pipe was closed, as by `| head`."""
        gone = {errno.EPIPE, errno.ESHUTDOWN} | ({errno.EINVAL} if os.name == "nt" else set())
        return self.failure is not None and self.failure.errno in gone

    @contextmanager
    def _failing(self) -> Iterator[TextIO | None]:
        try:
            yield self._stream if self.failure is None else None
        except OSError as error:
            self.failure = error
            self._drop_what_waits()
        except ValueError:  # closed: nobody reads it any more
            self._stream = None

    def _drop_what_waits(self) -> None:
        """What the stream still holds goes nowhere; the interpreter would try again at its end, and complain."""
        assert self._stream is not None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(fitting(text, getattr(stream, "encoding", None)))
    except UnicodeEncodeError:  # a host's stream whose file takes less than its encoding says
        stream.write(fitting(text, "ascii"))


@contextmanager
def consoles() -> Iterator[tuple[Console, Console]]:
    """`sys.stdout` and `sys.stderr` as `Console`s as long as the block runs."""
    kept = sys.stdout, sys.stderr
    out, err = Console(sys.stdout), Console(sys.stderr, bars=True)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = kept
