"""Speed and memory of scoring: ours, the `image-reward` package and `imscore`, in turn, on equal random weights of real size.

    python benchmarks/score.py                                                  # ours alone
    python benchmarks/score.py --reference-python ~/reference/bin/python        # and theirs: tests/reference/package.py
    python benchmarks/score.py --device cuda --modes fp16 --counts 64 --reference-path site   # their packages in a folder

Every contestant is a process of its own; they take turns, measurement by measurement, so that a busy machine is unfair
to none. Prints Markdown. The peak is that of a plain matrix product of the same dtype, taken in turn with the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkout import mount
from race import PROMPT, SIDE, Contestant, Load, Score, as_pil, as_tensor, closing, launch_warm, race, serve

# Multiply-adds count as two. ViT-L/16 on 224 x 224 is 123.1 GFLOP; what the text side needs at least is about 2.
NEEDED_FLOP = 125e9

# (title of the contestant, number of images, ratio to the reference); issue numbers age, so they are spelt out here.
SPEED_GOALS = {
    ("fp32", 1): 1.3,
    ("fp32", 8): 1.5,
    ("fp32", 32): 1.5,
    ("int8", 8): 2.5,
    ("int8", 32): 2.5,
    ("fp16", 64): 40.0,
}
PEAK_GOALS = {"cpu": 0.75, "cuda": 0.5}
LOAD_GOAL, MEMORY_GOAL, IMPORT_GOAL = 5.0, 3.0, 2.0


# -- contestants: each runs in a process of its own -----------------------------------------------------------------------


def ours(checkpoint: Path, device: str, mode: str) -> Load:
    """Imports; what it returns loads; what that returns scores."""
    mount()
    from sd_imagereward.core import load_scorer, score_images

    def load() -> Score:
        scorer = load_scorer(checkpoint, device=device, dtype=mode)
        return lambda images: score_images(scorer, images, PROMPT).total.tolist()

    return load


def reference(checkpoint: Path, device: str, mode: str) -> Load:
    from reference.package import declare_torchvision_operators, load_reference

    declare_torchvision_operators()
    import ImageReward  # noqa: F401  (its import is what is timed)
    import torch

    def load() -> Score:
        model = load_reference(checkpoint, device=device)

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                return [model.score(PROMPT, as_pil(image)) for image in images]

        return score

    return load


def imscore(checkpoint: Path, device: str, mode: str) -> Load:
    from reference.package import declare_torchvision_operators, load_imscore

    declare_torchvision_operators()
    import imscore.imreward.model  # noqa: F401  (its import is what is timed)
    import torch

    def load() -> Score:
        model = load_imscore(checkpoint, device=device)

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                pixels = torch.stack([as_tensor(image) for image in images]).to(device)
                return model.score(pixels, [PROMPT] * len(images)).flatten().tolist()

        return score

    return load


CONTESTANTS = {"ours": ours, "reference": reference, "imscore": imscore}


# -- the race ---------------------------------------------------------------------------------------------------------


def launch_all(checkpoint: Path, arguments: argparse.Namespace) -> list[Contestant]:
    def start(name: str, mode: str) -> Contestant:
        ours = name == "ours"
        python = sys.executable if ours else arguments.reference_python or sys.executable
        command = [python, __file__, "--worker", name, "--modes", mode, "--device", arguments.device,
                   "--checkpoint", str(checkpoint)]  # fmt: skip
        path = "" if ours else arguments.reference_path or ""
        return launch_warm(name, mode, command, path)

    contestants = [start("ours", mode) for mode in arguments.modes]
    if arguments.reference_python or arguments.reference_path:
        for name in ("reference", "imscore"):
            try:
                contestants.append(start(name, "fp32"))
            except RuntimeError as error:
                print(f"left out: {error}", file=sys.stderr)
    return contestants


# -- the report -------------------------------------------------------------------------------------------------------


def verdict(value: float, goal: float | None, smaller: bool = False) -> str:
    if goal is None:
        return ""
    met = value <= goal if smaller else value >= goal
    return f" ({'met' if met else 'missed'}: {goal:g})"


def report(contestants: Sequence[Contestant], counts: Sequence[int], peak: float, device: str) -> str:
    base = next((c for c in contestants if c.name == "reference"), None)
    first = contestants[0]
    spread = [max(t) / statistics.median(t) for c in contestants for t in c.seconds.values()]
    return "\n\n".join(
        [
            f"{platform.processor() or platform.machine()}, device {device}, torch {first.start['torch']}, "
            f"{first.start['threads']} threads, {SIDE} x {SIDE} pictures; load average {os.getloadavg()[0]:.1f}. "
            f"Matrix-product peak: {peak / 1e9:.0f} GFLOP/s. x: times better than the reference. Goals in brackets.",
            start_table(contestants, base),
            speed_table(contestants, base, counts, peak, device),
            *([differences(contestants, base, counts)] if base else []),
            f"Best of the turns; the slowest turn took up to {max(spread):.1f} times the median.",
        ]
    )


def start_table(contestants: Sequence[Contestant], base: Contestant | None) -> str:
    """Import and load of a process whose files the system has read once; memory then, and after all scoring."""

    def against_base(value: float, theirs: float, goal: float | None) -> str:
        return f", {theirs / value:.1f}x" + verdict(theirs / value, goal)

    lines = ["| | import s | load s | GB when loaded | GB after scoring |", "|---|---|---|---|---|"]
    for c in contestants:
        exact = c.name == "ours" and c.mode != "int8"  # the goals are those of the default
        cells = [f"{c.start[what]:.2f}" for what in ("import", "load")]
        cells += [f"{memory / 2**30:.2f}" for memory in (c.start["memory"], c.memory)]
        cells[0] += verdict(c.start["import"], IMPORT_GOAL if exact else None, smaller=True)
        if base and c is not base:
            cells[1] += against_base(c.start["load"], base.start["load"], LOAD_GOAL if exact else None)
            cells[2] += against_base(c.start["memory"], base.start["memory"], MEMORY_GOAL if exact else None)
            cells[3] += against_base(c.memory, base.memory, None)
        lines.append(f"| {c.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def speed_table(
    contestants: Sequence[Contestant], base: Contestant | None, counts: Sequence[int], peak: float, device: str
) -> str:
    lines = ["| | images | s | images/s | GFLOP/s | of the peak | x |", "|---|---|---|---|---|---|---|"]
    for n in counts:
        for c in contestants:
            ours, best = c.name == "ours", c.best(n)
            flops = n * NEEDED_FLOP / best
            share = f"{flops / peak:.0%}"
            if ours and c.mode in ("fp32", "fp16") and n == max(counts):
                share += verdict(flops / peak, PEAK_GOALS.get(device))
            ratio = ""
            if base and c is not base:
                times = base.best(n) / best
                ratio = f"{times:.2f}" + verdict(times, SPEED_GOALS.get((c.mode, n)) if ours else None)
            lines.append(f"| {c.title} | {n} | {best:.2f} | {n / best:.2f} | {flops / 1e9:.0f} | {share} | {ratio} |")
    return "\n".join(lines)


def differences(contestants: Sequence[Contestant], base: Contestant, counts: Sequence[int]) -> str:
    said = []
    for c in contestants:
        if c is not base:
            worst = max(abs(a - b) for n in counts for a, b in zip(c.scores[n], base.scores[n], strict=True))
            said.append(f"{c.title} {worst:.1e}")
    return "Largest difference from the reference's scores: " + "; ".join(said) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--modes", nargs="+", default=["fp32", "int8"], help="of ours: fp32, int8, fp16")
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 8, 32], help="images scored at once")
    parser.add_argument("--repeats", type=int, default=3, help="turns after the one that warms up")
    parser.add_argument("--reference-python", default=os.environ.get("REFERENCE_PYTHON"))
    parser.add_argument("--reference-path", help="a folder of site-packages with image-reward (and imscore) in it")
    parser.add_argument("--checkpoint", type=Path, help="an ImageReward.pt with vocab.txt beside it; default: random")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        begin = CONTESTANTS[arguments.worker]
        serve(lambda: begin(arguments.checkpoint, arguments.device, arguments.modes[0]), arguments.device)
        return
    with contextlib.ExitStack() as stack:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from checkpoints import REAL_SIZE, write_imagereward

            folder = stack.enter_context(tempfile.TemporaryDirectory())
            checkpoint = write_imagereward(folder, **REAL_SIZE)
        contestants = launch_all(checkpoint, arguments)
        stack.enter_context(closing(contestants))
        peak = race(contestants, arguments.counts, arguments.repeats)
        print(report(contestants, arguments.counts, peak, arguments.device))


if __name__ == "__main__":
    main()
