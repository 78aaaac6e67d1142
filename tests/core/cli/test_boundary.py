"""Whatever a command raises or prints: a sentence on stderr, an exit code that is documented, and no traceback."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import COMMAND, ROOT
from sd_imagereward import core
from sd_imagereward.core import cli
from sd_imagereward.core.cli import main
from sd_imagereward.core.errors import BadImage, WeightsNotFound


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes a command of the given error."""

    def make(error: BaseException) -> None:
        def run(_: argparse.Namespace) -> int:
            raise error

        def make_parser() -> argparse.ArgumentParser:
            parser = real()
            parser.set_defaults(run=run)
            return parser

        real = cli.make_parser
        monkeypatch.setattr(cli, "make_parser", make_parser)

    return make


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (BadImage("no image"), 2, "imagereward: no image\n"),
        (WeightsNotFound("no weights"), 3, "imagereward: no weights\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.png"),
            2,
            "imagereward: a.png: Permission denied; check",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), 2, "imagereward: a: No such file or"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.csv"),
            4,
            "imagereward: a.csv: No space left on device; free",
        ),
        (OSError(errno.EXDEV, "Cross-device", "a", None, "b"), 4, "imagereward: a and b: Cross-device\n"),
        (MemoryError(), 4, "imagereward: out of memory"),
        (KeyError("foo"), 4, "imagereward: KeyError: 'foo' (test_boundary.py, line "),
        (RuntimeError("two\nlines"), 4, "imagereward: RuntimeError: two lines ("),
        (RecursionError("deep"), 4, "imagereward: RecursionError: deep ("),
        (KeyboardInterrupt(), 130, "imagereward: stopped\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_a_code(capsys, raising, error: BaseException, code: int, sentence: str) -> None:
    raising(error)
    assert main([]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("where", ["option", "environment"])
def test_the_traceback_for_whoever_asks(capsys, raising, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    raising(KeyError("foo"))
    if where == "environment":
        monkeypatch.setenv("IMAGEREWARD_DEBUG", "1")
    assert main(["--debug"] if where == "option" else []) == 4
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("imagereward: KeyError")


def test_debug_stands_before_or_behind_the_command() -> None:
    parser = cli.make_parser()
    assert parser.parse_args(["--debug", "scorers"]).debug
    assert parser.parse_args(["scorers", "--debug"]).debug
    assert not parser.parse_args(["scorers"]).debug


def test_escape_sequences_of_a_message_are_spelled_out(capsys, raising) -> None:
    raising(BadImage("cannot read \x1b]0;owned\x07.png"))
    main([])
    assert capsys.readouterr().err == "imagereward: cannot read \\u001b]0;owned\\u0007.png\n"


def test_version_and_help(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"imagereward {core.__version__}\n"
    assert main([]) == 2
    page = capsys.readouterr().out
    assert page.startswith("usage: imagereward")
    for code in (0, 1, 2, 3, 4, 130):
        assert f"{code} " in page.split("exit codes:")[1]


def test_a_wrong_option_is_one_line(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "--top", "0", "a.png"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("imagereward: argument --top: expected a whole number of at least 1, got 0")
    assert err.count("\n") == 1


def process(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    environment = os.environ | {"IMAGEREWARD_HOME": str(ROOT / "nowhere")}
    environment |= {name: str(value) for name, value in options.items()}
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


def test_a_closed_pipe_ends_quietly() -> None:
    child = process("scorers")
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    assert child.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_behind_stdout_is_said() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "scorers"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "imagereward: the output could not be written: No space left on device\n"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text("utf-8").split("[tool.setuptools.package-data]")[1]
