"""Reading human preferences in every layout, and saying what is wrong with a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sd_imagereward.core import ImageRewardError
from sd_imagereward.core.preference.rankings import data_hash, hold_out, pairs_of, present
from sd_imagereward.core.preference.reading import read_rankings

ROW = {"id": "a", "prompt": "a cat", "generations": ["1.png", "2.png", "3.png"], "ranking": [2, 1, 2]}


def test_imagerewarddb_layout_and_its_pairs(tmp_path: Path):
    (tmp_path / "data.json").write_text(json.dumps([ROW]))
    rankings = read_rankings(tmp_path / "data.json", tmp_path / "images")
    assert rankings[0].images[0] == tmp_path / "images" / "1.png"
    pairs = pairs_of(rankings)
    assert [(p.better.name, p.worse.name) for p in pairs] == [("2.png", "1.png"), ("2.png", "3.png")]
    assert [p.tie for p in pairs_of(rankings, ties=True)] == [False, True, False]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_plain_comparisons_in_every_format(tmp_path: Path, suffix: str):
    rows = [
        {"prompt": "a, b", "better": "x.png", "worse": "y.png"},
        {"prompt": "c", "better": "z.png", "worse": "w.png"},
    ]
    path = tmp_path / f"data{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        path.write_text('prompt,better,worse\n"a, b",x.png,y.png\nc,z.png,w.png\n')
    pairs = pairs_of(read_rankings(path))
    assert [(p.prompt, p.better, p.worse) for p in pairs] == [
        ("a, b", tmp_path / "x.png", tmp_path / "y.png"),
        ("c", tmp_path / "z.png", tmp_path / "w.png"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"generations": []}], "row 1 .* has no prompt"),
        ([ROW, {"prompt": "b"}], "row 2 .* neither generations and ranking nor better and worse"),
        ([{**ROW, "ranking": [1, 2]}], "2 for 3 images"),
        ([{**ROW, "ranking": ["1", "2", "3"]}], "numbers as ranks"),
        ({"a": 1}, "expected a list"),
        ([], "is empty"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: object, message: str):
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(ImageRewardError, match=message):
        read_rankings(tmp_path / "data.json")


def test_a_broken_file_and_a_missing_one_are_named(tmp_path: Path):
    (tmp_path / "data.json").write_text("[{")
    with pytest.raises(ImageRewardError, match=r"data\.json"):
        read_rankings(tmp_path / "data.json")
    with pytest.raises(ImageRewardError, match="no such file"):
        read_rankings(tmp_path / "none.json")


def test_missing_images_leave_and_take_what_is_no_comparison_any_more(tmp_path: Path):
    rows = [ROW, {"prompt": "b", "better": "1.png", "worse": "9.png"}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    for name in ("1.png", "2.png"):
        (tmp_path / name).touch()
    there = present(read_rankings(tmp_path / "data.json"))
    assert [ranking.ranks for ranking in there.rankings] == [(2.0, 1.0)]
    assert [Path(name).name for name in there.missing] == ["3.png", "9.png"]


def test_held_out_prompts_are_never_trained_on_and_do_not_depend_on_order(tmp_path: Path):
    rows = [{"prompt": f"p{i % 20}", "better": f"{i}.png", "worse": f"{i}b.png"} for i in range(60)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    rankings = read_rankings(tmp_path / "data.json")
    training, validation = hold_out(rankings, 0.2)
    assert len({r.prompt for r in validation}) == 4
    assert not {r.prompt for r in validation} & {r.prompt for r in training}
    assert len(training) + len(validation) == 60
    assert {r.prompt for r in hold_out(rankings[::-1], 0.2)[1]} == {r.prompt for r in validation}
    with pytest.raises(ImageRewardError, match="only one prompt"):
        hold_out(rankings[:1], 0.2)


def test_the_data_hash_knows_ranks_but_not_folders(tmp_path: Path):
    (tmp_path / "data.json").write_text(json.dumps([ROW]))
    (tmp_path / "other.json").write_text(json.dumps([{**ROW, "ranking": [1, 2, 3]}]))
    here = data_hash(read_rankings(tmp_path / "data.json"))
    assert here == data_hash(read_rankings(tmp_path / "data.json", "elsewhere"))
    assert here != data_hash(read_rankings(tmp_path / "other.json"))


@pytest.mark.parametrize(
    ("cell", "tie"),
    [
        ("1", True),
        ("true", True),
        ("Yes", True),
        (" TRUE ", True),
        ("0", False),
        ("False", False),
        ("no", False),
        ("", False),
    ],
)
def test_a_tie_in_a_csv(tmp_path: Path, cell: str, tie: bool):
    (tmp_path / "data.csv").write_text(f"prompt,better,worse,tie\na cat,1.png,2.png,{cell}\n")
    (ranking,) = read_rankings(tmp_path / "data.csv")
    assert ranking.ranks == ((1.0, 1.0) if tie else (1.0, 2.0))
    assert [pair.tie for pair in pairs_of([ranking], ties=True)] == [tie]


@pytest.mark.parametrize(("value", "tie"), [(True, True), (1, True), (False, False), (0, False), (None, False)])
def test_a_tie_in_json(tmp_path: Path, value: object, tie: bool):
    row = {"prompt": "a cat", "better": "1.png", "worse": "2.png", "tie": value}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    assert [pair.tie for pair in pairs_of(read_rankings(tmp_path / "data.json"), ties=True)] == [tie]
