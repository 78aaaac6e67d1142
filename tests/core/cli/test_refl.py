"""`imagereward refl` from the shell's side: refusals before anything loads, and one whole run on a tiny pipeline."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import warm
from safetensors.torch import load_file
from sd_imagereward.core import cli
from sd_imagereward.core.refl import ReflConfig
from sd_imagereward.core.refl.run_folder import RunFolder

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
        ([], "missing: --model (what to tune), --prompts (what to draw), --output (the folder of the run)"),
        (["--model", "m", "--output", "{}/run"], "missing: --prompts (what to draw)"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/none.txt"], "no such file"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--stop-window", "30", "40"], "30..40"),
        (["--model", "m", "--output", "{}", "--prompts", "{}/prompts.txt"], "choose another"),
        (["--resume", "--output", "{}/run"], "holds no run to resume"),
        (["--resume", "--output", "{}/run", "--seed", "3"], "not seed"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--single-file"], "tune is 'lora'"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--sampler", "euler"], "ddpm, ddim"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--device", "gpu"], "got 'gpu'"),
        (["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--denoising-steps", "8"], "as 6 and 7"),
        (
            ["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--reward", "technical"],
            "held_out: clip",
        ),
        (
            ["--model", "m", "--output", "{}/run", "--prompts", "{}/prompts.txt", "--held-out", "clip, imagereward"],
            "held_out is 'imagereward'",
        ),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(
    options: list[str], said: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = [] if "--resume" in options else ["--tracker", "none"]
    assert cli.main(["refl", *(option.format(tmp_path) for option in options), *tracker]) == cli.EXIT_USAGE
    assert said in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_refused_before_the_folder_is_taken(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = tmp_path / "run"
    words = ["--model", "m", "--prompts", str(prompts), "--output", str(run), "--tracker", "wandb"]
    assert cli.main(["refl", *words]) == cli.EXIT_USAGE
    assert "pip install wandb" in capsys.readouterr().err
    assert not run.exists()


def test_help_shows_the_defaults_and_what_has_to_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["refl", "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    for part in ("--steps N updates of the weights (default: 100)", "both ends included (default: 30 39)"):
        assert part in text
    assert "pictures (default: off)" not in text
    assert "--model, --prompts and --output have to be given" in text


SETTINGS = {
    "denoising_steps": 3,
    "stop_window": [1, 2],
    "batch_size": 1,
    "accumulation": 1,
    "device": "cpu",
    "evaluation_images": 2,
    "evaluate_every": 1,
    "tracker": "none",
}


RAN = (cli.EXIT_OK, cli.EXIT_PARTIAL)  # the second where nothing improved


@pytest.fixture
def call(prompts: Path, tmp_path: Path, tiny_checkpoint: Path) -> list[str]:
    """The command up to what each test asks for, on a tiny pipeline in `model` beside the prompts."""
    pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
    import pipelines

    pipelines.pipeline("sd1", tmp_path / "parts").save_pretrained(tmp_path / "model")
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS | {"reward": str(tiny_checkpoint)}))
    files = {"--model": tmp_path / "model", "--prompts": prompts, "--config": tmp_path / "config.json"}
    return ["refl", *(str(word) for pair in files.items() for word in pair)]


def test_a_run_from_start_to_report_and_on(call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my_refl"
    wanted = ["--lora-rank", "2", "--steps", "1", "--dtype", "float32", "--output", str(run)]
    ended = cli.main([*call, *wanted])
    told = capsys.readouterr()
    printed = told.out.split()
    assert ended in RAN
    assert printed == [str(run / "my_refl.safetensors"), str(run / "report.html")]
    report = (run / "report.html").read_text()
    assert report.count("data:image/webp;base64") == 4  # two pictures, before and after
    assert "<polyline" in report
    assert all(("no better than the untuned one" in text) is (ended == cli.EXIT_PARTIAL) for text in (told.err, report))
    assert ("ecommended strength" in report) is (ended == cli.EXIT_OK)
    assert "<script" not in report
    assert "http" not in report.replace("http-equiv", "")

    assert cli.main(["refl", "--resume", "--output", str(run), "--steps", "2"]) in RAN
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2]
    assert RunFolder(run).config().steps == 2
    capsys.readouterr()
    assert cli.main(["refl", "--resume", "--output", str(run), "--steps", "1"]) == cli.EXIT_USAGE
    assert "already made 2 updates, and steps is 1" in capsys.readouterr().err


def test_without_the_sweep_the_report_recommends_nothing(call: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    wanted = ["--held-out", "technical, mix(technical=-1)", "--steps", "1", "--dtype", "float32", "--output", str(run)]
    assert cli.main([*call, "--no-sweep", *wanted]) in RAN
    report = (run / "report.html").read_text()
    assert all(f"Held-out score ({title}) of the fixed pictures" in report for title in ("Technical", "Mix"))
    assert "Best checkpoint: the weights after 1 update." in report
    assert "<h2>Strength</h2>" not in report
    assert "Recommended strength" not in report


def test_the_technical_scorer_alone_needs_no_other(call: list[str], tmp_path: Path) -> None:
    """The road without a download."""
    run = tmp_path / "run"
    wanted = ["--reward", "technical", "--held-out", "none", "--steps", "1", "--dtype", "float32", "--output", str(run)]
    assert cli.main([*call, *wanted, "--width", "64", "--height", "64"]) in RAN
    report = (run / "report.html").read_text()
    assert "No strength is recommended: no held-out scorer watched the run" in report
    assert "Held-out score (none)" not in report


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_stopped_process_leaves_a_lora_and_resumes_to_the_bit(
    call: list[str], tmp_path: Path, signal_name: str
) -> None:
    """Ctrl-C, and what job schedulers send before they kill."""
    call = [*call, "--lora-rank", "2", "--ema", "--no-guard", "--dtype", "float32"]
    cut, records = tmp_path / "cut", tmp_path / "cut" / "metrics.jsonl"
    command = "from sd_imagereward.core import cli; sys.exit(cli.main())"
    process = warm.start(command, *call, "--steps", 100_000, "--output", cut)
    try:
        while not records.exists() or records.read_text().count("\n") < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(getattr(signal, signal_name))
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == cli.EXIT_INTERRUPTED, errors
    assert "Traceback" not in errors
    assert f"to go on: imagereward refl --resume --output {cut}" in errors
    made = len(records.read_text().splitlines())
    lora = load_file(cut / "cut.safetensors")
    assert any(tensor.any() for key, tensor in lora.items() if key.endswith("lora_up.weight"))

    steps = ["--steps", str(made + 2)]
    assert cli.main(["refl", "--resume", "--output", str(cut), *steps]) == cli.EXIT_OK
    assert cli.main([*call, *steps, "--output", str(tmp_path / "whole")]) == cli.EXIT_OK
    resumed, whole = load_file(cut / "cut.safetensors"), load_file(tmp_path / "whole" / "whole.safetensors")
    assert any(not torch.equal(lora[key], resumed[key]) for key in lora)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_full_tuning_leaves_a_folder_and_one_file_with_only_the_unet_changed(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["--tune", "full", "--single-file", "--learning-rate", "0.1", "--steps", "1", "--output", str(run)]
    assert cli.main([*call, *options, "--dtype", "bfloat16"]) in RAN
    made = [run / "pipeline", run / "run.safetensors", run / "report.html"]
    assert capsys.readouterr().out.split() == list(map(str, made))
    for part, file, same in (("vae", "diffusion_pytorch_model", True), ("unet", "diffusion_pytorch_model", False),
                             ("text_encoder", "model", True)):  # fmt: skip
        before, after = (load_file(folder / part / f"{file}.safetensors") for folder in (tmp_path / "model", made[0]))
        assert all(torch.equal(before[key], after[key]) for key in before) is same, part
    weight = load_file(made[0] / "unet" / "diffusion_pytorch_model.safetensors")["conv_out.weight"]
    assert torch.equal(load_file(made[1])["model.diffusion_model.out.2.weight"], weight.half())
