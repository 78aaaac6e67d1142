from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from sd_imagereward.core.files.progress import LINE_SECONDS, Progress

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def work(progress: Progress, clock: Clock, total: int, seconds: float, note: str = "") -> None:
    for done in range(progress.done + 1, total + 1):
        clock.now += seconds
        progress.show(done, total, note)


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("train", "step", 1000, stream=log, clock=clock) as progress:
        work(progress, clock, 1000, 0.125, "loss 0.6512")
    assert log.getvalue().splitlines() == [
        "train: 240 of 1,000 steps (24%), loss 0.6512, 8.0 steps/s, 01:35 left",
        "train: 480 of 1,000 steps (48%), loss 0.6512, 8.0 steps/s, 01:05 left",
        "train: 720 of 1,000 steps (72%), loss 0.6512, 8.0 steps/s, 00:35 left",
        "train: 960 of 1,000 steps (96%), loss 0.6512, 8.0 steps/s, 00:05 left",
        "train: 1,000 of 1,000 steps (100%), loss 0.6512, 8.0 steps/s, after 02:05",
    ]


def test_a_long_step_gets_its_line_when_it_is_over(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("train", "step", 3, stream=log, clock=clock) as progress:
        work(progress, clock, 3, 100.0)
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "train: 1 of 3 steps (33%), 100.0 s/step, 03:20 left"


def test_what_is_over_at_once_leaves_no_line(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("score", "image", 8, stream=log, clock=clock) as progress:
        work(progress, clock, 8, 0.5)
    assert log.getvalue() == ""


def test_work_that_breaks_off_says_how_far_it_came(clock: Clock) -> None:
    log = io.StringIO()

    def broken() -> None:
        with Progress("score", "image", 80, stream=log, clock=clock) as progress:
            work(progress, clock, 8, 1.0)
            progress.total = 80
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert log.getvalue() == "score: 8 of 80 images (10%), 1.0 s/image, 01:12 left\n"


def test_a_resumed_run_counts_its_own_pace(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("ReFL", "update", 100, 60, stream=log, clock=clock) as progress:
        clock.now += LINE_SECONDS
        progress.show(70)
    assert log.getvalue() == "ReFL: 70 of 100 updates (70%), 3.0 s/update, 01:30 left\n"


def test_bytes_and_an_unknown_total(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("a.pt", "B", 1_790_000_000, stream=log, clock=clock) as known:
        clock.now += 50
        known.show(1_000_000_000)
    with Progress("b.pt", "B", stream=log, clock=clock) as unknown:
        clock.now += 50
        unknown.show(5_000)
    assert log.getvalue().splitlines() == [
        "a.pt: 1.00 GB of 1.79 GB (55%), 20.00 MB/s, 00:39 left",
        "b.pt: 5.00 kB, 100 B/s, after 00:50",
    ]


def test_a_terminal_gets_a_bar(clock: Clock) -> None:
    terminal = Terminal()
    with Progress("train", "step", 4, leave=True, stream=terminal, clock=clock) as progress:
        work(progress, clock, 4, 100.0, "loss 0.6512")
        progress.write("epoch 1")
    shown = terminal.getvalue()
    assert "\r" in shown
    assert "4/4" in shown
    assert "loss 0.6512" in shown
    assert "\repoch 1\n" in shown.replace(" ", "").replace("epoch1", "epoch 1")
    assert "of 4 steps" not in shown


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hidden_is_hidden(clock: Clock, stream: type[io.StringIO]) -> None:
    shown = stream()
    with Progress("a.pt", "B", 8, hidden=True, stream=shown, clock=clock) as progress:
        work(progress, clock, 8, 100.0)
    assert shown.getvalue() == ""


@pytest.mark.parametrize("gone", [True, False])
def test_a_program_without_a_console_works_on(clock: Clock, gone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, or in a host that has replaced stderr by something with `write` alone."""
    written: list[str] = []
    host = type("Host", (), {"write": staticmethod(written.append), "flush": staticmethod(lambda: None)})()
    monkeypatch.setattr(sys, "stderr", None if gone else host)
    with Progress("train", "step", 1, clock=clock) as progress:
        clock.now += LINE_SECONDS
        progress.show(1)
    assert bool(written) != gone


def test_a_name_gives_the_terminal_no_orders(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("\x1b[2Jname", "B", stream=log, clock=clock) as progress:
        clock.now += LINE_SECONDS
        progress.show(1)
    assert log.getvalue().startswith("\\u001b[2Jname: 1 B")


def test_a_second_close_says_nothing_more(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress("train", "step", 8, stream=log, clock=clock)
    progress.show(3)
    progress.close()
    clock.now += 100
    progress.close()
    assert log.getvalue() == ""


def test_every_bar_is_this_one() -> None:
    rooms = ("core", "comfyui_nodes", "sdwebui_extension", "scripts")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    drawn = [path for path in files if re.search(r"^\s*(from|import) tqdm", path.read_text(encoding="utf-8"), re.M)]
    assert drawn == [ROOT / "core" / "files" / "progress.py"]
