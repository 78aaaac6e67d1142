"""Files that take another's place: whole or not at all, patient with those who hold them, and never leaving anything behind."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import textwrap
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
import warm
from safetensors.torch import load_file, save_file
from sd_imagereward.core.errors import FileInUse, ImageRewardError, UnwritableFile
from sd_imagereward.core.files import atomic
from sd_imagereward.core.files.atomic import (
    append_text,
    remove,
    remove_leftover,
    replace,
    replace_by_copy,
    replace_text,
    replacing,
    replacing_path,
    temporary_beside,
)


def held(winerror: int = 32) -> PermissionError:
    """What Windows says of a file that another program has open."""
    error = PermissionError(errno.EACCES, "The process cannot access the file because it is being used")
    error.winerror = winerror  # type: ignore[attr-defined]
    return error


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, at once."""
    slept: list[float] = []
    monkeypatch.setattr(atomic.time, "sleep", slept.append)
    return slept


def deny(monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: OSError) -> None:
    real, left = getattr(os, name), [times]

    def denied(*args: object, **options: object) -> object:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*args, **options)

    monkeypatch.setattr(os, name, denied)


@pytest.mark.parametrize("winerror", [5, 32, 33])
def test_a_file_that_is_held_for_a_moment_is_replaced_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float], winerror: int
) -> None:
    replace_text(tmp_path / "a.txt", "old")
    deny(monkeypatch, "replace", 4, held(winerror))
    replace_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert naps == sorted(naps)
    assert len(naps) == 4  # the pauses grow


def test_a_file_that_stays_held_is_named_with_who_may_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    replace_text(tmp_path / "a.txt", "old")
    deny(monkeypatch, "replace", -1, held())
    with pytest.raises(
        FileInUse, match=r"cannot replace .*a\.txt.*OneDrive or an antivirus. Close it there and try again"
    ):
        replace_text(tmp_path / "a.txt", "new")
    assert 5 < sum(naps) < 10
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]  # and no temporary file


def test_a_busy_file_of_a_network_drive_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    deny(monkeypatch, "replace", 1, OSError(errno.EBUSY, "Device or resource busy"))
    replace_text(tmp_path / "a.txt", "new")
    assert len(naps) == 1


@pytest.mark.posix
def test_what_does_not_pass_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "none", tmp_path / "a.txt")
    deny(monkeypatch, "replace", -1, PermissionError(errno.EPERM, "Operation not permitted"))
    with pytest.raises(PermissionError):
        replace_text(tmp_path / "a.txt", "new")
    assert not naps
    assert not list(tmp_path.iterdir())


def test_removing_is_as_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    (tmp_path / "a").touch()
    deny(monkeypatch, "unlink", 2, held())
    remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert len(naps) == 2
    with pytest.raises(FileNotFoundError):
        remove(tmp_path / "a")


def test_appending_waits_for_a_file_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    import builtins

    append_text(tmp_path / "log", "ä\n")
    real, left = open, [held(), held()]

    def denied(*args: object, **options: object) -> object:
        if left and args[1:] == ("ab",):
            raise left.pop()
        return real(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", denied)
    append_text(tmp_path / "log", "b\n")
    monkeypatch.undo()
    assert (tmp_path / "log").read_text("utf-8") == "ä\nb\n"
    assert len(naps) == 2


def _fail(file: BinaryIO, stop: type[BaseException]) -> None:
    file.write(b"half")
    raise stop


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path, stop: type[BaseException]) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(stop), replacing(tmp_path / "a") as file:
        _fail(file, stop)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_library_writes_by_name(tmp_path: Path) -> None:
    with replacing_path(tmp_path / "plain") as temporary:
        temporary.write_bytes(b"plain")
    with replacing_path(tmp_path / "a.safetensors") as temporary:
        save_file({"x": torch.ones(2)}, temporary)
        assert not (tmp_path / "a.safetensors").exists()
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [1, 1]
    # safetensors makes files that no other user can read
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_a_copy_is_whole_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    replace_by_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new"


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_a_missing_folder_is_told_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(UnwritableFile, match=r"no folder .*none\. Create it"),
        replacing(tmp_path / "none" / "a.csv"),
    ):
        pytest.fail("the block ran")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="it is a folder"):
        replace_text(tmp_path, "")


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UnwritableFile, match="cannot write"):
        replace_text(tmp_path / "a" / "b", "")


@pytest.mark.posix
def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="name too long"):
        replace_text(tmp_path / ("x" * 300), "")
    assert not list(tmp_path.iterdir())


def test_a_read_only_file_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(stat.S_IREAD)
    with pytest.raises(UnwritableFile, match=r"read-only\. Make it writable"):
        replace_text(path, "new")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
    path.chmod(stat.S_IREAD | stat.S_IWRITE)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("I/O error: There is not enough space on the disk. (os error 112)"),
    ],
)
def test_a_full_disk_is_a_sentence_whoever_met_it(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(UnwritableFile, match="the disk has no room") as caught, replacing(tmp_path / "a"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


FULL = """
    import resource, sys
    import torch
    from pathlib import Path
    from safetensors.torch import save_file
    from sd_imagereward.core.errors import UnwritableFile
    from sd_imagereward.core.files.atomic import replacing, replacing_path

    def by_name(path):
        with replacing_path(path) as temporary:
            save_file({"x": torch.zeros(1 << 18)}, temporary)

    def by_file(path):
        with replacing(path) as file:
            torch.save({"x": torch.zeros(1 << 18)}, file)

    def bytes_(path):
        with replacing(path) as file:
            file.write(bytes(1 << 20))

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # the system's own refusal, without filling a disk
    folder = Path(sys.argv[1])
    for write in (by_name, by_file, bytes_):
        try:
            write(folder / "a")
        except UnwritableFile as error:
            assert "no room" in str(error), error
        else:
            raise SystemExit("written")
        assert [path.read_text() for path in folder.iterdir()] == ["old"], list(folder.iterdir())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_torch_and_safetensors_on_a_disk_without_room(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    done = warm.run(textwrap.dedent(FULL), tmp_path)
    assert done.returncode == 0, done.stderr


# --- what a file is besides its bytes ---------------------------------------------------------------------------------


@pytest.mark.posix
def test_permissions_stay_and_a_link_keeps_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    replace_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def change(path: Path) -> None:
    with replacing(path, keep_attributes=True) as file:
        file.write(b"new")


def test_times_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_500_000_000_123_456_700))
    change(path)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mtime_ns == 1_500_000_000_123_456_700


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="extended attributes as Linux has them")
def test_extended_attributes_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.xdg.tags", b"best,cats")
    except OSError:
        pytest.skip("a file system without extended attributes")
    change(path)
    assert os.getxattr(path, "user.xdg.tags") == b"best,cats"


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="extended attributes as Linux has them")
def test_an_attribute_that_cannot_be_kept_stops_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "listxattr", lambda _: ["security.selinux", "user.tags"])
    monkeypatch.setattr(os, "getxattr", lambda *_: b"")
    monkeypatch.setattr(os, "setxattr", refused)
    with pytest.raises(UnwritableFile, match=r"user\.tags cannot be kept"):
        change(path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o664)
    change(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o664)


@pytest.mark.posix
def test_an_owner_that_cannot_be_kept_stops_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    real = os.stat_result(path.stat())
    strange = os.stat_result((*real[:4], real.st_uid + 1, *real[5:]))

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic, "_replaceable", lambda *_: strange)
    monkeypatch.setattr(os, "chown", refused)
    with pytest.raises(UnwritableFile, match="belongs to another user"):
        change(path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(not hasattr(os, "link"), reason="no hard links here")
def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(UnwritableFile, match=r"2 names \(hard links\)"):
        change(tmp_path / "a.png")
    assert (tmp_path / "a.png").samefile(tmp_path / "b.png")
    replace_text(tmp_path / "a.png", "new")  # a file of our own takes only its name
    assert (tmp_path / "b.png").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    replace_text(tmp_path / "pipe", "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    replace_text("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# --- leftovers --------------------------------------------------------------------------------------------------------


def test_temporary_names_are_short_hidden_and_never_twice_the_same(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / "a.png").name for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) <= 16 and re.fullmatch(r"\..*\.tmp", name) for name in names)


def test_what_a_kill_leaves_is_removed_later_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [temporary_beside(tmp_path / "a"), tmp_path / f".{'0f' * 16}.tmp"]
    others = [tmp_path / name for name in (".settings.tmp", "a.tmp", ".ir-0000000.tmp", ".ir-00000000.tmp.png")]
    for path in (*ours, *others):
        path.touch()
    assert not any(remove_leftover(path) for path in (*ours, *others))  # too young: they may be being written
    monkeypatch.setattr(atomic, "STALE_SECONDS", -1.0)
    assert [remove_leftover(path) for path in (*ours, *others)] == [True, True, False, False, False, False]
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_every_error_is_one_of_the_project_and_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(ImageRewardError) as caught:
        replace_text(tmp_path / "none" / "a", "")
    assert isinstance(caught.value, OSError)
