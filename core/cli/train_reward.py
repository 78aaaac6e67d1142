"""`imagereward train-reward`: a scorer of one's own from human preferences."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.progress import Progress
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command, add_rare
from .scorer_options import count, finite, positive, share

if TYPE_CHECKING:
    from ..preference.rankings import Ranking
    from ..preference.recipe import Recipe
    from ..preference.train_reward import Trained, Unfinished
    from ..preference.training import Epoch, Step


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "train-reward",
        help="train a reward model on human preferences; the result is a scorer for every command",
        example="imagereward train-reward --data mine.csv --images pictures --base imagereward --head-only --output my-taste",
    )
    parser.epilog = (
        "Several GPUs: accelerate launch -m sd_imagereward.core.cli train-reward ...   (or torchrun -m)\n"
        "exit codes: 0 trained; 1 trained, but images were missing or unreadable, or nothing was learned; "
        "2 wrong use; 3 no weights"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE|hub:REPO",
        help="id, prompt, generations, ranking (JSON), or prompt, better, worse (JSON, JSONL, CSV)",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the file names start from")
    parser.add_argument(
        "--valid", metavar="FILE|hub:REPO", help="validation data (default: a share of --data, by prompt)"
    )
    add_rare(parser, "--valid-share", type=share, default=0.1, metavar="X", help="share held out (default 0.1)")
    parser.add_argument("--base", required=True, metavar="FILE|NAME", help="a BLIP or ImageReward checkpoint")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="the new scorer and its training state"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state in --output")
    _add_recipe_options(parser.add_argument_group("recipe (the defaults are the paper's)"))
    _add_machine_options(parser.add_argument_group("machine"))
    parser.set_defaults(run=run)


def _add_recipe_options(group: argparse._ArgumentGroup) -> None:
    """Each `dest` is a field of `Recipe`; None leaves it as the recipe has it."""
    group.add_argument(
        "--head-only", action="store_true", help="train the head alone on cached features: minutes on a CPU"
    )
    group.add_argument("--epochs", type=positive, metavar="N", help="default 10; head only 30")
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help="pairs a step in all (default 64; head only 32)"
    )
    group.add_argument("--per-device", type=positive, metavar="N", help="pairs at once on a device (default 4)")
    group.add_argument("--lr", type=finite, metavar="X", help="default 1e-5; head only 3e-4")
    group.add_argument("--head-lr", type=finite, metavar="X", help="the head's own (default: --lr)")
    add_rare(group, "--layer-decay", type=finite, metavar="X", help="each lower layer learns slower by this factor")
    add_rare(group, "--warmup", type=share, metavar="X", help="share of the steps (default 0)")
    group.add_argument(
        "--frozen", type=share, metavar="X", help="share of the layers that stay as they are (default 0.7)"
    )
    add_rare(group, "--fresh-head", action="store_true", help="forget the head of an ImageReward base")
    add_rare(group, "--dropout", type=share, metavar="X", help="in the text tower (default 0.1)")
    add_rare(group, "--drop-path", type=share, metavar="X", help="in the image tower (default 0.1)")
    add_rare(group, "--weight-decay", type=finite, metavar="X", help="default 0")
    add_rare(group, "--clip-norm", type=finite, metavar="X", help="longest gradient (default: any)")
    add_rare(group, "--ties", choices=("skip", "half"), help="pairs that people saw no difference in (default skip)")
    add_rare(group, "--long-prompts", choices=("cut", "mean", "skip"), help="over 35 tokens (default cut)")
    add_rare(group, "--seed", type=int, metavar="N", help="default 1234")


def _add_machine_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", metavar="DEVICE", help="cuda, mps, cpu (default: the fastest there is)")
    group.add_argument("--amp", choices=("no", "bf16", "fp16"), help="mixed precision (default no)")
    group.add_argument("--gradient-checkpointing", action="store_true", help="less memory for a third more time")
    add_rare(group, "--workers", type=count, default=0, metavar="N", help="processes that decode images (default 0)")
    add_rare(
        group, "--save-steps", type=count, default=0, metavar="N", help="keep the state this often within an epoch"
    )
    group.add_argument("--tensorboard", action="store_true", help="also log for TensorBoard, into --output/tensorboard")


def run(args: argparse.Namespace) -> int:
    from ..errors import ImageRewardError
    from ..preference.train_reward import train_reward_model
    from ..training.backend import start_backend
    from ..training.checkpoints import CHECKPOINTS, Checkpoints
    from ..training.interrupts import terminated_as_interrupted
    from ..training.trackers import expect_tracker

    if args.tensorboard:
        expect_tracker("tensorboard")
    training, validation = _data(args)
    backend = start_backend(args.device)
    shown = _Shown(args.output / "tensorboard" if args.tensorboard and backend.first else None)
    try:
        with terminated_as_interrupted(), shown:
            trained = train_reward_model(
                training,
                validation,
                args.base,
                args.output,
                _recipe(args),
                backend=backend,
                fresh_head=args.fresh_head,
                workers=args.workers,
                resume=args.resume,
                save_steps=args.save_steps,
                on_step=shown.on_step,
                on_epoch=shown.on_epoch,
                on_images=shown.on_images if backend.first else None,
                on_unfinished=shown.on_unfinished,
            )
    except BaseException as error:
        # An ImageRewardError says itself what to do, which is seldom the same again.
        if backend.first and not isinstance(error, ImageRewardError) and Checkpoints(args.output / CHECKPOINTS).paths():
            print(
                f"imagereward: to go on: the same call with --resume (its state is in {args.output})", file=sys.stderr
            )
        raise
    finally:
        backend.stop()
    return EXIT_OK if trained is None else _tell(trained)


def _data(args: argparse.Namespace) -> tuple[list[Ranking], list[Ranking]]:
    from ..preference.rankings import hold_out
    from ..preference.reading import read_rankings

    rankings = read_rankings(args.data, args.images)
    if args.valid:
        return rankings, read_rankings(args.valid, args.images)
    return hold_out(rankings, args.valid_share)


def _recipe(args: argparse.Namespace) -> Recipe:
    from ..preference.recipe import HEAD_ONLY, Recipe

    start = HEAD_ONLY if args.head_only else Recipe()
    given = {field.name: getattr(args, field.name) for field in fields(Recipe) if getattr(args, field.name) is not None}
    return replace(start, **given)


class _Shown:
    """What a person sees of a training: how far it is on stderr, each epoch on stdout, curves in TensorBoard."""

    def __init__(self, curves: Path | None) -> None:
        from ..training.trackers import TensorBoard

        self.tracker = None if curves is None else TensorBoard(curves)
        self._steps: Progress | None = None
        self._aside: Progress | None = None  # of images that are run besides the steps
        self._images, self._seconds = 0, 0.0

    def on_step(self, step: Step) -> None:
        self._steps = self._steps or Progress("train", "step", step.total, step.done)
        self._images, self._seconds = self._images + step.images, self._seconds + step.seconds
        note = (
            f"epoch {step.epoch}, loss {step.loss:.4f}, accuracy {100 * step.accuracy:.1f}%, "
            f"{self._images / max(self._seconds, 1e-9):.1f} images/s"
        )
        self._steps.show(step.done, note=note)

    def on_images(self, what: str, done: int, total: int) -> None:
        self._aside = self._aside or Progress(what, "image", total)
        self._aside.show(done)
        if done >= total:
            self._aside.close()
            self._aside = None

    def on_epoch(self, epoch: Epoch) -> None:
        line = (
            f"epoch {epoch.epoch:>3}  train loss {epoch.train_loss:.4f} accuracy {100 * epoch.train_accuracy:5.1f}%  "
            f"valid loss {epoch.valid_loss:.4f} accuracy {100 * epoch.valid_accuracy:5.1f}%"
        )
        if self._steps is None:
            print(line, flush=True)
        else:
            self._steps.write(line, sys.stdout)
        if self.tracker is not None:
            curves = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr")
            self.tracker.log({name: getattr(epoch, name) for name in curves}, epoch.step)

    def on_unfinished(self, left: Unfinished) -> None:
        self.close()
        print(f"imagereward: {left}", file=sys.stderr)

    def close(self) -> None:
        for progress in (self._aside, self._steps):
            if progress is not None:
                progress.close()

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _tell(trained: Trained) -> int:
    best = trained.best
    print(f"{trained.path}: validation accuracy {100 * best.valid_accuracy:.1f}% (epoch {best.epoch})")
    print(f'use it: imagereward score "a prompt" *.png --scorer {trained.path}')
    for image in trained.missing:
        print(f"imagereward: missing: {image}", file=sys.stderr)
    for image in trained.unreadable:
        print(f"imagereward: unreadable: {image}", file=sys.stderr)
    if best.epoch == 0:
        print(
            "imagereward: no epoch was better than the base on the validation pairs; it is saved as it was",
            file=sys.stderr,
        )
    return EXIT_PARTIAL if trained.missing or trained.unreadable or best.epoch == 0 else EXIT_OK
