"""One process at a time; stores that are damaged, locked or cannot be written; dry runs that write nothing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import warm
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate import store as store_module
from sd_imagereward.core.curate import workplace
from sd_imagereward.core.curate.actions import Actions
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.ranking import Ranked, Ranking
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME, open_to_read, open_workplace
from sd_imagereward.core.errors import FolderInUse, ImageRewardError
from sd_imagereward.core.files.atomic import remove
from sd_imagereward.core.gallery.album import Album, Choice, NewScorer
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.written import written_scores

Run = Callable[..., tuple[int, str]]
COUNT = 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    make_pictures(root, COUNT)
    return root


def make_pictures(root: Path, count: int) -> None:
    root.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:03}.png", compress_level=0)  # of one size


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], root: Path) -> Run:
    def call(*arguments: object, command: str = "curate") -> tuple[int, str]:
        scorers = ["--scorers", "technical"] if command == "curate" else []
        code = main([command, str(root), *scorers, *map(str, arguments)])
        return code, capsys.readouterr().err

    return call


# -- two at once -----------------------------------------------------------------------------------------------------------

COMMAND = "from sd_imagereward.core.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_two_processes_on_one_folder_list_all_or_say_why_not(tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        folder = tmp_path / str(number)
        make_pictures(folder, 150)
        lists = [tmp_path / f"{number}-{i}.jsonl" for i in range(2)]
        both = [warm.start(COMMAND, "curate", folder, "--scorers", "technical", "--jsonl", lists[i]) for i in range(2)]
        others = [warm.start(COMMAND, "report", folder, "--output", tmp_path / "r.html")]
        others.append(warm.start(COMMAND, "curate", folder, "--scorers", "technical", "--label"))
        listed = []
        for process, table in zip(both, lists, strict=True):
            _, err = process.communicate(timeout=120)
            assert "Traceback" not in err
            if process.returncode == 0:
                listed.append(table.read_text().splitlines())
                assert len(listed[-1]) == 150
            else:
                assert "another process" in err
        assert listed
        for process in others:
            _, err = process.communicate(timeout=120)
            assert "Traceback" not in err
            assert process.returncode == 0 or re.search(
                r"has no scores yet|scored by Technical yet|another process", err
            )
            assert "0 pictures" not in err.replace("150 pictures", "")
        assert len({tuple(sorted(rows)) for rows in listed}) == 1


def test_the_second_waits_or_is_told(root: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_workplace(root):
        with pytest.raises(FolderInUse, match="another process"), open_workplace(root, wait=0.1):
            pass
        monkeypatch.setattr("sd_imagereward.core.gallery.album.WAIT_SECONDS", 0.1)
        with pytest.raises(ImageRewardError, match="another process"):
            Album.open(root).score(NewScorer("technical", False, lambda: load_scorer("technical")), trust=False)
    assert run()[0] == 0


def test_readers_see_the_last_finished_run_while_one_is_going_on(root: Path, run: Run) -> None:
    run()
    album, seen = Album.open(root), []
    Image.new("RGB", (16, 16), "red").save(root / "new.png")

    def look(done: int, found: int) -> None:
        place.store.commit()  # as it does from time to time
        with open_to_read(root) as other:
            record = other.scorers()[0]
            seen.append((len(Ranking(other, record)), album.show(Choice()).total))

    with open_workplace(root) as place:
        score_files(root, [("technical", load_scorer("technical"))], place.store, on_progress=look)
    assert set(seen) <= {(COUNT, COUNT), (COUNT + 1, COUNT + 1)}
    assert seen
    (root / "000.png").unlink()
    with open_workplace(root) as place:
        place.store.begin_run()
    assert album.show(Choice()).total == COUNT + 1  # a run that was stopped changes nothing
    run()
    assert album.show(Choice()).total == COUNT


def test_a_reader_holds_up_nobody_and_a_writer_no_reader(root: Path, run: Run) -> None:
    run()
    with open_workplace(root) as place:
        place.store.add_scorer(place.store.scorers()[0])  # a transaction that is not finished
        assert run("--output", root / "r.html", command="report")[0] == 0


# -- dry runs --------------------------------------------------------------------------------------------------------------


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        if path.is_file()
        else (path.stat().st_mtime_ns, path.stat().st_ino, b"")
        for path in [root, *root.rglob("*")]
    }


DRY = ("--dry-run", "--label", "--sidecar", "--rename", "{score}", "--move-below", 9, "weak", "--copy-best", 2, "best")


def test_a_dry_run_writes_nothing_at_all(root: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    leftover = root / ".ir-00000000.tmp"
    leftover.write_text("of a process that was killed")
    monkeypatch.setattr("sd_imagereward.core.files.atomic.STALE_SECONDS", -1.0)
    before = everything(root)
    code, err = run(*DRY, "--csv", "x.csv", "--jsonl", "x.jsonl")
    assert code == 0
    for said in (
        f"{COUNT} would be labelled",
        "2 would be copied",
        f"{COUNT} would be moved",
        f"{COUNT} would be listed",
    ):
        assert said in err
    assert everything(root) == before
    run("--move-below", 9, "weak")
    assert not leftover.exists()
    after = everything(root)
    assert "12 would be moved back" in run("--undo", "--dry-run")[1]
    run(*DRY)
    assert everything(root) == after
    rows = (root / ".imagereward.undo.jsonl").read_bytes().splitlines(keepends=True)
    (root / ".imagereward.undo.jsonl").write_bytes(b"".join(rows[:-2]))  # as if it had been killed before the end
    after = everything(root)
    run(*DRY)
    run("--undo", "--dry-run")
    assert everything(root) == after


def test_a_dry_run_after_a_kill_in_the_middle_of_a_transaction(root: Path, run: Run) -> None:
    run()
    database = root / FILE_NAME
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sqlite3, os; db = sqlite3.connect({str(database)!r}); db.execute('PRAGMA cache_size = 1');"
            "db.execute('DELETE FROM files'); db.execute('PRAGMA cache_spill = 1');"
            "db.executemany('INSERT INTO scores VALUES (?, 0, 0, 0, 0)', ((bytes(900) + b'%d' % i,) for i in range(999)));"
            "os._exit(9)",
        ],
        check=False,
    )
    assert child.returncode == 9
    assert Path(f"{database}-journal").stat().st_size > 0
    before = everything(root)
    assert "0 scored, 12 unchanged" in run("--dry-run")[1]
    assert everything(root) == before
    assert "0 scored, 12 unchanged" in run()[1]


# -- stores that cannot be used ----------------------------------------------------------------------------------------------


def damaged(kind: str, path: Path) -> None:
    if kind == "no database":
        path.write_bytes(b"no database" * 100)
    elif kind == "another version":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("PRAGMA user_version = 1")
    elif kind == "columns are missing":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("ALTER TABLE files DROP COLUMN labels")
    elif kind == "another program's":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("CREATE TABLE cookies (id INTEGER)")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


KINDS = ["no database", "another version", "columns are missing", "another program's", "cut"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_store_is_moved_aside_and_made_anew(root: Path, run: Run, kind: str) -> None:
    run()
    damaged(kind, root / FILE_NAME)
    content = (root / FILE_NAME).read_bytes()
    code, err = run("--output", root / "r.html", command="report")
    if kind != "cut":  # which only shows where it is read
        assert (code, f"imagereward curate {root}" in err) == (2, True)
    with contextlib.suppress(ImageRewardError):
        Album.open(root).show(Choice())
    before = everything(root)
    run("--dry-run")
    assert everything(root) == before
    codes = [run() for _ in range(2)]
    assert "Traceback" not in "".join(err for _, err in codes)
    assert "moved aside" in "".join(err for _, err in codes)
    assert f"{COUNT} images: " in codes[-1][1]
    assert codes[-1][0] == 0
    assert (root / f"{FILE_NAME}.damaged").read_bytes() == content
    assert Album.open(root).show(Choice()).total == COUNT


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_store_that_was_chosen_is_left_alone(root: Path, run: Run, tmp_path: Path, kind: str) -> None:
    chosen = tmp_path / "mine.sqlite3"
    run("--store", chosen)
    damaged(kind, chosen)
    content = chosen.read_bytes()
    for command in ("curate", "report"):
        code, err = run("--store", chosen, command=command)
        assert code == 2
        assert "Choose another file with --store" in err
        assert "Traceback" not in err
    assert chosen.read_bytes() == content


def test_random_damage_ends_in_a_sentence(root: Path, run: Run) -> None:
    run("--label")
    good, chance = (root / FILE_NAME).read_bytes(), random.Random(0)
    for _ in range(15):
        data = bytearray(good)
        for _ in range(chance.choice((1, 20, 400))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (root / FILE_NAME).write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        for command, options in (("report", ["--output", root / "r.html"]), ("curate", ["--dry-run"]), ("curate", [])):
            code, err = run(*options, command=command)
            assert code in (0, 1, 2)
            assert "Traceback" not in err
    (root / FILE_NAME).unlink()
    assert run()[0] == 0


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("database is locked", "another program is writing to it. Try again"),
        ("database or disk is full", "the disk is full. Free some space, or choose another place with --store"),
        ("attempt to write a readonly database", "cannot be opened or written there"),
        ("unable to open database file", "cannot be opened or written there"),
        ("disk I/O error", "cannot be opened or written there"),
    ],
)
def test_what_passes_by_itself_is_never_a_reason_to_delete(
    root: Path, run: Run, monkeypatch: pytest.MonkeyPatch, words: str, advice: str
) -> None:
    run()

    def fail(self: Store) -> int:
        with self._as_our_errors():
            raise sqlite3.OperationalError(words)

    monkeypatch.setattr(Store, "begin_run", fail)
    code, err = run()
    assert code == 2
    assert advice in err
    assert "delet" not in err
    assert "moved aside" not in err
    monkeypatch.undo()
    assert f"0 scored, {COUNT} unchanged" in run()[1]


def test_damage_deep_inside_is_told_of_the_store_and_not_of_the_copy_that_a_dry_run_reads(root: Path, run: Run) -> None:
    run()
    store = root / FILE_NAME
    data = bytearray(store.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    store.write_bytes(data)
    code, err = run("--dry-run")
    assert code == 2
    assert f"{store} is damaged or not a store. Run the command without --dry-run" in err
    assert store.read_bytes() == data
    run()  # moves it aside
    assert run()[0] == 0


def test_a_picture_without_a_prompt_lacks_nothing_for_a_scorer_that_reads_none(root: Path, run: Run) -> None:
    assert "prompt" not in run()[1]


def test_a_store_that_another_program_locks_is_waited_for(
    root: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(store_module, "_WAIT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(root / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, err = run()
        assert (code, "another program is writing to it" in err) == (2, True)
        assert run("--output", root / "r.html", command="report")[0] == 2
    assert "0 scored" in run()[1]


# -- places that cannot be written -------------------------------------------------------------------------------------------


@pytest.fixture
def unwritable(root: Path) -> Iterator[Path]:
    """The pictures in a folder that this process cannot write."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    root.chmod(0o555)
    with without_roots_rights() if os.geteuid() == 0 else contextlib.nullcontext():
        yield root
    root.chmod(0o755)


@contextlib.contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may write anywhere; without these two capabilities (capabilities(7)) this thread, and those it starts, may not."""
    if not sys.platform.startswith("linux"):
        pytest.skip("as root it needs Linux' capabilities")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the lower halves, then the upper ones
    assert libc.capget(header, before) == 0
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def test_a_read_only_folder_keeps_its_store_in_the_cache(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as cache:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        monkeypatch.setattr(os, "access", lambda *_: True)  # it says so on Windows
        assert main(["curate", str(unwritable), "--scorers", "technical"]) == 0
        assert "12 scored" in capsys.readouterr().err
        assert main(["curate", str(unwritable), "--scorers", "technical"]) == 0
        assert "0 scored" in capsys.readouterr().err
        assert len(list(Path(cache, "imagereward").glob("*.sqlite3"))) == 1
        assert Album.open(unwritable).show(Choice()).total == COUNT
        assert main(["report", str(unwritable), "--output", str(Path(cache, "r.html"))]) == 0
        assert main(["curate", str(unwritable), "--scorers", "technical", "--move-below", "9", cache]) == 1
        assert "Permission denied" in capsys.readouterr().err
        assert [path.name for path in Path(cache).iterdir() if path.suffix == ".png"] == []
    assert sorted(path.name for path in unwritable.iterdir()) == [f"{i:03}.png" for i in range(COUNT)]


def test_a_full_disk_is_no_reason_for_another_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    assert workplace.default_store(root) == root / FILE_NAME


def test_a_report_that_cannot_be_written_is_said_before_the_work(
    root: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("sd_imagereward.core.curate.report.Ranking", None)  # nothing is ranked
    code, err = run("--output", tmp_path / "file" / "r.html", command="report")
    assert code == 2
    assert str(tmp_path / "file") in err
    assert "Traceback" not in err


# -- pictures that changed since ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "same_time"),
    [*((action, False) for action in ("label", "move", "copy", "trash", "rename")), ("label", True)],
)
def test_a_picture_that_was_replaced_since_is_left_alone(
    root: Path, run: Run, action: str, same_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    path = root / "003.png"
    stat, size = path.stat(), path.stat().st_size
    pixels = np.random.default_rng(99).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    if same_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == size
    monkeypatch.setitem(sys.modules, "send2trash", type("fake", (), {"send2trash": staticmethod(remove)}))
    outcome, _ = Album.open(root).act(
        action, Choice("Technical"), 99, "{score}" if action == "rename" else "there", dry_run=False
    )
    assert (outcome.changed, outcome.failures) == (COUNT - 1, 1)
    assert outcome.failed[0][0] == path
    assert "changed since it was scored" in outcome.failed[0][1]
    assert path.exists()
    assert written_scores(str(Image.open(path).info.get("parameters", ""))) == {}
    assert "1 scored" in run()[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child; needs a POSIX system")
def test_a_name_from_before_a_killed_renaming_is_still_known(root: Path, run: Run) -> None:
    """The store takes moves in by the hundred, so a killed process leaves it behind the journal."""
    run()
    child = os.fork()
    if child == 0:
        with open_workplace(root) as place:
            ranked = Ranked(place.store, place.store.scorers()[0], root)
            told = iter(range(5))
            Actions(ranked, place.journal, say=lambda line: next(told, None) is None and os._exit(9)).rename("x_{name}")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(root.glob("x_*.png"))) in (6, 7)
    assert run("--rename", "x_{name}")[0] == 0
    assert sorted(path.name for path in root.glob("*.png")) == [f"x_{i:03}.png" for i in range(COUNT)]


def test_a_voice_that_fails_ends_no_action(root: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(line: str, file: object = None) -> None:
        if file is None:
            raise UnicodeEncodeError("cp1252", "雪", 0, 1, "no such character")

    monkeypatch.setattr("sd_imagereward.core.cli.curate.print", fail, raising=False)
    run("--move-below", 99, root / "weak")
    assert len(list((root / "weak").iterdir())) == COUNT
    run("--undo")
    assert len(list(root.glob("*.png"))) == COUNT
