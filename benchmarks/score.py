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
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

PROMPT = "a painting of an ocean with clouds and birds, day time, low depth field effect"
SIDE = 512
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
LOAD_GOAL, MEMORY_GOAL, IMPORT_GOAL = 20.0, 6.0, 2.0


# -- contestants: each runs in a process of its own -----------------------------------------------------------------------


def ours(checkpoint: Path, device: str, mode: str) -> Callable[[], Callable[[Sequence[Any]], list[float]]]:
    """Imports; what it returns loads; what that returns scores."""
    spec = importlib.util.spec_from_file_location(
        "sd_imagereward", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["sd_imagereward"] = package
    spec.loader.exec_module(package)
    from sd_imagereward.core import load_scorer, rate

    def load() -> Callable[[Sequence[Any]], list[float]]:
        scorer = load_scorer(checkpoint, device=device, dtype=mode)
        return lambda images: rate(scorer, images, PROMPT).tolist()

    return load


def reference(checkpoint: Path, device: str, mode: str) -> Callable[[], Callable[[Sequence[Any]], list[float]]]:
    from reference.package import declare_torchvision_operators, load_reference

    declare_torchvision_operators()
    import ImageReward  # noqa: F401  (its import is what is timed)
    import torch

    def load() -> Callable[[Sequence[Any]], list[float]]:
        model = load_reference(checkpoint, device=device)

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                return [model.score(PROMPT, as_pil(image)) for image in images]

        return score

    return load


def imscore(checkpoint: Path, device: str, mode: str) -> Callable[[], Callable[[Sequence[Any]], list[float]]]:
    from reference.package import declare_torchvision_operators, load_imscore

    declare_torchvision_operators()
    import imscore.imreward.model  # noqa: F401  (its import is what is timed)
    import torch

    def load() -> Callable[[Sequence[Any]], list[float]]:
        model = load_imscore(checkpoint, device=device)

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                pixels = torch.stack([as_tensor(image) for image in images]).to(device)
                return model.score(pixels, [PROMPT] * len(images)).flatten().tolist()

        return score

    return load


CONTESTANTS = {"ours": ours, "reference": reference, "imscore": imscore}


def as_pil(image: Any) -> Any:
    """GPU tensors have to become PIL images before the reference takes them; that is part of its loop."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    return Image.fromarray((image * 255).byte().permute(1, 2, 0).cpu().numpy())  # CHW -> HWC


def as_tensor(image: Any) -> Any:
    import numpy as np
    import torch

    if isinstance(image, torch.Tensor):
        return image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # HWC -> CHW


def pictures(count: int, turn: int, device: str) -> list[Any]:
    """New pictures each turn, so that no cache of features helps; tensors on the device when that is a GPU."""
    import numpy as np
    import torch
    from parity_cases import noise
    from PIL import Image

    arrays = [noise(f"{turn}/{i}", SIDE, SIDE, 3) for i in range(count)]
    if device == "cpu":
        return [Image.fromarray(array) for array in arrays]
    return list(torch.from_numpy(np.stack(arrays)).to(device).permute(0, 3, 1, 2).float() / 255)  # BHWC -> BCHW


def peak_flops(device: str, mode: str) -> float:
    """FLOP/s of the best of a few matrix products as large as the network's largest at batch 8 (16 on a GPU)."""
    import torch

    dtype = torch.float32 if device == "cpu" else torch.float16
    rows, inner, columns = (1576, 1024, 4096) if device == "cpu" else (8192, 8192, 8192)
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(inner, columns, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(4):
            a @ b
        synchronise(device)
        best = min(best, (time.perf_counter() - start) / 4)
    return 2 * rows * inner * columns / best


def synchronise(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def peak_memory() -> int:
    """Bytes: the most that was resident in this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work(name: str, checkpoint: Path, device: str, mode: str) -> None:
    """Answers one JSON line for each line of stdin: {"peak": true} or {"count": n, "turn": t}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print must not mix with the answers
    start = time.perf_counter()
    import torch  # counted as part of everybody's import

    load = CONTESTANTS[name](checkpoint, device, mode)
    imported = time.perf_counter() - start
    start = time.perf_counter()
    score = load()
    synchronise(device)
    loaded = time.perf_counter() - start
    print(json.dumps({"import": imported, "load": loaded, "memory": peak_memory(), "torch": torch.__version__,
                      "threads": torch.get_num_threads()}), file=answers, flush=True)  # fmt: skip
    for line in sys.stdin:
        request = json.loads(line)
        if "peak" in request:
            print(json.dumps({"flops": peak_flops(device, mode)}), file=answers, flush=True)
            continue
        images = pictures(request["count"], request["turn"], device)
        synchronise(device)
        start = time.perf_counter()
        scores = score(images)
        synchronise(device)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": scores}), file=answers, flush=True)


# -- the race ---------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    """A running process and what it said."""

    name: str  # "ours", "reference", "imscore"
    mode: str
    process: subprocess.Popen[str]
    start: dict[str, Any] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)  # number of images -> a time each turn
    scores: dict[int, list[float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"ours, {self.mode}" if self.name == "ours" else self.name

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.listen()

    def listen(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.title} ended with exit code {self.process.wait()}; its errors are above")
        return json.loads(line)

    def best(self, count: int) -> float:
        return min(self.seconds[count])


def launch(name: str, mode: str, checkpoint: Path, arguments: argparse.Namespace) -> Contestant:
    python, path = sys.executable, os.environ.get("PYTHONPATH", "")
    if name != "ours":
        python = arguments.reference_python or sys.executable
        path = os.pathsep.join(filter(None, (arguments.reference_path, path)))
    command = [python, __file__, "--worker", name, "--modes", mode, "--device", arguments.device,
               "--checkpoint", str(checkpoint)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    contestant = Contestant(name, mode, process)
    contestant.start = contestant.listen()  # one at a time, so that loading is measured undisturbed by the others
    return contestant


def launch_all(checkpoint: Path, arguments: argparse.Namespace) -> list[Contestant]:
    contestants = [launch("ours", mode, checkpoint, arguments) for mode in arguments.modes]
    if arguments.reference_python or arguments.reference_path:
        for name in ("reference", "imscore"):
            try:
                contestants.append(launch(name, "fp32", checkpoint, arguments))
            except RuntimeError as error:
                print(f"left out: {error}", file=sys.stderr)
    return contestants


def race(contestants: Sequence[Contestant], counts: Sequence[int], repeats: int) -> float:
    """Fills in the times; returns the peak in FLOP/s."""
    peaks = []
    for count in counts:
        for turn in range(repeats + 1):
            for contestant in contestants:
                answer = contestant.ask({"count": count, "turn": turn * 1000 + count})
                if turn:  # the first turn warms up
                    contestant.seconds.setdefault(count, []).append(answer["seconds"])
                contestant.scores[count] = answer["scores"]
            peaks.append(contestants[0].ask({"peak": True})["flops"])
    return max(peaks)


# -- the report -------------------------------------------------------------------------------------------------------


def verdict(value: float, goal: float | None, smaller: bool = False) -> str:
    if goal is None:
        return ""
    met = value <= goal if smaller else value >= goal
    return f" ({'met' if met else 'missed'}: {goal:g})"


def report(contestants: Sequence[Contestant], counts: Sequence[int], peak: float, device: str) -> str:
    base = next((c for c in contestants if c.name == "reference"), None)
    first = contestants[0]
    lines = [
        f"{platform.processor() or platform.machine()}, device {device}, torch {first.start['torch']}, "
        f"{first.start['threads']} threads, {SIDE} x {SIDE} pictures; load average {os.getloadavg()[0]:.1f}. "
        f"Matrix-product peak: {peak / 1e9:.0f} GFLOP/s. Goals in brackets.",
        "",
        "| | import s | load s | peak memory GB | " + " | ".join(f"{n} image{'s' * (n > 1)}" for n in counts) + " |",
        "|---|---|---|---|" + "---|" * len(counts),
    ]
    for c in contestants:
        ours = c.name == "ours"
        exact = ours and c.mode != "int8"
        cells = [f"{c.start['import']:.2f}" + verdict(c.start["import"], IMPORT_GOAL if exact else None, smaller=True)]
        ratio = base.start["load"] / c.start["load"] if base else 0.0
        cells.append(
            f"{c.start['load']:.2f}" + (f", {ratio:.1f}x" + verdict(ratio, LOAD_GOAL) if base and exact else "")
        )
        ratio = base.start["memory"] / c.start["memory"] if base else 0.0
        cells.append(
            f"{c.start['memory'] / 2**30:.2f}"
            + (f", 1/{ratio:.1f}" + verdict(ratio, MEMORY_GOAL) if base and exact else "")
        )
        for n in counts:
            flops = n * NEEDED_FLOP / c.best(n)
            cell = f"{c.best(n):.2f} s, {n / c.best(n):.2f}/s, {flops / 1e9:.0f} GFLOP/s, {flops / peak:.0%} of peak"
            if ours and c.mode in ("fp32", "fp16") and n == max(counts):
                cell += verdict(flops / peak, PEAK_GOALS.get(device))
            if base:
                ratio = base.best(n) / c.best(n)
                cell += f", {ratio:.2f}x" + verdict(ratio, SPEED_GOALS.get((c.mode, n)) if ours else None)
            cells.append(cell)
        lines.append(f"| {c.title} | " + " | ".join(cells) + " |")
    if base:
        lines += ["", "Largest difference from the reference's scores: "]
        for c in contestants:
            if c is not base:
                pairs = [zip(c.scores[n], base.scores[n], strict=True) for n in counts]
                worst = max(abs(a - b) for pair in pairs for a, b in pair)
                lines[-1] += f"{c.title} {worst:.1e}; "
    spread = [max(t) / statistics.median(t) for c in contestants for t in c.seconds.values()]
    lines += ["", f"Best of the turns; the slowest turn took up to {max(spread):.1f} times the median."]
    return "\n".join(lines)


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
        work(arguments.worker, arguments.checkpoint, arguments.device, arguments.modes[0])
        return
    with contextlib.ExitStack() as stack:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from checkpoints import REAL_SIZE, write_imagereward

            folder = stack.enter_context(tempfile.TemporaryDirectory())
            checkpoint = write_imagereward(folder, **REAL_SIZE)
        contestants = launch_all(checkpoint, arguments)
        for contestant in contestants:
            stack.callback(contestant.process.wait)
            assert contestant.process.stdin is not None
            stack.callback(contestant.process.stdin.close)
        peak = race(contestants, arguments.counts, arguments.repeats)
        print(report(contestants, arguments.counts, peak, arguments.device))


if __name__ == "__main__":
    main()
