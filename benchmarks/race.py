"""Contestants, each a process of its own, that score the same new pictures in turn: what score.py and scorers.py share.

They take turns measurement by measurement, so that a busy machine is unfair to none.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

PROMPT = "a painting of an ocean with clouds and birds, day time, low depth field effect"
SIDE = 512

Score = Callable[[Sequence[Any]], list[float]]
Load = Callable[[], Score]  # what a contestant's import gives; calling it loads

# -- in a contestant's process ----------------------------------------------------------------------------------------


def serve(begin: Callable[[], Load], device: str = "cpu") -> None:
    """Imports, loads, then answers one JSON line for each line of stdin: {"peak": true} or {"count": n, "turn": t}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print must not mix with the answers
    start = time.perf_counter()
    import torch  # counted as part of everybody's import

    load = begin()
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
            print(json.dumps({"flops": peak_flops(device)}), file=answers, flush=True)
            continue
        images = pictures(request["count"], request["turn"], device)
        synchronise(device)
        start = time.perf_counter()
        scores = score(images)
        synchronise(device)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": scores, "memory": peak_memory()}), file=answers, flush=True)


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


def as_pil(image: Any) -> Any:
    """GPU tensors have to become PIL images before some packages take them; that is part of their loop."""
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


def peak_flops(device: str) -> float:
    """FLOP/s of the best of a few matrix products as large as ViT-L's largest at batch 8 (16 on a GPU)."""
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


# -- in the process that starts them ----------------------------------------------------------------------------------


@dataclass
class Contestant:
    """A running process and what it said."""

    name: str  # "ours", "reference", "imscore"
    mode: str  # its precision
    process: subprocess.Popen[str]
    start: dict[str, Any] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)  # number of images -> a time each turn
    scores: dict[int, list[float]] = field(default_factory=dict)
    memory: int = 0  # bytes: the most that was resident, scoring included

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


def launch_warm(name: str, mode: str, command: Sequence[str], path: str = "", folder: Path | None = None) -> Contestant:
    """`launch`, after a first start that reads from the disk, which says more of the machine than of the contestant."""
    with closing([launch(name, mode, command, path, folder)]):
        pass
    return launch(name, mode, command, path, folder)


def launch(name: str, mode: str, command: Sequence[str], path: str = "", folder: Path | None = None) -> Contestant:
    """Starts a process that will `serve` and waits until it has loaded.

    path: put before PYTHONPATH. folder: where it runs.
    """
    path = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    contestant = Contestant(name, mode, process)
    contestant.start = contestant.listen()  # one at a time, so that loading is measured undisturbed by the others
    return contestant


@contextlib.contextmanager
def closing(contestants: Sequence[Contestant]) -> Iterator[None]:
    """Ends their processes at the end of a `with` block."""
    try:
        yield
    finally:
        for contestant in contestants:
            assert contestant.process.stdin is not None
            contestant.process.stdin.close()
            contestant.process.wait()


def race(contestants: Sequence[Contestant], counts: Sequence[int], repeats: int) -> float:
    """Fills in the times; returns the peak of a plain matrix product, taken in turn with the rest, in FLOP/s."""
    peaks = []
    for count in counts:
        for turn in range(repeats + 1):
            for contestant in contestants:
                answer = contestant.ask({"count": count, "turn": turn * 1000 + count})
                if turn:  # the first turn warms up
                    contestant.seconds.setdefault(count, []).append(answer["seconds"])
                contestant.scores[count] = answer["scores"]
                contestant.memory = answer["memory"]
            peaks.append(contestants[0].ask({"peak": True})["flops"])
    return max(peaks)
