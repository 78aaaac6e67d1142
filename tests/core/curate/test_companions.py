"""Pictures with their texts through the actions of `imagereward curate`."""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.pictures.prompt_in_file import find_origin

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of one stem in several folders, each with a text that says which it is, and in one folder two that share one."""
    root = tmp_path / "pictures"
    for i, name in enumerate(("a/cat.png", "b/cat.jpg", "c/cat.webp", "d/cat.png", "e/dog.png", "e/dog.jpg")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        path.with_suffix(".txt").write_text(f"the prompt of {'e/dog' if 'dog' in name else name}")
        path.with_name(f"{path.name}.score.json").write_text(f"the score of {name}")
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], root: Path) -> Run:
    def call(*arguments: object, folder: Path | None = None) -> tuple[int, str]:
        code = main(["curate", str(folder or root), "--scorers", "technical", *map(str, arguments)])
        return code, capsys.readouterr().err

    return call


def prompts(folder: Path) -> dict[str, str | None]:
    pictures = [path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".webp")]
    return {path.name: find_origin(path).plain for path in pictures}


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, but for what is ours and hidden."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def check_each_kept_its_own(folder: Path) -> None:
    found = prompts(folder)
    assert sorted(filter(None, found.values())) == [
        *(f"the prompt of {name}" for name in ("a/cat.png", "b/cat.jpg", "c/cat.webp", "d/cat.png")),
        *["the prompt of e/dog"] * 2,
    ]
    for name, prompt in found.items():
        score = (folder / f"{name}.score.json").read_text()
        assert score.removeprefix("the score of ").startswith(str(prompt).removeprefix("the prompt of "))
        assert (folder / name).with_suffix(".txt").exists()


def test_moved_into_one_folder_and_back(run: Run, root: Path) -> None:
    before = files(root)
    assert "6 moved" in run("--move-below", 1e9, root / "weak")[1]
    check_each_kept_its_own(root / "weak")
    assert set(files(root)) == {f"weak/{name}" for name in files(root / "weak")}
    assert "6 moved back" in run("--undo")[1]
    assert files(root) == before


def test_copied_into_one_folder_once(run: Run, root: Path, tmp_path: Path) -> None:
    before, best = files(root), tmp_path / "best"
    assert "6 copied" in run("--copy-best", 6, best)[1]
    check_each_kept_its_own(best)
    assert files(root) == before
    copied = files(best)
    assert "0 copied" in run("--copy-best", 6, best)[1]
    lost = next(path for path in best.iterdir() if path.suffix == ".txt")
    lost.unlink()
    assert "1 copied" in run("--copy-best", 6, best)[1]  # what it lacked
    assert files(best) == copied
    assert "nothing to undo" in run("--undo")[1]


def test_renamed_and_back(run: Run, root: Path) -> None:
    before = files(root)
    assert "6 renamed" in run("--rename", "{rank:02d}_{name}")[1]
    assert all(path.with_suffix(".txt").exists() for path in root.rglob("0*.png"))
    assert len(files(root)) == len(before) + 1  # the two dogs have a text each
    assert "0 renamed" in run("--rename", "{rank:02d}_{name}")[1]
    assert "6 moved back" in run("--undo")[1]
    assert files(root) == before


def test_into_the_trash_together(run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trash = tmp_path / "trash"
    trash.mkdir()

    def send(path: str) -> None:
        os.replace(path, trash / os.path.relpath(path, root).replace("/", "-"))

    monkeypatch.setitem(sys.modules, "send2trash", types.SimpleNamespace(send2trash=send))
    before = files(root)
    assert "6 moved to the trash" in run("--delete-below", 1e9)[1]
    assert files(root) == {}
    assert set(files(trash)) == {name.replace("/", "-") for name in before}


@pytest.mark.parametrize("action", ["--move-below", "--copy-best"])
def test_each_kind_of_companion_goes_along(run: Run, tmp_path: Path, action: str) -> None:
    folder, target = tmp_path / "kinds", tmp_path / "kinds" / "weak"
    folder.mkdir()
    names = ["own.png.score.json", "hyd.png.txt", "cap.caption", "xmp.xmp", "dt.png.xmp", "swarm.swarm.json"]
    for i, name in enumerate(names):
        Image.new("RGB", (24, 24), (40 * i, 0, 9)).save(folder / f"{name.split('.')[0]}.png")
        (folder / name).write_text("companion")
    run(action, 99, target, folder=folder)
    assert sorted(path.name for path in target.iterdir()) == sorted(
        [*names, *(f"{name.split('.')[0]}.png" for name in names)]
    )


def test_undo_in_a_copied_folder_leaves_the_original_alone(run: Run, root: Path) -> None:
    before = files(root)
    run("--move-below", 1e9, root / "weak")
    moved, copy = files(root), shutil.copytree(root, root.with_name("copy"))
    assert "6 moved back" in run("--undo", folder=copy)[1]
    assert (files(copy), files(root)) == (before, moved)
    renamed = root.rename(root.with_name("renamed"))
    assert "6 moved back" in run("--undo", folder=renamed)[1]
    assert files(renamed) == before
