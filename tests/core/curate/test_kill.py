"""A process killed at any moment leaves every file whole; after the next command each is where its picture is, exactly once."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import warm
from PIL import Image
from sd_imagereward.core.cli import EXIT_OK, EXIT_PARTIAL, main
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.workplace import open_workplace
from sd_imagereward.core.files import atomic
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.scan import scan
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.written import written_scores

KILLS = int(os.environ.get("IMAGEREWARD_TEST_KILLS", "4"))  # of each action; 25 make a hundred
COUNT = 24
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills; needs a POSIX system")

# Does the action over and over with other values, until it is killed.
WORKER = """
import os, signal
from pathlib import Path
from sd_imagereward.core.curate.actions import Actions
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.ranking import Ranked
from sd_imagereward.core.curate.workplace import open_workplace
from sd_imagereward.core.scorers.loading import load_scorer
root, busy, action, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
signal.alarm(120)  # whatever hangs, ends

def act(place, run, number):
    actions = Actions(Ranked(place.store, place.store.scorers()[0], root, run), place.journal)
    if action == "label":
        return actions.label(decimals=1 + number % 4)
    if action == "copy":
        return actions.copy_best(count, root / ".best" / f"{os.getpid()}-{number}")
    if action == "move":
        outcome = actions.move_below(1e9, root / "weak")
    else:
        outcome = actions.rename("{rank:03d}_{name}")
    place.undo()
    return outcome

with open_workplace(root) as place:
    summary = score_files(root, [("technical", load_scorer("technical"))], place.store)
    number = 0
    while not act(place, summary.run, number).failed:
        busy.touch()
        number += 1
"""


def pixels(path: Path) -> bytes:
    return Image.open(path).tobytes()


def make_pictures(root: Path, count: int) -> dict[str, bytes]:
    """Scored pictures of three formats with a text each; their pixels by name."""
    root.mkdir()
    expected = {}
    for i in range(count):
        path = root / f"{i}.{('png', 'jpg', 'webp')[i % 3]}"
        array = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        save_image(Image.fromarray(array), path, parameters=f"picture {i}\nSteps: 1, Seed: 2, Sampler: x")
        path.with_suffix(".txt").write_text(path.name)
        expected[path.name] = pixels(path)
    with open_workplace(root) as place:
        score_files(root, [("technical", load_scorer("technical"))], place.store)
    return expected


def visible(root: Path) -> list[Path]:
    return [p for p in root.rglob("[!.]*") if p.is_file() and p.suffix != ".txt" and ".best" not in p.parts]


def check_whole_and_once(root: Path, expected: dict[str, bytes]) -> None:
    """Each picture is there once, whatever its name now, whole, and its text beside it."""
    found = visible(root)
    texts = {path: path.with_suffix(".txt").read_text() for path in found}
    assert sorted(texts.values()) == sorted(expected)
    assert {text: pixels(path) for path, text in texts.items()} == expected
    assert len([path for path in root.rglob("*.txt") if ".best" not in path.parts]) == len(found)
    assert not list(root.rglob("*.tmp"))


@pytest.mark.parametrize("action", ["label", "copy", "move", "rename"])
def test_killed_at_random(tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "STALE_SECONDS", 0.0)
    root = tmp_path / "pictures"
    expected = make_pictures(root, COUNT)
    chance, changed = random.Random(action), 0
    for number in range(KILLS):
        before, busy = state(root), tmp_path / f"busy {number}"
        process = warm.start(WORKER, root, busy, action, COUNT)
        while not busy.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.1))
        assert process.poll() is None, process.communicate()  # an action that failed
        process.kill()
        process.wait()
        changed += state(root) != before
        assert main(["curate", str(root), "--scorers", "technical"]) == EXIT_OK
        check_whole_and_once(root, expected)
        for copy in (root / ".best").rglob("*.png"):
            assert copy.with_suffix(".txt").read_text() == copy.name
    assert changed > KILLS // 3  # or the kills came before anything happened
    undone = 0
    while {path.name for path in visible(root) if path.parent == root} != set(expected):
        assert main(["curate", str(root), "--scorers", "technical", "--undo"]) == EXIT_OK
        undone += 1
        assert undone <= 2 * KILLS
    check_whole_and_once(root, expected)


def state(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_size, p.stat().st_ino) for p in root.rglob("*") if p.suffix != ".tmp")


COMMAND = "from sd_imagereward.core.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("kills", [1, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("action", ["--label", "--move-below"])
def test_the_command_killed_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, kills: int
) -> None:
    """`imagereward curate` itself, killed after some of the files; the next call finishes and clears away what was left."""
    monkeypatch.setattr(atomic, "STALE_SECONDS", 0.0)
    start, root, weak = tmp_path / "start", tmp_path / "pictures", tmp_path / "pictures" / "weak"
    expected = make_pictures(start, 2 * COUNT)
    call = ["curate", str(root), "--scorers", "technical", action, *(["1e9", str(weak)] if action != "--label" else [])]
    chance = random.Random(action)
    for _ in range(kills):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(start, root)
        (root / ".secret.png").write_bytes(b"hidden, and not ours")
        before, after_so_many = inodes(root), chance.randrange(1, len(expected) - 8)
        process = warm.start(COMMAND, *call)
        late = time.monotonic() + 120  # a command that hangs fails below
        while process.poll() is None and len(before - inodes(root)) < after_so_many and time.monotonic() < late:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.01))
        process.kill()
        process.wait()
        assert before - inodes(root)  # it did not come before anything happened
        (root / f".{'0' * 32}.tmp").write_bytes(b"half a picture")  # what a kill leaves that comes while writing
        left = [path for path in visible(root) if path.parent == root]  # none if a busy machine let it come to its end
        assert main(call) == (EXIT_OK if left else EXIT_PARTIAL)
        check_whole_and_once(root, expected)
        assert not list(root.rglob("*.tmp"))
        assert (root / ".secret.png").exists()
        if action == "--label":
            assert all(written_scores(read_parameters(path)) for path in visible(root))
        else:
            assert {path.parent for path in visible(root)} == {weak}


def inodes(root: Path) -> set[tuple[str, int]]:
    """Where each file is, and which one it is: a label replaces it, a move takes it elsewhere."""
    return {
        (entry.name, entry.inode()) for entry in os.scandir(root) if not entry.name.startswith(".") and entry.is_file()
    }


def test_only_old_files_of_our_own_naming_are_cleared_away(tmp_path: Path) -> None:
    ours = tmp_path / f".{'a' * 32}.tmp"
    others = [tmp_path / name for name in (".a.tmp", f"{'a' * 32}.tmp", f".{'g' * 32}.tmp", f".{'a' * 32}.tmp.png")]
    for path in (ours, *others):
        path.write_bytes(b"x")
    assert list(scan(tmp_path)) == []
    assert ours.exists()  # it may be in the making
    assert not any(atomic.remove_leftover(path) for path in others)
    assert all(path.exists() for path in others)
