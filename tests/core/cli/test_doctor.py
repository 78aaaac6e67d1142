from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from sd_imagereward.core.cli import doctor, main, make_parser


def test_it_prints_versions_devices_and_weights(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    main(["doctor"])
    out = capsys.readouterr().out
    for word in ("sd-imagereward", "torch", "tokenizers", "device:", "imagereward", "host:", str(tmp_path)):
        assert word in out
    assert "lacks ImageReward.pt" in out
    (tmp_path / "ImageReward.pt").touch()
    (tmp_path / "bert-base-uncased-vocab.txt").touch()
    main(["doctor"])
    assert "lacks ImageReward.pt" not in capsys.readouterr().out


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
