"""Moves of pictures with their companions: all or nothing, undone in turn, and finished after a kill at any instant."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sd_imagereward.core.files import moving
from sd_imagereward.core.files.journal import Journal, Part

NAMES = ("cat.png", "cat.txt", "cat.png.score.json")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child; needs a POSIX system")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for name in NAMES:
        (root / name).write_text(f"content of {name}")
    return root


@pytest.fixture(params=["link", "no links", "other file system"])
def there(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to move to, by each of the ways to move."""
    if request.param == "other file system":
        other = Path("/dev/shm")
        if not other.is_dir() or other.stat().st_dev == root.stat().st_dev:
            pytest.skip("needs a second file system at /dev/shm")
        with tempfile.TemporaryDirectory(dir=other) as folder:
            yield Path(folder)
        return
    if request.param == "no links":

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    yield root / "weak"


def journal_of(root: Path) -> Journal:
    return Journal(root / ".undo.jsonl")


def parts(root: Path, there: Path, *names: str) -> list[Part]:
    return [Part(root / name, there / name) for name in names or NAMES]


def texts(*folders: Path) -> dict[str, str]:
    """Every file that is not the journal, hidden leftovers included."""
    return {
        f"{folder.name}/{path.name}": path.read_text()
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_file() and path.name != ".undo.jsonl"
    }


def no_trash(path: Path) -> None:
    raise AssertionError(path)


def test_all_parts_go_and_come_back(root: Path, there: Path) -> None:
    before = texts(root)
    os.utime(root / "cat.png", (1e9, 1e9))
    assert journal_of(root).carry([parts(root, there)]) == there / "cat.png"
    assert sorted(texts(there)) == sorted(f"{there.name}/{name}" for name in NAMES)
    assert texts(root) == {}
    assert (there / "cat.png").stat().st_mtime == 1e9
    assert [reason for _, reason in journal_of(root).undo()] == [""]
    assert texts(root) == before
    assert texts(there) == {}
    assert journal_of(root).undo() == []


def test_of_a_failure_nothing_is_left(root: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = texts(root)
    move = moving.move_file

    def refuse(old: Path, new: Path, temporary: Path) -> None:
        if old.name == "cat.png.score.json":
            raise PermissionError(errno.EACCES, "held by another program", os.fspath(old))
        move(old, new, temporary)

    monkeypatch.setattr("sd_imagereward.core.files.journal.move_file", refuse)
    with pytest.raises(PermissionError):
        journal_of(root).carry([parts(root, there)])
    assert (texts(root), texts(there)) == (before, {})
    assert journal_of(root).undo() == []


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(root: Path, there: Path) -> None:
    """The second candidate is taken by all parts, though only a companion's name was."""
    there.mkdir(exist_ok=True)

    def candidates() -> Iterator[list[Part]]:
        first = parts(root, there)
        yield first
        yield [Part(part.old, part.new.with_name(f"1-{part.new.name}")) for part in first]

    journal, expected = journal_of(root), texts(root)
    carry = journal._carry_part

    def late(part: Part) -> None:
        if part.new == there / "cat.txt":
            (there / "cat.txt").write_text("somebody else's")
        carry(part)

    journal._carry_part = late  # type: ignore[method-assign]
    assert journal.carry(candidates()) == there / "1-cat.png"
    assert texts(there).pop(f"{there.name}/cat.txt") == "somebody else's"
    assert {name.removeprefix(f"{there.name}/1-") for name in texts(there)} == {*NAMES, f"{there.name}/cat.txt"}
    assert list(expected.values()) == [texts(there)[f"{there.name}/1-{Path(name).name}"] for name in expected]


@forks
@pytest.mark.parametrize("doing", ["move", "copy", "undo", "trash"])
def test_killed_before_each_single_step(root: Path, there: Path, doing: str) -> None:
    """A child ends before its nth operation on files, for every n; the next command leaves all at one place."""
    start = texts(root)
    names = [Path(name).name for name in start]
    moved = {f"{there.name}/{name}": start[f"pictures/{name}"] for name in names}
    trashed = root.parent / "trash"
    trashed.mkdir()
    ends: set[str] = set()
    for step in range(1, 200):
        for folder in (root, there, trashed):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for name, text in start.items():
            (root / Path(name).name).write_text(text)
        if doing == "undo":
            journal_of(root).carry([parts(root, there)])
        finished = not _killed(step, lambda: _do(doing, root, there, trashed))
        journal_of(root).repair(lambda path: shutil.move(path, trashed))  # type: ignore[arg-type, return-value]
        everything = texts(root, there, trashed)
        if doing == "copy":
            assert everything in (start, start | moved), step
        elif doing == "trash":
            assert everything in (start, {f"trash/{Path(name).name}": text for name, text in start.items()}), step
        else:
            assert everything in (start, moved), step
        ends.add(min(everything))
        journal_of(root).repair(no_trash)
        assert texts(root, there, trashed) == everything
        if finished:
            break
    else:
        pytest.fail("it never came to its end")
    assert step > 5
    assert len(ends) == 2 or doing == "copy"  # some kills came before, some after


def _do(doing: str, root: Path, there: Path, trashed: Path) -> None:
    journal = journal_of(root)
    if doing == "move":
        journal.carry([parts(root, there)])
    elif doing == "copy":
        journal.carry([[Part(part.old, part.new, copied=True) for part in parts(root, there)]])
    elif doing == "undo":
        journal.undo()
    else:
        journal.trash([root / name for name in NAMES], lambda path: os.rename(path, trashed / path.name))


def _killed(step: int, act: Callable[[], None]) -> bool:
    """Whether the child ended before its nth operation on files rather than by coming to its end."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, _arguments: object) -> None:
            nonlocal left
            if event in ("open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.utime", "os.chmod"):
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(count)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@forks
def test_what_is_copied_back_after_the_kill_is_left_alone(root: Path, there: Path) -> None:
    _killed(10**6, lambda: _do("move", root, there, there))
    shutil.copy2(there / "cat.png", root / "cat.png")
    rows = (root / ".undo.jsonl").read_text().splitlines()
    assert json.loads(rows.pop())["state"] == "done"
    for text in ("\n".join([*rows, ""]), "\n".join([*rows, '{"run": "'])):  # as if it had been killed before that row
        (root / ".undo.jsonl").write_text(text)
        journal_of(root).repair(no_trash)
        assert (root / "cat.png").exists()
        assert (there / "cat.png").exists()


def test_undo_in_a_copy_changes_the_copy_and_after_a_renaming_it_works(root: Path) -> None:
    before = texts(root)
    journal_of(root).carry([parts(root, root / "weak")])
    moved = texts(root, root / "weak")
    copy = shutil.copytree(root, root.with_name("copy"))
    assert [reason for _, reason in journal_of(copy).undo()] == [""]
    assert list(texts(copy).values()) == list(before.values())
    assert texts(root, root / "weak") == moved
    renamed = root.rename(root.with_name("renamed"))
    assert [reason for _, reason in journal_of(renamed).undo()] == [""]
    assert sorted(texts(renamed).values()) == sorted(before.values())


def test_what_went_outside_comes_back_to_the_folder_and_not_to_its_copy(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    journal_of(root).carry([parts(root, outside)])
    copy = shutil.copytree(root, root.with_name("copy"))
    ((entry, reason),) = journal_of(copy).undo()
    assert (entry.new, "a copy of" in reason) == (outside / "cat.png", True)
    assert len(texts(outside)) == 3
    renamed = root.rename(root.with_name("renamed"))
    assert "a copy of" in journal_of(copy).undo()[0][1]  # though the folder that is named there is gone
    assert [reason for _, reason in journal_of(renamed).undo()] == [""]
    assert len(texts(renamed)) == 3


def test_a_shared_companion_goes_along_as_a_copy_and_comes_back_as_none(root: Path) -> None:
    going = [Part(root / "cat.png", root / "weak" / "cat.png"), Part(root / "cat.txt", root / "weak" / "cat.txt", True)]
    before = texts(root)
    journal_of(root).carry([going])
    assert (root / "cat.txt").read_text() == (root / "weak" / "cat.txt").read_text()
    journal_of(root).undo()
    assert texts(root, root / "weak") == before
    journal_of(root).carry([going])
    (root / "weak" / "cat.txt").write_text("changed since")
    journal_of(root).undo()
    assert texts(root, root / "weak") == before | {"weak/cat.txt": "changed since"}


def test_undo_goes_back_through_names_that_took_one_anothers_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    journal = Journal(tmp_path / "journal")
    journal.carry([[Part(tmp_path / "b", tmp_path / "c")]])
    journal.carry([[Part(tmp_path / "a", tmp_path / "b")]])
    back = [(tmp_path / "b", tmp_path / "a"), (tmp_path / "c", tmp_path / "b")]
    for dry_run in (True, False):
        assert [((entry.new, entry.old), reason) for entry, reason in journal.undo(dry_run=dry_run)] == [
            (pair, "") for pair in back
        ]
    assert {p.name: p.read_text() for p in tmp_path.iterdir() if p != journal.path} == {"a": "a", "b": "b"}
    assert journal.undo() == []


def test_what_cannot_go_back_is_said_and_tried_again(root: Path) -> None:
    journal = journal_of(root)
    for name in NAMES[:2]:
        journal.carry([parts(root, root / "weak", name)])
    (root / "cat.txt").mkdir()
    assert [(entry.old.name, reason) for entry, reason in journal.undo()] == [("cat.png", "")]
    (root / "cat.txt").rmdir()
    assert [(entry.old.name, reason) for entry, reason in journal.undo()] == [("cat.txt", "")]
    assert journal.undo() == []


def test_a_companion_whose_old_place_is_taken_keeps_its_picture_back(root: Path) -> None:
    journal = journal_of(root)
    journal.carry([parts(root, root / "weak")])
    (root / "cat.txt").write_text("a new one")
    ((_, reason),) = journal.undo()
    assert reason == f"{root / 'cat.txt'} is in the way"
    assert len(texts(root / "weak")) == 3


def test_a_journal_of_any_content_does_no_harm(root: Path) -> None:
    """Random damage, and rows that somebody made up to move a file out of the folder."""
    journal_of(root).carry([parts(root, root / "weak")])
    good = (root / ".undo.jsonl").read_bytes()
    chance = random.Random(0)
    outside = root.parent / "outside"
    evil = {"run": "r", "n": 1, "was": [[0, 0, 0]], "home": ["/nowhere", 1]}
    escapes = [
        [[os.fspath(outside), "weak/cat.png", False]],
        [["../outside", "weak/cat.png", False]],
        [["weak/../../outside", "weak/cat.png", False]],
    ]
    made_up = [json.dumps(evil | {"parts": pairs}) + '\n{"run": "r", "n": 1, "state": "done"}\n' for pairs in escapes]
    damaged = [bytes(chance.choice((byte, chance.randrange(256))) for byte in good) for _ in range(50)]
    shapes = [
        b"[]\n3\nnull\n",
        b'{"run": 1, "n": []}\n',
        b'{"run": "r", "n": 1, "parts": 5, "was": 5}\n',
        b"[" * 100_000,
    ]
    for data in [*damaged, *(text.encode() for text in made_up), *shapes]:
        (root / ".undo.jsonl").write_bytes(data)
        journal_of(root).repair(no_trash)
        journal_of(root).undo()
        assert not outside.exists()
        assert len(texts(root, root / "weak")) == 3
        (root / ".undo.jsonl").write_bytes(good)
        journal_of(root).undo()
        journal_of(root).carry([parts(root, root / "weak")])


def test_a_row_after_half_a_line_is_a_line_of_its_own(root: Path) -> None:
    (root / ".undo.jsonl").write_bytes(b'{"run": "abc", "n": 1, "par')
    journal_of(root).carry([parts(root, root / "weak")])
    assert [reason for _, reason in journal_of(root).undo()] == [""]
    assert len(texts(root)) == 3


def test_not_stored_tells_the_moves_since_the_mark(root: Path) -> None:
    journal, weak = journal_of(root), root / "weak"
    journal.carry([parts(root, weak)])
    assert journal.not_stored() == [(root / "cat.png", weak / "cat.png")]
    journal.mark_stored()
    assert journal.not_stored() == []
    journal.undo()
    assert journal_of(root).not_stored() == [(weak / "cat.png", root / "cat.png")]


def test_a_leftover_of_a_killed_copy_is_removed_at_once(root: Path, there: Path) -> None:
    journal = journal_of(root)
    entry = journal._begin(parts(root, there))
    there.mkdir(exist_ok=True)
    leftover = journal._temporary(there / "cat.png")
    leftover.write_text("half")
    assert time.time() - leftover.stat().st_ctime < 60
    journal_of(root).repair(no_trash)
    assert not leftover.exists()
    assert entry.new.exists()
