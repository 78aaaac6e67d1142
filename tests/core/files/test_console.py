from __future__ import annotations

import errno
import io
import json
import os
import sys

import pytest
from sd_imagereward.core.files.console import Console, consoles, counted, fitting, one_line
from tqdm import tqdm

NAMES = ("雪狐.png", "фото.png", "café ☕.png", "🦊.png", os.fsdecode(b"caf\xe9.png"), "plain.png")


def console(encoding: str, *, bars: bool = False) -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    return Console(io.TextIOWrapper(raw, encoding=encoding, newline=""), bars=bars), raw


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "cp936", "ascii", "utf-8"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_printed_and_json_stays_json(encoding: str, name: str) -> None:
    stream, raw = console(encoding)
    print(json.dumps({"file": name}, ensure_ascii=False), file=stream)
    stream.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == {"file": name}


@pytest.mark.parametrize("control", ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\rfake", "\x08", "\x7f", "\u202e"])
@pytest.mark.parametrize("bars", [False, True])
def test_no_control_character_reaches_the_terminal(control: str, bars: bool) -> None:
    stream, raw = console("utf-8", bars=bars)
    print(f"a{control}b\tc", file=stream)
    stream.flush()
    text = raw.getvalue().decode()
    assert control not in text
    assert text.startswith("a")
    assert text.endswith("b\tc\n")
    assert json.loads(f'["{text[1:-4]}"]') == [control]


def test_bars_may_move_the_cursor() -> None:
    stream, raw = console("utf-8", bars=True)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    with tqdm(total=2, file=stream, position=1, mininterval=0) as bar:
        bar.update()
    stream.flush()
    assert "\\u" not in raw.getvalue().decode()
    assert "\r" in raw.getvalue().decode()


def test_one_line_is_one_line() -> None:
    assert one_line("a\nb\r\tc\x1b[0m") == "a\\u000ab\\u000d\\u0009c\\u001b[0m"


def test_a_noun_has_the_number_that_fits() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1024)] == ["0 images", "1 image", "2 images", "1,024 images"]


def test_what_fits_is_left_alone() -> None:
    assert fitting("雪狐 ☕", "utf-8") == "雪狐 ☕"
    assert fitting("雪 é", "cp1252") == "\\u96ea é"


class Failing(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reader_left"),
    [(OSError(errno.ENOSPC, "No space left on device"), False), (BrokenPipeError(errno.EPIPE, "Broken pipe"), True)],
)
def test_a_stream_that_fails_is_remembered_and_raises_nothing(error: OSError, reader_left: bool) -> None:
    stream = Console(Failing(error))
    print("a", file=stream, flush=True)
    print("b", file=stream)
    assert stream.failure is error
    assert stream.reader_left is reader_left


def test_a_closed_pipe_of_windows_is_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sd_imagereward.core.files.console.os.name", "nt")
    stream = Console(Failing(OSError(errno.EINVAL, "Invalid argument")))
    print("a", file=stream)
    assert stream.reader_left


def test_no_console_at_all() -> None:
    """As under pythonw, or with a stream that a host has closed."""
    stream = Console(None)
    print("a", file=stream, flush=True)
    assert not stream.isatty()
    closed = io.StringIO()
    closed.close()
    print("a", file=Console(closed))


def test_a_stream_that_takes_less_than_it_says() -> None:
    class Lying(io.StringIO):
        encoding = "utf-8"  # type: ignore[assignment]

        def write(self, text: str) -> int:
            text.encode("ascii")
            return super().write(text)

    inner = Lying()
    print("雪", file=Console(inner))
    assert inner.getvalue() == "\\u96ea\n"


def test_the_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout, sys.stderr
    with consoles() as (out, err):
        assert sys.stdout is out
        assert sys.stderr is err
    assert (sys.stdout, sys.stderr) == before
