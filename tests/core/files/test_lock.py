"""One process at a time on a folder, whatever ends it."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest
from mounting import ROOT
from sd_imagereward.core.errors import FolderInUse, UnwritableFile
from sd_imagereward.core.files.lock import NAME, locked

HOLDER = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
from mounting import mount_package; mount_package()
from sd_imagereward.core.files.lock import locked
with locked(sys.argv[1]):
    print("has it", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has it\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told(tmp_path: Path) -> None:
    with (
        another_process(tmp_path),
        pytest.raises(FolderInUse, match=r"another process is working on .*Wait for it to end"),
        locked(tmp_path),
    ):
        pytest.fail("two hold it")


def test_a_second_process_waits_and_says_so_once(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        said = []

        def on_wait() -> None:
            said.append("waiting")
            assert process.stdin is not None
            process.stdin.close()  # ends the other one

        with locked(tmp_path, wait=20, on_wait=on_wait):
            assert said == ["waiting"]


def test_a_wait_that_is_too_short_is_told(tmp_path: Path) -> None:
    with another_process(tmp_path), pytest.raises(FolderInUse), locked(tmp_path, wait=0.2):
        pytest.fail("two hold it")


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass


def test_it_can_be_had_again_and_not_twice_at_once(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path), pytest.raises(FolderInUse), locked(tmp_path):
            pytest.fail("held twice")
    with locked(tmp_path / "store.sqlite3"), locked(tmp_path):  # of a file: another one
        assert (tmp_path / "store.sqlite3.lock").exists()


def test_nothing_but_a_hidden_file_is_added(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {NAME}
    assert NAME.startswith(".")


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_locked_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    folder, cache = tmp_path / "pictures", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    real = filelock.FileLock.acquire

    def refused(self: filelock.FileLock, *args: object, **options: object) -> object:
        if Path(self.lock_file).parent == folder:
            raise OSError(refusal, "no")
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with locked(folder):
        assert not list(folder.iterdir())
        assert len(list((cache / "imagereward").iterdir())) == 1
        with pytest.raises(FolderInUse), locked(folder):
            pytest.fail("held twice")


@pytest.mark.posix
@pytest.mark.parametrize("refusal", [OSError(errno.ENOLCK, "no locks"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_gets_a_file_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with locked(tmp_path), pytest.raises(FolderInUse), locked(tmp_path):
        pytest.fail("held twice")
    with locked(tmp_path):
        pass


def test_another_error_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with pytest.raises(UnwritableFile, match=r"cannot lock .*Input/output error"), locked(tmp_path):
        pass
