"""`imagereward refl`: tune Stable Diffusion with the reward."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from typing import TYPE_CHECKING, Any

from ..files.console import counted
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command, add_rare

if TYPE_CHECKING:
    from ..refl.config import ReflConfig
    from ..refl.loop import ReflTrainer
    from ..refl.observers import Observer
    from ..refl.result import ReflResult

# What a first run needs; --help-all shows the other settings too.
COMMON = (
    "model", "prompts", "reward", "output", "tune", "lora_rank", "width", "height", "guidance", "steps", "batch_size",
    "accumulation", "learning_rate", "dtype", "device", "seed", "guard", "held_out", "evaluate_every",
    "evaluation_guidance", "tracker",
)  # fmt: skip
METAVARS = {
    "int": "N", "float": "X", "model": "MODEL", "prompts": "FILE", "reward": "SCORER", "output": "FOLDER", "name": "NAME",
    "lora_from": "FILE", "sampler": "NAME", "scheduler": "NAME", "pretraining_data": "FILE", "device": "DEVICE",
    "held_out": "A,B,...", "evaluation_prompts": "FILE",
}  # fmt: skip
NEEDED = {"model": "what to tune", "prompts": "what to draw", "output": "the folder of the run"}


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    from ..refl.config import CHOICES, ReflConfig, preset_names

    parser = add_command(
        subparsers,
        "refl",
        help="tune Stable Diffusion with the reward (ReFL): a LoRA, or the whole U-Net",
        example="imagereward refl --model stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt --output my_refl",
    )
    parser.add_argument("--config", metavar="FILE", help="settings from a .yaml or .json file; options given here win")
    parser.add_argument(
        "--preset", choices=preset_names(), default="lora", help="start from these settings (default: lora)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output, from its last checkpoint"
    )
    parser.epilog = "--model, --prompts and --output have to be given, here or in --config."
    settings = parser.add_argument_group("settings (the defaults shown are those of the preset lora)")
    for setting in dataclasses.fields(ReflConfig):
        _add_setting(settings, setting, CHOICES.get(setting.name))
    parser.set_defaults(run=run)


def _add_setting(
    group: argparse._ArgumentGroup, setting: dataclasses.Field[Any], choices: tuple[str, ...] | None
) -> None:
    add = group.add_argument if setting.name in COMMON else functools.partial(add_rare, group)
    option, text = f"--{setting.name.replace('_', '-')}", setting.metadata["help"] + _default(setting.default)
    common: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if setting.type == "bool":
        add(option, action=argparse.BooleanOptionalAction, **common)
    elif str(setting.type).startswith("tuple[int"):
        add(option, nargs=2, type=int, metavar=("FIRST", "LAST"), **common)
    elif choices:
        add(option, choices=choices, **common)
    else:
        kind = str(setting.type).split(" ")[0]
        add(option, metavar=METAVARS.get(setting.name) or METAVARS.get(kind, "TEXT"), **common)


def _default(value: object) -> str:
    if value in ("", None):
        return ""
    if isinstance(value, bool):
        return f" (default: {'on' if value else 'off'})"
    return f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def run(args: argparse.Namespace) -> int:
    from ..training.interrupts import terminated_as_interrupted

    config = config_of(args)
    with terminated_as_interrupted():
        trainer = prepare(config, resume=args.resume)
        try:
            result = trainer.train()
        except BaseException:
            _say_how_to_go_on(trainer)
            raise
    if trainer.backend.first:
        _finish(trainer, result)
    trainer.backend.stop()
    return EXIT_PARTIAL if result.verdict else EXIT_OK


def config_of(args: argparse.Namespace) -> ReflConfig:
    """Preset, then the config file, then the options. A resumed run keeps its own settings but for its length."""
    from ..errors import ImageRewardError
    from ..refl.config import ReflConfig, config_from, preset, read_config
    from ..refl.run_folder import RunFolder

    given = {
        field.name: getattr(args, field.name) for field in dataclasses.fields(ReflConfig) if hasattr(args, field.name)
    }
    if args.resume:
        if "output" not in given:
            raise ImageRewardError("--resume needs --output: the folder of the run to go on with")
        refused = sorted(set(given) - {"output", "steps", "device"})
        if refused:
            raise ImageRewardError(
                f"a resumed run keeps its settings; only --steps and --device can change, not {', '.join(refused)}"
            )
        return config_from(given, RunFolder(given["output"]).config())
    config = preset(args.preset)
    if args.config:
        config = read_config(args.config, config)
    return config_from(given, config)


def prepare(config: ReflConfig, *, resume: bool) -> ReflTrainer:
    """Everything that can be refused is refused before the first network is loaded."""
    from ..errors import ImageRewardError
    from ..refl.data import RunInputs
    from ..refl.run_folder import RunFolder

    missing = [f"--{name} ({what})" for name, what in NEEDED.items() if not getattr(config, name)]
    if missing:
        raise ImageRewardError(f"missing: {', '.join(missing)}; give it here or in --config")
    _expect_other_scorer(config)
    inputs = RunInputs.read(config)
    if not resume:
        RunFolder(config.output).check_free()

    import torch

    from ..refl.checks import check_scorers
    from ..refl.diffusers_generator import DiffusersGenerator, expect_sampler
    from ..refl.loop import ReflTrainer
    from ..scorers.loading import load_scorer
    from ..training.backend import start_backend
    from ..training.trackers import expect_tracker

    expect_sampler(config.sampler)
    expect_tracker(config.tracker)
    backend = start_backend(config.device)
    device = backend.device
    scorer = load_scorer(config.reward, device=device, dtype="float32")
    names = config.held_out_scorers if config.guard else ()
    held_out = [load_scorer(name, device=device, dtype="float32") for name in names]
    check_scorers(scorer, held_out)
    generator = DiffusersGenerator.load(config.model, dtype=getattr(torch, config.dtype), device=device)
    trainer = ReflTrainer(generator, scorer, config, held_out=held_out, backend=backend, resume=resume, inputs=inputs)
    trainer.observers = _observers(trainer)
    return trainer


def _expect_other_scorer(config: ReflConfig) -> None:
    """Before two scorers are loaded to find that they are one."""
    from ..errors import ImageRewardError

    if config.guard and config.reward in config.held_out_scorers:
        other = "clip" if config.reward == "technical" else "technical"
        raise ImageRewardError(
            f"held_out is '{config.reward}', which is the reward itself: the guard needs a scorer that training does not see "
            f"(held_out: {other}), or goes by the reward alone (held_out: none), or is switched off (guard: false)"
        )


def _observers(trainer: ReflTrainer) -> list[Observer]:
    from ..refl.observers import Curves, ProgressBar
    from ..training.trackers import TensorBoard, WeightsAndBiases

    config = trainer.config
    if not trainer.backend.first or trainer.folder is None:
        return []
    watching: list[Observer] = [ProgressBar(config.steps, trainer.update)]
    if config.tracker == "tensorboard":
        watching.append(Curves(TensorBoard(trainer.folder.path / "tensorboard")))
    elif config.tracker == "wandb":
        watching.append(Curves(WeightsAndBiases(trainer.name, config.plain(), trainer.folder.path)))
    return watching


def _say_how_to_go_on(trainer: ReflTrainer) -> None:
    if not trainer.backend.first or trainer.folder is None:
        return
    saved = trainer.folder.checkpoints.paths()
    if saved:
        go_on = f"imagereward refl --resume --output {trainer.folder.path}"
        print(f"saved after {counted(trainer.update, 'update')} as {saved[-1]}; to go on: {go_on}", file=sys.stderr)


def _finish(trainer: ReflTrainer, result: ReflResult) -> None:
    from ..refl.diffusers_generator import DiffusersGenerator
    from ..refl.guard import ENDS
    from ..refl.report import write_report
    from ..training.outputs import OutputFile

    assert trainer.folder is not None
    files = list(result.files)
    if trainer.config.tune == "full":
        assert isinstance(trainer.generator, DiffusersGenerator)
        files.append(trainer.folder.path / "pipeline")
        checkpoint = trainer.folder.path / f"{trainer.name}.safetensors" if trainer.config.single_file else None
        trainer.generator.save(files[-1], checkpoint)
        files += [checkpoint] if checkpoint else []
    report = OutputFile(trainer.folder.path / "report.html")
    files.append(report.write(lambda path: write_report(path, trainer.name, trainer.config, result)))
    print(f"{ENDS[result.ended]} after {counted(result.updates, 'update')}", file=sys.stderr)
    if result.verdict:
        print(f"imagereward: {result.verdict}", file=sys.stderr)
    for file in files:
        print(file)
