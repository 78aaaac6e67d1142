"""The main roads under Windows' rules for files, in every run of the tests; and the rules themselves."""

from __future__ import annotations

import builtins
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import checkpoints
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME
from sd_imagereward.core.errors import FileInUse, UnwritableFile
from sd_imagereward.core.files import atomic
from sd_imagereward.core.files.atomic import remove, rename, replace, replace_text
from sd_imagereward.core.files.tables import write_csv
from sd_imagereward.core.gallery.album import Album, Choice, picture_id
from sd_imagereward.core.pictures.opening import content_hash
from sd_imagereward.core.pictures.scan import Entry
from sd_imagereward.core.preference.reward_model import export, load_base
from sd_imagereward.core.prompts.embedders import Embedder
from sd_imagereward.core.prompts.library import PromptLibrary
from sd_imagereward.core.refl import Lora, LoraRecord, read_lora, write_lora
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.scoring.written import written_scores
from toy_generator import ToyGenerator

RECORD = LoraRecord("a", FAMILIES["sd1"], False, (512, 512), "base", "Technical", 1, 1e-4, 0, ["a fox"])

pytestmark = pytest.mark.windows_rules


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", 0.1)


# --- the rules ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_what_is_open_or_mapped_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with open(path, "rb"):
        for change in (lambda: replace_text(path, "new"), lambda: remove(path), lambda: rename(path, tmp_path / "b")):
            with pytest.raises(FileInUse, match="has it open"):
                change()
    mapped = torch.from_file(str(path), size=3, dtype=torch.uint8)
    with pytest.raises(FileInUse, match="has it mapped"):
        replace_text(path, "new")
    with pytest.raises(FileInUse):
        rename(path, tmp_path / "b")
    del mapped
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
    replace_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.usefixtures("impatient")
def test_a_folder_with_an_open_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / "b", "w"), pytest.raises(FileInUse):
        rename(tmp_path / "a", tmp_path / "c")


@pytest.mark.usefixtures("impatient")
def test_what_is_read_only_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(stat.S_IREAD)
    with pytest.raises(FileInUse, match="read-only"):
        remove(path)  # where Windows is no play, it takes the attribute away first
    with pytest.raises(UnwritableFile, match="read-only"):
        replace_text(path, "new")


def test_every_file_is_denied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(atomic.time, "sleep", naps.append)
    replace_text(tmp_path / "a", "first")  # nothing is there to be looked at
    assert not naps
    for _ in range(3):
        replace_text(tmp_path / "a", "again")
    assert len(naps) == 1


@pytest.mark.parametrize("name", ["con.png", "NUL", "lpt1.txt", "a?.png", "a:b", "a.", "x" * 200 + "/" + "y" * 100])
def test_names_that_windows_does_not_take(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "fine").touch()
    with pytest.raises(OSError):  # noqa: PT011
        rename(tmp_path / "fine", tmp_path / name)


def test_what_windows_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="on Windows"):
        builtins.__import__("fcntl", {"__name__": "sd_imagereward.core"})
    with pytest.raises(pytest.skip.Exception):
        os.symlink("a", tmp_path / "b")


# --- the main roads -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for i, size in enumerate((32, 64, 96)):
        Image.effect_noise((size, size), 40 * i).convert("RGB").save(root / f"{i}.png")
        (root / f"{i}.txt").write_text(f"a fox, {i}")
    return root


def test_label_move_undo_and_tables(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["curate", str(folder), "--scorers", "technical"]
    for _ in range(2):
        assert main([*call, "--label", "--csv", str(tmp_path / "a.csv")]) == 0
    with Image.open(folder / "0.png") as picture:
        assert "Technical" in written_scores(picture.info["parameters"])
    before = {path.name: path.read_bytes() for path in folder.glob("*.???")}
    assert main([*call, "--move-below", "99", str(tmp_path / "low")]) == 0
    assert not list(folder.glob("*.png"))
    assert main(["curate", str(folder), "--undo"]) == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.???")} == before
    capsys.readouterr()


def test_picks_in_the_gallery(folder: Path) -> None:
    record = ScorerRecord("technical", "Technical", False, 0.0, 1.0)
    with Store(folder / FILE_NAME) as store:
        run = store.begin_run()
        store.add_scorer(record)
        for i, path in enumerate(sorted(folder.glob("*.png"))):
            content = content_hash(path.read_bytes())
            picture = Picture(*Entry.of(path), hash=content, prompt="a fox", width=16, height=16)
            store.put([picture], run)
            store.put_scores(record, [(picture.hash, picture.prompt, i / 10, {})])
    album = Album.open(folder)
    choice = Choice(view="groups")
    album.pick(picture_id(album.show(choice).pictures[0]), choice)
    for _ in range(2):
        path, count = album.export()
        assert count == 2
    assert path.stat().st_size


def test_a_library_that_changes_is_embedded_once_a_change(tmp_path: Path) -> None:
    asked: list[int] = []

    def embed(texts: Sequence[str]) -> torch.Tensor:
        asked.append(len(texts))
        return torch.stack([torch.randn(64, generator=torch.Generator().manual_seed(len(text))) for text in texts])

    library = tmp_path / "prompts.txt"
    for texts in (["a", "bb"], ["a", "bb", "ccc"], ["a", "bb", "ccc", "dddd"]):
        library.write_text("\n".join(texts))
        first = PromptLibrary(library, Embedder("lengths", embed))
        first.suggest(["a"], 1)
        asked.clear()
        again = PromptLibrary(library, Embedder("lengths", embed))  # while the first one lives
        again.suggest(["a"], 1)
        assert sum(asked) <= 2  # the topic, and the probe of the kept index


def test_a_reward_model_takes_the_place_of_its_base(tmp_path: Path) -> None:
    base_file = checkpoints.write_imagereward(tmp_path, image_size=32)
    base = load_base(str(base_file), torch.device("cpu"))
    first = export(base, tmp_path, {"epoch": "1"})
    second = export(load_base(str(first), torch.device("cpu")), tmp_path, {"epoch": "2"})
    assert first == second
    assert load_file(second)


def test_a_lora_that_is_loaded_is_written_anew(tmp_path: Path) -> None:
    lora = Lora.on(ToyGenerator().layers(), rank=2)
    path = tmp_path / "a.safetensors"
    write_lora(lora, path, RECORD)
    kept = read_lora(path)
    write_lora(lora, path, RECORD)
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in read_lora(path).tensors.items())


@pytest.mark.usefixtures("impatient")
def test_a_lora_that_another_program_has_is_told(tmp_path: Path) -> None:
    lora = Lora.on(ToyGenerator().layers(), rank=2)
    path = tmp_path / "a.safetensors"
    write_lora(lora, path, RECORD)
    with safe_open(str(path), framework="pt") as file:
        name = next(iter(file.keys()))
        tensor = file.get_tensor(name)
        with pytest.raises(FileInUse, match="Close it there"):
            write_lora(lora, path, RECORD)
    assert tensor is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_a_table_is_written_again(tmp_path: Path) -> None:
    for number in range(2):
        write_csv([{"prompt": "füchslein", "score": number}], tmp_path / "a.csv")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_temporary_file_can_be_made_at_the_edge_of_the_longest_path(tmp_path: Path) -> None:
    room = 259 - len(str(tmp_path)) - 2
    folder = tmp_path / ("f" * (room - 20))
    folder.mkdir()
    path = folder / ("p" * (259 - len(str(folder)) - 5) + ".png")
    assert len(str(path)) == 259
    replace_text(path, "")
    replace(path, folder / "a.png")
