"""Evaluation from files to tables; interrupted and resumed; the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from reference.synthetic import score
from sd_imagereward.core import ImageRewardError
from sd_imagereward.core.cli import main
from sd_imagereward.core.cli.scorer_options import names
from sd_imagereward.core.preference.evaluate import evaluate_scorers, places
from sd_imagereward.core.preference.rankings import Ranking
from sd_imagereward.core.preference.reading import read_rankings

from .colour_scorers import ColourScorer, Numbered, number_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two prompts; people like red. The file names start from `images`."""
    rows = [
        {"id": "1", "prompt": "p", "generations": ["a.png", "b.png", "c.png"], "ranking": [1, 2, 3]},
        {"id": "2", "prompt": "q", "generations": ["d.png", "e.png"], "ranking": [2, 1]},
    ]
    (tmp_path / "images").mkdir()
    for name, red in {"a": 250, "b": 200, "c": 100, "d": 120, "e": 30}.items():
        Image.new("RGB", (9, 7), (red, 255 - red, 0)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return tmp_path


def rankings_of(folder: Path) -> list[Ranking]:
    return read_rankings(folder / "data.json", folder / "images")


def test_two_scorers_on_the_same_images(folder: Path):
    scorers = {"red": ColourScorer(lambda r, g, b: r), "green": ColourScorer(lambda r, g, b: g)}
    result = evaluate_scorers(rankings_of(folder), ["red", "green"], load=scorers.__getitem__)
    assert result.agreements["red"].accuracy.value == 3 / 4
    assert result.agreements["green"].accuracy.value == 1 / 4
    assert result.scores["red"] == [[250, 200, 100], [120, 30]]
    assert "| red" in result.markdown()
    assert "4 pairs" in result.markdown()


def test_each_image_is_opened_once_for_all_scorers(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from sd_imagereward.core.preference import scoring

    opened: list[Path] = []
    plain = scoring.open_picture
    monkeypatch.setattr(scoring, "open_picture", lambda path: (opened.append(path), plain(path))[1])
    scorers = {name: ColourScorer(lambda r, g, b: r) for name in "abc"}
    evaluate_scorers(rankings_of(folder), list("abc"), load=scorers.__getitem__)
    assert len(opened) == 5


def test_broken_and_missing_images_are_listed_and_left_out(folder: Path):
    (folder / "images" / "c.png").unlink()
    (folder / "images" / "d.png").write_bytes(b"no picture")
    scorer = ColourScorer(lambda r, g, b: r)
    result = evaluate_scorers(rankings_of(folder), ["red"], load=lambda name: scorer)
    assert result.agreements["red"].pairs == 1
    assert [Path(name).name for name in result.missing] == ["c.png"]
    assert [Path(name).name for name in result.errors] == ["d.png"]
    assert "1 missing and 1 unreadable" in result.markdown()
    result.save(folder / "out")
    page = (folder / "out" / "evaluation.html").read_text(encoding="utf-8")
    for text in ("<svg", "Preference accuracy", "1 missing and 1 unreadable", "Missing images", "Unreadable images"):
        assert text in page
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(ImageRewardError, match="5 files missing"):
        evaluate_scorers(rankings_of(folder), ["red"], load=lambda name: scorer)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from sd_imagereward.core.preference import scoring

    monkeypatch.setattr(scoring, "CHUNK", 2)

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    first, second, third = (ColourScorer(lambda r, g, b: r) for _ in range(3))
    with pytest.raises(KeyboardInterrupt):
        evaluate_scorers(rankings_of(folder), ["red"], load=lambda _: first, output=tmp_path / "out", on_progress=stop)
    log = tmp_path / "out" / "scores-red.jsonl"
    log.write_text(log.read_text() + '["half a li')  # the machine died while writing
    result = evaluate_scorers(rankings_of(folder), ["red"], load=lambda _: second, output=tmp_path / "out")
    assert (first.scored, second.scored) == (4, 1)
    assert result.agreements["red"].accuracy.value == 3 / 4

    def never(name: str) -> ColourScorer:
        raise AssertionError("nothing is left to score, so nothing needs loading")

    assert evaluate_scorers(rankings_of(folder), ["red"], load=never, output=tmp_path / "out").scores == result.scores
    # Another precision is another scorer; a changed picture is another picture.
    evaluate_scorers(rankings_of(folder), ["red"], load=lambda _: third, variant="fp16", output=tmp_path / "out")
    assert third.scored == 5
    Image.new("RGB", (9, 8), "blue").save(folder / "images" / "a.png")
    evaluate_scorers(rankings_of(folder), ["red"], load=lambda _: third, variant="fp16", output=tmp_path / "out")
    assert third.scored == 6


def test_files_in_the_layout_of_the_reference(folder: Path, tmp_path: Path):
    scorer = ColourScorer(lambda r, g, b: r)
    evaluate_scorers(rankings_of(folder), ["red"], load=lambda name: scorer).save(tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "test_red.json").read_text())
    assert rows[1] == {"id": "2", "prompt": "q", "ranking": [1, 2], "rewards": [120.0, 30.0]}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["scorers"]["red"]["pairs"] == 4
    assert (tmp_path / "out" / "evaluation.md").read_text().startswith("| Scorer")


def test_the_full_set_of_table_3_shows_the_published_values_and_the_reference_accuracy(shared_data, repository):
    """The whole road on the real human rankings, pictures of one pixel standing in for the real ones."""
    goldens = json.loads((repository / "tests/reference/preference_goldens.json").read_text())["accuracy"]
    names: list[str] = []

    def stand_in(image: Path) -> Numbered:
        names.append("/".join(image.parts[-4:]))
        return Numbered(len(names) - 1, names[-1])

    rankings = [
        Ranking(r.id, r.prompt, tuple(map(stand_in, r.images)), r.ranks)
        for r in read_rankings(shared_data / "imagereward-test-rankings.json")
    ]
    reference_names = {"imagereward": "ImageReward-v1.0", "clip": "CLIP", "blip": "BLIP", "aesthetic": "Aesthetic"}
    scorers = {
        name: ColourScorer(lambda r, g, b, scorer=scorer: score(scorer, names[number_of(r, g, b)]))
        for name, scorer in reference_names.items()
    }
    result = evaluate_scorers(rankings, list(scorers), load=scorers.__getitem__, batch_size=64)
    for name, scorer in reference_names.items():
        assert result.agreements[name].accuracy.value == goldens[scorer]
    assert "65.14%" in result.markdown()
    assert "57.35%" in result.markdown()


def test_places_are_the_reference_s_ranking():
    assert places([0.2, 0.9, -1.0]) == [2, 1, 3]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if "technical" not in _scorers():
        pytest.skip("the technical scorer has not moved in yet")
    call = ["evaluate", "--data", str(folder / "data.json"), "--images", str(folder / "images"), "--device", "cpu"]
    call += ["--scorers", "technical", "--output", str(tmp_path / "out")]
    assert main(call) == 0
    assert "Preference accuracy" in capsys.readouterr().out
    (folder / "images" / "a.png").unlink()
    assert main(call) == 1
    assert main([*call[:2], str(folder / "none.json"), *call[3:]]) == 2
    assert "no such file" in capsys.readouterr().err


def test_commas_inside_a_mixture_do_not_end_its_name():
    assert names("a, mix(b=1, c=2),hub:x/y") == ["a", "mix(b=1, c=2)", "hub:x/y"]


def _scorers() -> list[str]:
    from sd_imagereward.core import scorer_infos

    return list(scorer_infos())
