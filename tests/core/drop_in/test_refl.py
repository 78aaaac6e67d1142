"""The reference's trainers by name: two updates equal its own, on the same networks and with the same random numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import sd_imagereward as RM
import torch
from sd_imagereward.core.drop_in.refl.settings import settings_of
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl.randomness import Draws, MicroBatch, SampleNoise
from torch import Tensor

pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
pytest.importorskip("yaml", reason='presets are YAML (pip install -e ".[refl]")')
GOLDENS = json.loads((Path(__file__).parents[2] / "goldens" / "refl.json").read_text())
TRAINERS = {"sd1": RM.ReFL, "sdxl": RM.ReFL_SDXL, "sdxl_lora": RM.ReFL_SDXL_LoRA}


class OneStream(SampleNoise):
    """The reference draws a whole batch from torch's own stream; ours gives each picture one of its own."""

    generators = None  # type: ignore[assignment] # the scheduler, too, takes torch's own

    def __init__(self) -> None:
        pass

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(2, *shape)


@pytest.fixture
def references_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    stops = (GOLDENS["stop"], GOLDENS["second_stop"])
    monkeypatch.setattr(Draws, "micro_batch", lambda self, update, *_: MicroBatch((0, 1), (0, 0), stops[update]))
    monkeypatch.setattr(SampleNoise, "of_seeds", lambda _: OneStream())


@pytest.fixture
def run(make_pipeline: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """By kind: what `refl.py` of the reference does, two updates long."""
    import pipelines

    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "home"))
    checkpoints.write_imagereward(tmp_path / "home")
    rows = [{"id": str(n), "image": "", "text": prompt} for n, prompt in enumerate(GOLDENS["prompts"])]
    (tmp_path / "refl_data.json").write_text(json.dumps(rows))

    def train(kind: str, *options: str) -> Any:
        folder = tmp_path / kind
        pipelines.fill(make_pipeline("sd1" if kind == "sd1" else "sdxl")).save_pretrained(folder)
        common = ["--train_batch_size=2", "--gradient_accumulation_steps=1", "--max_train_steps=2", "--seed=7"]
        common += [f"--output_dir={tmp_path / 'out'}", "--report_to=none", "--learning_rate=1e-5", "--resolution=256"]
        if kind != "sd1":
            common += ["--image_reward_version=ImageReward-v1.0", "--apply_reward_loss"]
        monkeypatch.setattr("sys.argv", ["refl.py", *common, *options])
        args = TRAINERS[kind].parse_args()
        trainer = TRAINERS[kind].Trainer(str(folder), str(tmp_path / "refl_data.json"), args=args)
        torch.manual_seed(GOLDENS["seed"])
        trainer.train(args=args)
        return trainer

    return train


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.usefixtures("references_randomness")
def test_two_updates_are_the_references(kind: str, run: Callable[..., Any], tmp_path: Path) -> None:
    run(kind)
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    golden = GOLDENS[kind]
    assert [each["loss"] for each in records] == pytest.approx([golden["loss"], golden["second_loss"]], rel=2e-5)
    rewards = [sum(golden[name]) / 2 for name in ("rewards", "second_rewards")]
    assert [each["reward"] for each in records] == pytest.approx(rewards, abs=1e-5)
    assert rewards[0] != pytest.approx(rewards[1], abs=1e-2)


def test_the_tuned_pipeline_is_in_the_output_folder(run: Callable[..., Any], tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    trainer = run("sd1", "--resolution=64", "--max_train_steps=1", "--learning_rate=1e-2")
    tuned = StableDiffusionPipeline.from_pretrained(tmp_path / "out").unet.state_dict()
    untuned = StableDiffusionPipeline.from_pretrained(tmp_path / "sd1").unet.state_dict()
    assert not torch.equal(tuned["conv_in.weight"], untuned["conv_in.weight"])
    assert torch.equal(tuned["conv_in.weight"], trainer.unet.state_dict()["conv_in.weight"].cpu())


@pytest.mark.slow
def test_the_lora_is_where_diffusers_looks_for_it(run: Callable[..., Any], tmp_path: Path) -> None:
    trainer = run("sdxl_lora", "--resolution=64", "--max_train_steps=1", "--rank=2", "--mixed_precision=bf16")
    assert (tmp_path / "out" / "pytorch_lora_weights.safetensors").is_file()
    assert (trainer.trainer.config.lora_rank, trainer.trainer.config.lora_alpha) == (2, 2.0)
    assert (trainer.trainer.config.dtype, trainer.reward_model.dtype) == ("bfloat16", torch.float32)


@pytest.mark.slow
def test_a_resumed_run_goes_on(run: Callable[..., Any], tmp_path: Path) -> None:
    run("sd1", "--resolution=64", "--max_train_steps=1")
    shutil.rmtree(tmp_path / "sd1")
    run("sd1", "--resolution=64", "--max_train_steps=2", "--resume_from_checkpoint=latest")
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2]


# -- options ---------------------------------------------------------------------------------------------------------


def settings(tmp_path: Path, *options: str) -> Any:
    data = tmp_path / "refl_data.json"
    data.write_text(json.dumps([{"text": f"prompt {n}", "caption": f"caption {n}"} for n in range(10)]))
    from sd_imagereward.core.drop_in.refl.options import parse

    return settings_of("sd1", "model", str(data), parse("sd1", options))


def test_the_defaults_are_the_references(tmp_path: Path) -> None:
    config = settings(tmp_path)
    assert (config.batch_size, config.accumulation, config.steps, config.learning_rate) == (2, 4, 100, 1e-5)
    assert (config.width, config.scale, config.threshold, config.stop_window) == (512, 1e-3, 2.0, (30, 39))
    assert (config.tune, config.guard, config.ema, config.dtype) == ("full", False, False, "float32")
    assert config.prompts[0] == "prompt 0"


def test_options_become_settings(tmp_path: Path) -> None:
    config = settings(
        tmp_path, "--use_ema", "--scale_lr", "--mixed_precision=fp16", "--caption_column=caption",
        "--max_train_samples=3", "--lr_scheduler=cosine", "--lr_warmup_steps=5", "--seed=1",
    )  # fmt: skip
    assert (config.ema, config.learning_rate, config.dtype) == (True, 8e-5, "float16")
    assert (config.schedule, config.warmup, config.seed) == ("cosine", 5, 1)
    assert len(config.prompts) == 3
    assert all(prompt.startswith("caption") for prompt in config.prompts)


@pytest.mark.parametrize(
    "option", ["--push_to_hub", "--revision=abc", "--lr_scheduler=polynomial", "--report_to=comet_ml"]
)
def test_what_cannot_be_had_is_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(ImageRewardError, match=rf"{option.split('=')[0]}.* is not supported. Fix: "):
        settings(tmp_path, option)
