"""`imagereward curate` on small folders: scored once, then sorted, and nothing lost."""

from __future__ import annotations

import csv
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.ranking import Ranking
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME
from sd_imagereward.core.pictures import scan
from sd_imagereward.core.pictures.opening import open_image
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images
from sd_imagereward.core.scoring.written import written_scores

Curate = Callable[..., tuple[int, str, str]]
NAMES = ["noise.png", "sub/flat.jpg", "sub/deep/ramp.webp", "plain.png"]


def paint(kind: str) -> Image.Image:
    side = np.linspace(0, 255, 64)
    array = {
        "noise": np.random.default_rng(0).integers(0, 256, (48, 64, 3)),
        "flat": np.full((48, 64, 3), 90),
        "ramp": np.stack([np.tile(side, (48, 1))] * 3, axis=-1),
        "plain": np.stack([np.tile(side, (48, 1)), np.tile(side[::-1], (48, 1)), np.full((48, 64), 30)], axis=-1),
    }[kind]
    return Image.fromarray(array.astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for name in NAMES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(paint(path.stem), path, parameters=f"a {path.stem}\nSteps: 1, Seed: 2, Sampler: x, Model: m1")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / "notes.md").write_text("no picture")
    return root


@pytest.fixture
def curate(capsys: pytest.CaptureFixture[str], folder: Path) -> Curate:
    def call(*arguments: object, scorers: object = "technical") -> tuple[int, str, str]:
        code = main(["curate", str(folder), "--scorers", str(scorers), *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def ranking(folder: Path, scorer: str = "technical") -> dict[str, float]:
    with Store(folder / FILE_NAME) as store:
        one = next(one for one in store.scorers() if one.key == scorer)
        return {str(p.path.relative_to(folder)): p.score for p in Ranking(store, one)}


def test_scores_equal_score_images_and_a_second_run_scores_nothing(
    folder: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = curate()
    assert code == 1
    assert "5 images: 4 scored, 0 unchanged, 1 not readable" in err
    assert f"not scored: {folder / 'broken.png'}" in err
    expected = score_images(load_scorer("technical"), [folder / name for name in NAMES], "").total.tolist()
    assert ranking(folder) == pytest.approx(dict(zip(NAMES, expected, strict=True)), abs=1e-6)
    assert list(ranking(folder).values()) == sorted(expected, reverse=True)
    monkeypatch.setattr("sd_imagereward.core.curate.pipeline.open_picture", None)  # reading a file again would crash
    assert "5 images: 0 scored, 5 unchanged" in curate()[2]


def test_a_file_that_is_held_is_read_by_the_next_run(
    folder: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, plain = os.fspath(folder / "noise.png"), os.open

    def refuse(path: object, *rest: object, **more: object) -> int:
        if os.fspath(path) == held:
            raise PermissionError(13, "The process cannot access the file")
        return plain(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        code, _, err = curate()
    assert code == 1
    assert "5 images: 3 scored, 0 unchanged, 1 not readable, 1 not read this time" in err
    assert f"not read this time: {held}" in err
    assert "noise.png" not in ranking(folder)
    assert "5 images: 1 scored, 4 unchanged" in curate()[2]
    assert "noise.png" in ranking(folder)


def test_a_scorer_with_prompts_sees_each_files_own(folder: Path, curate: Curate, tiny_checkpoint: Path) -> None:
    paint("flat").save(folder / "silent.png")
    _, _, err = curate(scorers=f"{tiny_checkpoint},technical")
    assert "1 without a prompt" in err
    assert f"no prompt for {folder / 'silent.png'}" in err
    scorer = load_scorer(tiny_checkpoint)
    expected = score_images(scorer, [folder / name for name in NAMES], [f"a {Path(name).stem}" for name in NAMES]).total
    with Store(folder / FILE_NAME) as store:
        one = next(one for one in store.scorers() if one.key != "technical")
        scores = {str(p.path.relative_to(folder)): p.score for p in Ranking(store, one)}
    assert scores == pytest.approx(dict(zip(NAMES, expected.tolist(), strict=True)), abs=1e-4)
    assert "silent.png" in ranking(folder)
    assert "1 scored" in curate("--prompt", "a wall", scorers=tiny_checkpoint)[2]
    (folder / "silent.txt").write_text("another wall")
    assert "1 scored" in curate("--prompt", "a wall", scorers=tiny_checkpoint)[2]
    assert "0 scored" in curate("--prompt", "a wall", scorers=tiny_checkpoint)[2]


def test_moved_copied_and_renamed_files_are_not_scored_again(folder: Path, curate: Curate) -> None:
    curate()
    (folder / "noise.png").rename(folder / "sub" / "other.png")
    assert "0 scored" in curate()[2]
    assert "sub/other.png" in ranking(folder)
    assert "noise.png" not in ranking(folder)


def test_a_stopped_run_goes_on(folder: Path) -> None:
    scorer = load_scorer("technical")

    def stop(done: int, _found: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with Store(folder / FILE_NAME) as store, pytest.raises(KeyboardInterrupt):
        score_files(folder, [("technical", scorer)], store, batch_size=1, workers=1, on_progress=stop)
    with Store(folder / FILE_NAME) as store:
        summary = score_files(folder, [("technical", scorer)], store)
    assert summary.unchanged == 2
    assert summary.scored in (2, 3)  # the broken one among them or before
    assert len(ranking(folder)) == 4


def test_the_label_of_a_mixture_has_its_members(folder: Path, curate: Curate) -> None:
    assert "4 labelled" in curate("--label", scorers="mix(technical=2)")[2]
    text = read_parameters(folder / "noise.png")
    scores = written_scores(text)
    assert scores == {"Mix": pytest.approx(2 * scores["Technical"], abs=2e-4), "Technical": scores["Technical"]}
    assert scores == pytest.approx(written_scores(text))
    assert "0 labelled" in curate("--label", scorers="mix(technical=2)")[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no line breaks in file names")
def test_a_name_with_a_line_break_takes_one_line(folder: Path, curate: Curate) -> None:
    (folder / "noise.png").rename(folder / "two\nlines.png")
    _, out, _ = curate("--label", "--dry-run")
    assert len([line for line in out.splitlines() if line.startswith("label ")]) == len(out.splitlines()) == 4
    assert "two\\u000alines.png" in out


def test_label_then_nothing_left_to_do(folder: Path, curate: Curate) -> None:
    before = {name: open_image(folder / name).tobytes() for name in NAMES}
    assert "4 would be labelled" in curate("--label", "--dry-run")[2]
    assert written_scores(read_parameters(folder / "noise.png")) == {}
    assert "4 labelled" in curate("--label")[2]
    scores = ranking(folder)
    for name in NAMES:
        assert "Technical: " + f"{scores[name] + 0:.4f}" in read_parameters(folder / name)
        assert open_image(folder / name).tobytes() == before[name]
    again = curate("--label")[2]
    assert "0 scored" in again
    assert "0 labelled" in again


def test_tables(folder: Path, curate: Curate, tmp_path: Path) -> None:
    curate("--csv", tmp_path / "a.csv", "--jsonl", tmp_path / "a.jsonl")
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8-sig")))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["file"] for row in rows] == [row["file"] for row in lines] == [str(folder / n) for n in ranking(folder)]
    assert {row["model"] for row in rows} == {"m1"}


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_a_table_on_standard_output_has_it_alone(folder: Path, curate: Curate, tmp_path: Path, option: str) -> None:
    _, out, err = curate(option, "-", "--copy-best", 1, tmp_path / "best")
    rows = list(csv.DictReader(out.splitlines())) if option == "--csv" else list(map(json.loads, out.splitlines()))
    assert [row["file"] for row in rows] == [str(folder / name) for name in ranking(folder)]
    assert "4 listed" in err
    assert not Path("-").exists()
    code, out, err = curate("--csv", "-", "--jsonl", "-")
    assert (code, out) == (2, "")
    assert "give one of them a file" in err


def test_a_table_that_cannot_be_written_stops_nothing_else(folder: Path, curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, _, err = curate("--csv", tmp_path / "file" / "a.csv", "--jsonl", tmp_path / "a.jsonl")
    assert code == 1
    assert str(tmp_path / "file" / "a.csv") in err
    assert "4 listed" in err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4


def test_copy_best_twice_copies_once(curate: Curate, tmp_path: Path, folder: Path) -> None:
    best = list(ranking_after(curate, folder))[:2]
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / Path(best[0]).name).write_bytes(b"something else")
    assert "2 copied" in curate("--copy-best", 2, tmp_path / "best")[2]
    assert "0 copied" in curate("--copy-best", 2, tmp_path / "best")[2]
    first = Path(best[0])
    names = {first.name, f"{first.stem} (1){first.suffix}", Path(best[1]).name}
    assert {p.name for p in (tmp_path / "best").iterdir()} == names
    assert (tmp_path / "best" / first.name).read_bytes() == b"something else"


def ranking_after(curate: Curate, folder: Path) -> dict[str, float]:
    curate()
    return ranking(folder)


def contents(*folders: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes()
        for folder in folders
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def test_move_below_and_rename_are_undone_in_turn(curate: Curate, folder: Path, tmp_path: Path) -> None:
    scores = ranking_after(curate, folder)
    worst = list(scores)[-1]
    (folder / worst).with_suffix(".txt").write_text("its text")
    start = contents(folder)
    weak = folder / "weak"
    limit = (scores[worst] + sorted(scores.values())[1]) / 2
    assert "1 would be moved" in curate("--move-below", limit, weak, "--dry-run")[2]
    assert contents(folder) == start
    assert "1 moved" in curate("--move-below", limit, weak)[2]
    assert {p.name for p in weak.iterdir()} == {Path(worst).name, Path(worst).with_suffix(".txt").name}
    assert "0 moved" in curate("--move-below", limit, weak)[2]  # what lies there is left alone
    moved = contents(folder)
    assert "4 renamed" in curate("--rename", "{score:+.2f}_{name}")[2]
    renamed = {Path(name).name for name in contents(folder)}
    assert f"{scores['noise.png']:+.2f}_noise.png" in renamed
    assert "0 renamed" in curate("--rename", "{score:+.2f}_{name}")[2]
    assert "4 would be moved back" in curate("--undo", "--dry-run")[2]
    assert {Path(name).name for name in contents(folder)} == renamed
    curate("--undo")
    assert contents(folder) == moved
    curate("--undo")
    assert contents(folder) == start
    assert "nothing to undo" in curate("--undo")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--copy-best", "-1", "best"], "--copy-best 10 DIR"),
        (["--copy-best", "many", "best"], "--copy-best 10 DIR"),
        (
            ["--engine", "ray", "--parquet", "out", "--label", "--delete-below", "0"],
            "leave out --label, --delete-below",
        ),
        (["--engine", "ray"], "needs --parquet"),
        (["--parquet", "out"], "--engine ray"),
    ],
)
def test_wrong_use_is_said_before_anything_is_scored(
    curate: Curate, folder: Path, options: list[str], message: str
) -> None:
    code, _, err = curate(*options)
    assert code == 2
    assert message in err
    assert not (folder / FILE_NAME).exists()


def test_equal_names_are_numbered(curate: Curate, folder: Path) -> None:
    curate("--rename", "same{name:.0}")
    assert (folder / "same.png").exists()
    assert (folder / "same (1).png").exists()
    assert len(contents(folder)) == 6


@pytest.mark.parametrize("template", ["{nonsense}", "plain", "{score.real}", "{score:zz}", "{name", "{name[0]}"])
def test_odd_templates_are_refused_before_anything_is_scored(curate: Curate, folder: Path, template: str) -> None:
    code, _, err = curate("--rename", template)
    assert code == 2
    assert "cannot rename to" in err
    assert not (folder / FILE_NAME).exists()


def test_a_name_cannot_lead_elsewhere(folder: Path, curate: Curate) -> None:
    save_image(paint("noise"), folder / "evil.png", parameters="../../../evil\nSteps: 1, Seed: 2, Sampler: x")
    curate("--rename", "{prompt}_{name}")
    assert (folder / "_.._.._evil_evil.png").exists()


def test_delete_below_goes_to_the_trash_alone(
    curate: Curate, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "send2trash", None)
    code, _, err = curate("--delete-below", 0)
    assert code == 2
    assert "pip install send2trash" in err
    trash = tmp_path / "trash"
    trash.mkdir()
    fake = types.SimpleNamespace(send2trash=lambda path: os.replace(path, trash / os.path.basename(path)))
    monkeypatch.setitem(sys.modules, "send2trash", fake)
    assert "4 would be" in curate("--delete-below", 1e6, "--dry-run")[2]
    assert "4 moved to the trash" in curate("--delete-below", 1e6)[2]
    assert len(list(trash.iterdir())) == 4
    assert (folder / "broken.png").exists()  # without a score nothing is touched


def test_links_and_hidden_files_are_left_out(folder: Path, curate: Curate, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    paint("noise").save(outside)
    (folder / "link.png").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    paint("noise").save(folder / ".hidden.png")
    assert "5 images" in curate()[2]


def test_folders_of_the_system_are_left_out(folder: Path, curate: Curate) -> None:
    for name in ("$RECYCLE.BIN", "System Volume Information"):
        (folder / name).mkdir()
        paint("noise").save(folder / name / "gone.png")
    assert "5 images" in curate()[2]


@pytest.mark.parametrize(
    ("attributes", "tag", "left_out"),
    [(0x20, 0, False), (0x2, 0, True), (0x4, 0, True), (0x410, 0xA0000003, True), (0x400020, 0x9000601A, False)],
    ids=["plain", "hidden", "system", "junction", "OneDrive"],
)
def test_what_windows_hides_and_junctions_are_left_out(attributes: int, tag: int, left_out: bool) -> None:
    """By the numbers of Windows' documentation (File Attribute Constants, Reparse Point Tags)."""
    found = types.SimpleNamespace(st_file_attributes=attributes, st_reparse_tag=tag)
    item = types.SimpleNamespace(name="a.png", stat=lambda follow_symlinks: found)
    assert scan._is_the_systems(item) == left_out  # type: ignore[arg-type]


# -- uncertain prompts -------------------------------------------------------------------------------------------------


def test_uncertain_prompts_are_listed_with_their_place_and_left_out_when_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a {red|grey} fox", "clip": ["4", 0]}},
    }
    folder = tmp_path / "images"
    folder.mkdir()
    save_image(Image.new("RGB", (16, 16), "red"), folder / "sure.png", parameters="a dog\nSteps: 1, Seed: 2, Size: 8x8")
    save_image(Image.new("RGB", (16, 16), "blue"), folder / "unsure.png", chunks={"prompt": graph})

    def listed(*options: str) -> dict[str, dict[str, str]]:
        table = tmp_path / "table.jsonl"
        assert main(["curate", str(folder), "--scorers", "technical", "--jsonl", str(table), *options]) == 0
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
        return {Path(row["file"]).name: row for row in rows}

    for options, prompt in (((), "a red fox"), (("--strict-prompts",), None), ((), "a red fox")):
        rows = listed(*options)
        assert rows["sure.png"]["prompt_from"] == "PNG text 'parameters'"
        assert rows["sure.png"]["uncertain"] == ""
        assert rows["unsure.png"]["prompt"] == prompt
        assert "node 6 (CLIPTextEncode)" in rows["unsure.png"]["prompt_from"]
        assert "draws from" in rows["unsure.png"]["uncertain"]
        assert "unsure.png is uncertain" in capsys.readouterr().err
