from __future__ import annotations

import argparse
import re
from pathlib import Path

import checkpoints
import pytest
import scorer_checkpoints
from sd_imagereward.core.cli import doctor, main, make_parser
from sd_imagereward.core.weights import locate
from sd_imagereward.core.weights.stored import SourceFile


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with weights."""
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(locate, "_host_folders", [])
    monkeypatch.setattr(locate, "_in_hub_cache", lambda weight: None)
    monkeypatch.setattr(doctor, "ROOM_FOR_WEIGHTS", 0)
    return tmp_path


def examined(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code, the lines about the scorers, and the problems."""
    code = main(["doctor"])
    above, _, problems = capsys.readouterr().out.partition("\nproblems:")
    return code, above, problems


def test_it_prints_versions_devices_and_weights(capsys, home: Path) -> None:
    code, out, problems = examined(capsys)
    for word in ("sd-imagereward", "torch", "tokenizers", "device:", "imagereward", "host:", str(home)):
        assert word in out
    assert re.search(r"imagereward +lacks ImageReward\.pt, bert.*\(imagereward download imagereward\)", out)
    assert re.search(r"clip +lacks clip-vit-large-patch14\.safetensors, .*\(imagereward download clip\)", out)
    assert re.search(r"technical +built in", out)
    assert code == 1
    assert "imagereward: ImageReward.pt is missing. Fix: imagereward download imagereward" in problems
    assert "clip:" not in problems  # nobody asked for it yet


def test_what_is_here_and_whole_is_no_problem(capsys, home: Path) -> None:
    checkpoints.write_imagereward(home)
    code, out, problems = examined(capsys)
    assert re.search(r"imagereward +here", out)
    assert "no problem found" in out
    assert (code, problems) == (0, "")


@pytest.mark.parametrize(
    "content", [b"\x80\x02", b"", b"<html>404</html>", None], ids=["2 bytes", "0 bytes", "a page", "cut"]
)
def test_a_damaged_checkpoint_is_a_problem(content: bytes | None, capsys, home: Path) -> None:
    path = checkpoints.write_imagereward(home)
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    code, out, problems = examined(capsys)
    assert code == 1
    assert re.search(r"imagereward +cannot use ImageReward\.pt", out)
    assert "imagereward: ImageReward.pt is not usable (" in problems
    assert f"Fix: delete {path}, then imagereward download imagereward" in problems


def test_another_models_file_and_a_cut_vocabulary_are_problems(capsys, home: Path) -> None:
    scorer_checkpoints.write_blip(home / "made").rename(home / "ImageReward.pt")
    (home / "bert-base-uncased-vocab.txt").write_text("[PAD]\n")
    scorer_checkpoints.write_clip(home, name="PickScore_v1.safetensors")
    code, _, problems = examined(capsys)
    assert code == 1
    assert "imagereward: ImageReward.pt is not usable (it is a checkpoint of BLIP" in problems
    assert "bert-base-uncased-vocab.txt is not usable (expected about 231,508 bytes, got 6)" in problems
    assert "pickscore: PickScore_v1.safetensors is not usable (it is a checkpoint of CLIP" in problems


def test_what_the_hub_lacks_is_fetched_by_hand(capsys, home: Path) -> None:
    _, out, _ = examined(capsys)
    assert re.search(
        r"blip +lacks model_large\.pth.*download https://storage\S+ and save it as " + re.escape(str(home)), out
    )


def test_only_headers_are_read(capsys, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.write_imagereward(home)

    def read(self: SourceFile, offset: int, count: int) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(SourceFile, "read", read)
    assert examined(capsys)[0] == 0


def test_what_is_missing_or_old_is_a_problem(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "1.13.1+cu117", "numpy": "2.0"}
    monkeypatch.setattr(doctor, "_version", lambda package: versions.get(package))
    problems = list(doctor._versions())
    assert "torch 1.13.1+cu117 is older than 2.1: pip install -U torch" in problems
    assert "tokenizers is missing: pip install tokenizers" in problems
    assert not [problem for problem in problems if problem.startswith("numpy")]


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert any("cannot be written to: set IMAGEREWARD_HOME" in problem for problem in doctor._folder_problems(tmp_path))


def test_every_command_begins_its_help_with_an_example_and_fits_a_screen() -> None:
    parser = make_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {"score", "scorers", "download", "convert", "doctor"} <= set(commands)
    for name, command in commands.items():
        lines = command.format_help().splitlines()
        assert lines[0].startswith(f"example: imagereward {name}"), name
        assert len(lines) <= 50, name


def test_rare_options_work_and_have_a_page_of_their_own(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train-reward", "--help-all"])
    assert ended.value.code == 0
    everything = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train-reward", "--help"])
    page = capsys.readouterr().out
    assert "--layer-decay" in everything
    assert "--layer-decay" not in page
    assert "--help-all" in page
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "--help-all" not in capsys.readouterr().out  # it has no rare option


def test_completion_is_made_or_its_maker_is_named(capsys) -> None:
    code = main(["completion", "bash"])
    out, err = capsys.readouterr()
    assert (code == 0 and "imagereward" in out) or (code == 2 and "pip install shtab" in err)
