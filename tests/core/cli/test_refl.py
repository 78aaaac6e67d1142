"""`imagereward refl` from the shell's side: refusals before anything loads, and one whole run on a tiny pipeline."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from sd_imagereward.core import cli
from sd_imagereward.core.refl import ReflConfig

pytest.importorskip("yaml", reason='presets are YAML (pip install -e ".[refl]")')


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog\n")
    return path


def test_help_names_what_a_first_run_needs_and_help_all_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    for page, options in (
        ("--help", ("model", "prompts", "reward", "lora_rank", "steps", "output")),
        ("--help-all", [field.name for field in dataclasses.fields(ReflConfig)]),
    ):
        with pytest.raises(SystemExit):
            cli.main(["refl", page])
        text = capsys.readouterr().out
        assert all(f"--{option.replace('_', '-')}" in text for option in options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "{}/run"], "--model is missing"),
        (["--model", "m"], "--output is missing"),
        (["--model", "m", "--output", "{}/run"], "no prompts"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/none.txt"], "no file"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--stop-window", "30", "40"], "30..40"),
        (["--model", "m", "--output", "{}", "--prompts", "{}/prompts.txt"], "choose another"),
        (["--resume", "--output", "{}/run"], "holds no run to resume"),
        (["--resume", "--output", "{}/run", "--seed", "3"], "not seed"),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(
    options: list[str], said: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["refl", *(option.format(tmp_path) for option in options)]) == cli.EXIT_USAGE
    assert said in capsys.readouterr().err


def test_a_run_from_start_to_report_and_on(
    prompts: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
    import pipelines

    pipelines.pipeline("sd1", tmp_path / "parts").save_pretrained(tmp_path / "model")
    run = tmp_path / "my_refl"
    settings = {
        "reward": str(tiny_checkpoint),
        "denoising_steps": 3,
        "stop_window": [1, 2],
        "batch_size": 1,
        "accumulation": 1,
        "dtype": "float32",
        "device": "cpu",
        "evaluation_images": 2,
        "evaluate_every": 1,
        "tracker": "none",
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    call = [
        "refl",
        "--model",
        str(tmp_path / "model"),
        "--prompts",
        str(prompts),
        "--config",
        str(tmp_path / "config.json"),
    ]
    assert cli.main([*call, "--lora-rank", "2", "--steps", "1", "--output", str(run)]) == cli.EXIT_OK
    printed = capsys.readouterr().out.split()
    assert printed == [str(run / "my_refl.safetensors"), str(run / "report.html")]
    report = (run / "report.html").read_text()
    assert report.count("data:image/jpeg;base64") == 4  # two pictures, before and after
    assert "<polyline" in report
    assert "Recommended strength" in report
    assert "<script" not in report
    assert "http" not in report.replace("http-equiv", "")

    assert cli.main(["refl", "--resume", "--output", str(run), "--steps", "2"]) == cli.EXIT_OK
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2]
