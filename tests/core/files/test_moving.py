"""New files: under their name when they are whole, and never in another's place."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from sd_imagereward.core.files.moving import creating


def test_a_new_file_appears_whole(tmp_path: Path) -> None:
    with creating(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"new"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError), creating(tmp_path / "a"):
        raise AssertionError("the block must not run")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), creating(tmp_path / "link"):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "link"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none, as on exFAT"])
def test_of_many_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    started, won = threading.Barrier(8), []

    def create(number: int) -> None:
        try:
            with creating(tmp_path / "a") as file:
                file.write(b"%d" % number)
                started.wait(10)  # all have seen that there is none
        except FileExistsError:
            return
        won.append(b"%d" % number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == won
    assert len(won) == 1


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), creating(tmp_path / "a"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
