from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import NormalDist

import checkpoints
import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.pictures import opening
from sd_imagereward.core.pictures.saving import save_image


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def score(capsys, tiny_checkpoint: Path):
    """Runs `score` with the tiny checkpoint and returns (exit code, rows)."""

    def call(*arguments: object) -> tuple[int, list[dict[str, object]]]:
        code, out, _ = run(capsys, "score", *arguments, "--scorer", tiny_checkpoint, "--format", "json")
        return code, json.loads(out)

    return call


def test_a_table_best_first(capsys, tiny_checkpoint: Path, pictures: list[Path]) -> None:
    code, out, _ = run(capsys, "score", "a castle", *pictures, "--scorer", tiny_checkpoint)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["rank", "score", "percentile", "file"]
    scores = [float(line.split()[1]) for line in lines[1:]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert {line.split()[-1] for line in lines[1:]} == {str(path) for path in pictures}


def test_percentile_is_the_standard_normals(score, pictures: list[Path]) -> None:
    for row in score("a castle", *pictures)[1]:
        assert row["percentile"] == pytest.approx(100 * NormalDist().cdf(float(row["score"])), abs=1e-6)


def test_top_and_limit(score, pictures: list[Path]) -> None:
    everything = score("a castle", *pictures)[1]
    assert score("a castle", *pictures, "--top", 2) == (0, everything[:2])
    assert score("a castle", *pictures, f"--min-score={everything[1]['score']}") == (0, everything[:2])
    assert score("a castle", *pictures, "--min-score", 1e6) == (1, [])


def test_folders_patterns_and_lists(score, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    (folder / "note.md").write_text("not a picture")
    assert len(score("a castle", folder)[1]) == 4
    assert len(score("a castle", folder / "*.png")[1]) == 2
    listed = folder / "list.jsonl"
    listed.write_text(
        "".join(json.dumps({"path": p.name, "prompt": f"cat {i}"}) + "\n" for i, p in enumerate(pictures))
    )
    assert {row["prompt"] for row in score(listed)[1]} == {f"cat {i}" for i in range(4)}
    table = folder / "list.csv"
    table.write_text(f'file,text\n{pictures[0].name},"a cat, and a dog"\n')
    assert [row["prompt"] for row in score(table)[1]] == ["a cat, and a dog"]


def test_a_prompt_for_each_image(capsys, score, tmp_path: Path, pictures: list[Path]) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("one\ntwo\nthree\nfour\n")
    rows = score(*pictures, "--prompts", prompts)[1]
    expected = {(str(path), text) for path, text in zip(pictures, ["one", "two", "three", "four"], strict=True)}
    assert {(row["file"], row["prompt"]) for row in rows} == expected
    prompts.write_text("one\n")
    code, _, err = run(capsys, "score", *pictures, "--prompts", prompts, "--scorer", "technical")
    assert code == 2
    assert "for 4 images" in err
    assert "has 1 line" in err


def test_images_bring_their_own_prompts(capsys, score, tmp_path: Path, tiny_checkpoint: Path) -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    parameters = "a (red:1.2) castle <lora:x:1>\nSteps: 20, Sampler: Euler, Seed: 1"
    save_image(picture, tmp_path / "a.png", parameters=parameters)
    picture.save(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a dog")
    assert {row["prompt"] for row in score(tmp_path / "a.png", tmp_path / "b.png")[1]} == {"a red castle", "a dog"}
    picture.save(tmp_path / "c.png")
    code, _, err = run(capsys, "score", tmp_path / "c.png", "--scorer", tiny_checkpoint)
    assert code == 1
    assert "no prompt for it" in err


def test_csv_reads_back(capsys, tmp_path: Path, tiny_checkpoint: Path, pictures: list[Path]) -> None:
    _, out, _ = run(capsys, "score", 'a "red", castle', *pictures, "--scorer", tiny_checkpoint, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["prompt"] == 'a "red", castle'
    run(capsys, "score", "a castle", *pictures, "--scorer", tiny_checkpoint, "--output", tmp_path / "out.csv")
    assert len(list(csv.DictReader((tmp_path / "out.csv").open()))) == 4


def test_a_broken_image_is_listed_and_the_rest_scored(
    capsys, tmp_path: Path, tiny_checkpoint: Path, pictures: list[Path]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    code, out, err = run(capsys, "score", "a castle", pictures[0], broken, "--scorer", tiny_checkpoint)
    assert code == 1
    assert len(out.splitlines()) == 2
    assert f"not scored: {broken}" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["score"], 2, "no images given"),
        (["score", "a castle", "gone/*.png"], 2, "nothing has this name"),
        (["score", "a castle", "PICTURE", "--scorer", "nonsense"], 2, "no scorer and no file"),
        (["score", "a castle", "PICTURE", "--scorer", "PICTURE"], 3, "cannot be read as a PyTorch"),
        (["download", "nonsense"], 2, "no scorer is named 'nonsense'"),
    ],
)
def test_wrong_use_has_its_own_code(
    capsys, pictures: list[Path], arguments: list[str], code: int, message: str
) -> None:
    got, out, err = run(capsys, *[str(pictures[0]) if a == "PICTURE" else a for a in arguments])
    assert got == code
    assert message in err
    assert out == ""


def test_demo_scores_pictures_made_on_the_spot(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "score", "--demo")
    assert code == 0
    assert len(out.splitlines()) > 4
    page = (tmp_path / "imagereward-demo" / "index.html").read_text(encoding="utf-8")
    assert "data:image/" in page
    assert "contact sheet: imagereward-demo" in err


def test_scorers_say_which_typical_values_are_estimates(capsys) -> None:
    lines = {line.split()[0]: line for line in run(capsys, "scorers")[1].splitlines() if line}
    assert " about 0.27 ± 0.015 " in lines["hpsv2"]
    assert " about " not in lines["imagereward"].split("Apache-2.0")[0]
    assert "standard deviation estimated" in lines["hpsv2,"]


def test_scorers_are_listed_with_licence(capsys) -> None:
    code, out, _ = run(capsys, "scorers")
    assert code == 0
    assert any(
        line.startswith("imagereward") and "Apache-2.0" in line and "1.79 GB" in line for line in out.splitlines()
    )


def test_convert_writes_beside(capsys, tmp_path: Path) -> None:
    source = checkpoints.write_imagereward(tmp_path)
    code, out, _ = run(capsys, "convert", source, "--dtype", "fp16")
    assert code == 0
    assert out.strip() == str(tmp_path / "ImageReward.safetensors")
    assert (tmp_path / "ImageReward.safetensors").stat().st_size < source.stat().st_size


@pytest.mark.parametrize("name", ["mine.json", "mine.yaml"])
def test_a_mixture_file_shows_its_parts(capsys, name: str, tmp_path: Path, tiny_checkpoint: Path, pictures) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml", reason="PyYAML is optional")
    text = json.dumps({"mix": {str(tiny_checkpoint): 1, "technical": 0.1}})  # JSON is YAML, too
    (tmp_path / name).write_text(text)
    code, out, _ = run(capsys, "score", "a castle", *pictures, "--scorer", tmp_path / name)
    header, *lines = (line.split() for line in out.splitlines())
    assert code == 0
    assert header == ["rank", "score", "percentile", "ImageReward", "Technical", "file"]
    for line in lines:
        total, first, second = (float(line[i]) for i in (1, 3, 4))
        assert total == pytest.approx(first + 0.1 * second, abs=2e-4)


# -- formats, files, and what cannot be scored ----------------------------------------------------------------------------


def technical(capsys, *arguments: object) -> tuple[int, str, str]:
    return run(capsys, "score", *arguments, "--scorer", "technical")


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_the_ending_names_the_format(capsys, tmp_path: Path, pictures: list[Path], suffix: str) -> None:
    _, shown, _ = technical(capsys, "a castle", *pictures, "--format", suffix)
    code, out, _ = technical(capsys, "a castle", *pictures, "--output", tmp_path / "new" / f"scores.{suffix}")
    assert (code, out) == (0, "")
    assert (tmp_path / "new" / f"scores.{suffix}").read_text("utf-8-sig") == shown
    assert len(list(tmp_path.joinpath("new").iterdir())) == 1  # nothing of the probe is left


@pytest.mark.parametrize("old", ["--json", "--csv"])
def test_old_spellings_are_refused_with_the_new_one(capsys, tmp_path: Path, monkeypatch, old: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["score", old, "a prompt", "a.png"])
    assert ended.value.code == 2
    assert f"{old} is now --format {old[2:]}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--output", "--html"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    capsys, tmp_path, pictures, monkeypatch, option
) -> None:
    monkeypatch.setattr("sd_imagereward.core.scoring.score.score_images", lambda *_, **__: pytest.fail("it scored"))
    (tmp_path / "taken").write_text("")
    for place, reason in ((tmp_path, "is a folder"), (tmp_path / "taken" / "x.csv", "cannot write")):
        code, out, err = technical(capsys, *pictures, option, place)
        assert (code, out) == (2, "")
        assert reason in err
        assert err.count("\n") == 1


def test_what_was_computed_is_shown_if_the_file_fails_after_all(capsys, tmp_path, pictures, monkeypatch) -> None:
    def held(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "scores.csv")

    expected = technical(capsys, *pictures, "--format", "csv")[1]
    monkeypatch.setattr("os.replace", held)
    code, out, err = technical(capsys, *pictures, "--output", tmp_path / "scores.csv", "--html", tmp_path / "a.html")
    assert code == 1
    assert out == expected
    assert "scores.csv could not be written, so the results follow here" in err
    assert "the contact sheet could not be written" in err
    assert not list(tmp_path.glob(".*"))


def test_one_missing_file_does_not_stop_the_others(capsys, tmp_path: Path, pictures: list[Path]) -> None:
    code, out, err = technical(capsys, pictures[0], tmp_path / "gone.png", "gone*.jpg", pictures[1])
    assert code == 1
    assert len(out.splitlines()) == 3
    assert f"not scored: {tmp_path / 'gone.png'}: nothing has this name" in err
    assert "not scored: gone*.jpg" in err


def test_prompts_stay_with_their_images_if_one_is_missing(score, tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "prompts").write_text("one\ntwo\nthree\n")
    code, rows = score(pictures[0], tmp_path / "gone.png", pictures[1], "--prompts", tmp_path / "prompts")
    assert code == 1
    assert {row["file"]: row["prompt"] for row in rows} == {str(pictures[0]): "one", str(pictures[1]): "three"}


def test_one_image_without_prompt_does_not_stop_the_folder(capsys, score, tmp_path: Path, tiny_checkpoint) -> None:
    for name in "abc":
        Image.new("RGB", (64, 64), "teal").save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("a dog")
    (tmp_path / "b.txt").unlink()
    code, rows = score(tmp_path)
    assert code == 1
    assert {Path(str(row["file"])).name for row in rows} == {"a.png", "c.png"}
    _, _, err = run(capsys, "score", tmp_path, "--scorer", tiny_checkpoint)
    assert f"not scored: {tmp_path / 'b.png'}: no prompt for it" in err


def test_each_file_is_read_once_for_its_prompt_and_its_pixels(score, pictures, monkeypatch) -> None:
    for picture in pictures:
        picture.with_suffix(".txt").write_text("a dog")
    opened, plain = [], opening.read_file
    monkeypatch.setattr(opening, "read_file", lambda path: (opened.append(path), plain(path))[1])
    _, rows = score(*pictures)
    assert [row["prompt"] for row in rows] == ["a dog"] * len(pictures)
    assert sorted(opened) == sorted(pictures)


def test_folders_are_gone_through_but_for_hidden_ones(score, tmp_path: Path) -> None:
    for place in ("top.png", "a/b/deep.png", ".hidden/x.png", "a/note.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "teal").save(tmp_path / place, "PNG")
    assert sorted(str(row["file"]) for row in score("a dog", tmp_path)[1]) == [
        str(tmp_path / "a/b/deep.png"),
        str(tmp_path / "top.png"),
    ]


def test_a_folder_that_cannot_be_listed_is_named(capsys, tmp_path: Path, pictures: list[Path], monkeypatch) -> None:
    def denied(place: object) -> None:
        raise PermissionError(13, "Permission denied", str(place))

    folder = tmp_path / "closed"
    folder.mkdir()
    monkeypatch.setattr("os.scandir", denied)
    code, out, err = technical(capsys, folder, pictures[0])
    assert code == 1
    assert len(out.splitlines()) == 2
    assert f"not scored: {folder}: Permission denied" in err


def test_what_is_a_prompt_and_a_folder_is_said(capsys, tmp_path: Path, pictures: list[Path], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fox").mkdir()
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "fox" / "x.png")
    code, out, err = technical(capsys, "fox", "0.png", "--format", "json")
    assert code == 0
    assert len(json.loads(out)) == 2
    assert "give --prompt fox" in err
    code, out, err = technical(capsys, "--prompt", "fox", "0.png", "--format", "json")
    assert (code, err) == (0, "")
    assert [(row["file"], row["prompt"]) for row in json.loads(out)] == [("0.png", "fox")]
    for unambiguous in (["fox"], ["0.png", "1.jpg"], ["fox/", "0.png"], ["a fox", "0.png"]):
        assert technical(capsys, *unambiguous)[2] == ""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_lists_and_prompts_in_the_encodings_of_editors(capsys, tmp_path, pictures, encoding: str) -> None:
    prompts, table = tmp_path / "prompts.txt", tmp_path / "list.csv"
    prompts.write_text("un café\r\n", encoding=encoding)
    table.write_text(f"file,text\r\n{pictures[0].name},un café\r\n", encoding=encoding)
    for call in (["--prompts", prompts, pictures[0]], [table]):
        code, out, err = technical(capsys, *call, "--format", "json")
        if encoding == "cp1252":
            assert code == 2
            assert "Save it as UTF-8" in err
        else:
            assert (code, json.loads(out)[0]["prompt"]) == (0, "un café")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--min-score", "nan"), ("--min-score", "inf"), ("--min-score", "high"), ("--top", "0"), ("--top", "1.5"),
     ("--batch-size", "-1")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(capsys, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "a.png", f"{option}={value}"])
    assert ended.value.code == 2
    assert f"imagereward: argument {option}: expected a" in capsys.readouterr().err


def test_a_name_cannot_forge_a_line_of_the_table(capsys, tmp_path: Path) -> None:
    name = "a\n   1    9.0000     100.0%  b\x1b[2J.png"
    Image.new("RGB", (64, 64), "teal").save(tmp_path / name)
    _, out, _ = technical(capsys, tmp_path)
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out


def test_uncertain_prompts_are_told_and_left_out_when_strict(capsys, tmp_path: Path, tiny_checkpoint: Path) -> None:
    save_image(Image.new("RGB", (64, 64), "teal"), tmp_path / "a.png", parameters="a dog\nSteps: 1, Seed: 2, Size: 8x8")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "b.png")
    (tmp_path / "b.txt").write_bytes("a café".encode("cp1252"))
    code, out, err = run(capsys, "score", tmp_path, "--scorer", tiny_checkpoint, "--format", "json")
    read = {Path(row["file"]).name: (row["prompt_from"], bool(row["uncertain"])) for row in json.loads(out)}
    assert (code, read) == (0, {"a.png": ("PNG text 'parameters'", False), "b.png": ("b.txt", True)})
    assert "b.png is uncertain" in err
    code, out, err = run(capsys, "score", tmp_path, "--scorer", tiny_checkpoint, "--format", "json", "--strict-prompts")
    assert (code, [Path(row["file"]).name for row in json.loads(out)]) == (1, ["a.png"])
    assert "b.png: its prompt is uncertain" in err
