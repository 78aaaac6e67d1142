"""Tables read back with the standard library's readers."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.files.tables import write_csv, write_jsonl

ROWS = [
    {"rank": 1, "score": -1.4132, "prompt": 'a "cat", 猫\nsecond line', "file": Path("a b.png")},
    {"rank": 2, "score": math.nan, "extra": [1, {"a": None}]},
]


def test_csv(tmp_path):
    write_csv(ROWS, tmp_path / "scores.csv")
    assert (
        (tmp_path / "scores.csv").read_bytes().startswith("\ufeff".encode())
    )  # or Excel takes it for its own code page
    with open(tmp_path / "scores.csv", encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "rank": "1",
        "score": "-1.4132",
        "prompt": 'a "cat", 猫\nsecond line',
        "file": "a b.png",
        "extra": "",
    }
    assert (second["score"], second["extra"]) == ("", '[1, {"a": null}]')


def test_jsonl(tmp_path):
    rows = [*ROWS, {"tensor": torch.tensor([0.5, math.inf]), "scalar": np.float32(0.25), "none": None, "yes": True}]
    write_jsonl(rows, tmp_path / "scores.jsonl")
    first, second, third = map(json.loads, (tmp_path / "scores.jsonl").read_text("utf-8").splitlines())
    assert first == {"rank": 1, "score": -1.4132, "prompt": 'a "cat", 猫\nsecond line', "file": "a b.png"}
    assert second["score"] is None
    assert third == {"tensor": [0.5, None], "scalar": 0.25, "none": None, "yes": True}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_is_disarmed_and_a_number_is_not(text):
    out = io.StringIO(newline="")
    write_csv([{"prompt": text, "score": -1.0}], out)
    assert next(csv.DictReader(io.StringIO(out.getvalue(), newline=""))) == {"prompt": f"'{text}", "score": "-1.0"}


@given(
    st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
)
def test_jsonl_loses_nothing(rows):
    out = io.StringIO()
    write_jsonl(rows, out)
    assert [json.loads(line) for line in out.getvalue().split("\n")[:-1]] == rows


def test_a_name_that_is_no_unicode_does_not_cost_the_table(tmp_path):
    rows = [{"file": "a\udcff.png"}]
    write_jsonl(rows, tmp_path / "scores.jsonl")
    write_csv(rows, tmp_path / "scores.csv")
    assert json.loads((tmp_path / "scores.jsonl").read_text("utf-8")) == rows[0]


def test_rows_that_fail_leave_the_old_table(tmp_path):
    def rows():
        yield {"a": 1}
        raise RuntimeError("stopped")

    for write in (write_csv, write_jsonl):
        (tmp_path / "table").write_text("old")
        with pytest.raises(RuntimeError, match="stopped"):
            write(rows(), tmp_path / "table")
        assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_no_rows(tmp_path):
    write_csv([], tmp_path / "a")
    write_jsonl([], tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b""
