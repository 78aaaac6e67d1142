"""Places for results are tried before the work, and look as before when they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sd_imagereward.core.errors import ImageRewardError, UnwritableFile
from sd_imagereward.core.files import atomic
from sd_imagereward.core.files.writable import expect_writable, expect_writable_folder


def test_a_place_that_can_be_written_looks_as_before(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("kept")
    expect_writable(tmp_path / "old.csv")
    expect_writable(tmp_path / "new.csv")
    expect_writable_folder(tmp_path / "a" / "b")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.csv", "kept")]


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    expect_writable(tmp_path / "a" / "b.csv")
    assert list((tmp_path / "a").iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(UnwritableFile, match="read-only"):
        expect_writable(tmp_path / "file")
    with pytest.raises(UnwritableFile, match="it is a folder"):
        expect_writable(tmp_path)
    with pytest.raises(UnwritableFile, match=r"cannot write into .*file/run: "):
        expect_writable_folder(tmp_path / "file" / "run")


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageRewardError, match=r"expected 1000000000\.0 GB of free disk space"):
        expect_writable_folder(tmp_path, room=10**18)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")
def test_a_disk_that_takes_names_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk still takes empty files."""
    monkeypatch.setattr(atomic, "open", lambda path, mode: open("/dev/full", mode, buffering=0), raising=False)  # noqa: SIM115
    with pytest.raises(UnwritableFile, match="the disk has no room"):
        expect_writable(tmp_path / "a.csv")
    with pytest.raises(UnwritableFile, match=f"cannot write into .*{tmp_path.name}: No space left"):
        expect_writable_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
