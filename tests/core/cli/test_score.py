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
from sd_imagereward.core.pictures.saving import save_image


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def score(capsys, tiny_checkpoint: Path):
    """Runs `score` with the tiny checkpoint and returns (exit code, rows)."""

    def call(*arguments: object) -> tuple[int, list[dict[str, object]]]:
        code, out, _ = run(capsys, "score", *arguments, "--scorer", tiny_checkpoint, "--json")
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
    assert "has 1 lines" in err


def test_images_bring_their_own_prompts(capsys, score, tmp_path: Path, tiny_checkpoint: Path) -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    parameters = "a (red:1.2) castle <lora:x:1>\nSteps: 20, Sampler: Euler, Seed: 1"
    save_image(picture, tmp_path / "a.png", parameters=parameters)
    picture.save(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a dog")
    assert {row["prompt"] for row in score(tmp_path / "a.png", tmp_path / "b.png")[1]} == {"a red castle", "a dog"}
    picture.save(tmp_path / "c.png")
    code, _, err = run(capsys, "score", tmp_path / "c.png", "--scorer", tiny_checkpoint)
    assert code == 2
    assert "no prompt for" in err


def test_csv_reads_back(capsys, tmp_path: Path, tiny_checkpoint: Path, pictures: list[Path]) -> None:
    _, out, _ = run(capsys, "score", 'a "red", castle', *pictures, "--scorer", tiny_checkpoint, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["prompt"] == 'a "red", castle'
    run(capsys, "score", "a castle", *pictures, "--scorer", tiny_checkpoint, "--csv", tmp_path / "out.csv")
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
        (["score", "a castle", "gone/*.png"], 2, "nothing is named"),
        (["score", "a castle", "PICTURE", "--scorer", "nonsense"], 2, "no scorer and no file"),
        (["score", "a castle", "PICTURE", "--scorer", "PICTURE"], 3, "cannot be read as a plain PyTorch checkpoint"),
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
