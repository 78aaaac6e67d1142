"""What the kept features save: the first prompt on some pictures and the second, in turn.

    python benchmarks/second_prompt.py                       # a random network of real size on the CPU: some minutes
    python benchmarks/second_prompt.py --layers 4 4 --pictures 100 --rounds 5
    python benchmarks/second_prompt.py --checkpoint ImageReward.pt --device cuda

Prints Markdown: CPU seconds of the process, or wall seconds on another device, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from checkout import mount

mount()

from checkpoints import REAL_SIZE, write_imagereward  # noqa: E402
from sd_imagereward.core import Scorer, load_scorer, score_images  # noqa: E402

PROMPTS = [f"a photograph of {number} red apples on a blue table" for number in range(2, 100)]


def measure(scorer: Scorer, pictures: list[torch.Tensor], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; a prompt is never used twice, so that no text is known."""
    clock = time.process_time if scorer.device.type == "cpu" else time.perf_counter
    prompts = iter(PROMPTS)
    cache = scorer.tower.cache  # type: ignore[attr-defined]

    def seconds(before: Callable[[], None] = lambda: None) -> float:
        before()
        start = clock()
        score_images(scorer, pictures, next(prompts))
        return clock() - start

    seconds(cache.clear)  # warms up
    rows: dict[str, list[float]] = {"first prompt": [], "second prompt": []}
    for _ in range(rounds):
        rows["first prompt"].append(seconds(cache.clear))
        rows["second prompt"].append(seconds())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", type=Path, help="an ImageReward checkpoint with its vocabulary; default: random"
    )
    parser.add_argument(
        "--layers", type=int, nargs=2, metavar=("IMAGE", "TEXT"), help="fewer layers than ImageReward has"
    )
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict(REAL_SIZE)
        if arguments.layers:
            sizes |= dict(zip(("vision_depth", "text_depth"), arguments.layers, strict=True))
        checkpoint = arguments.checkpoint or write_imagereward(Path(folder), **sizes)
        scorer = load_scorer(checkpoint, device=arguments.device)
        random = torch.Generator().manual_seed(1)
        pictures = [torch.rand(3, 224, 224, generator=random) for _ in range(arguments.pictures)]
        rows = measure(scorer, pictures, arguments.rounds)
    slowest = statistics.median(rows["first prompt"])
    print(f"| {arguments.pictures} pictures, {arguments.device} | s | of the first prompt |\n|---|---|---|")
    for what, values in rows.items():
        print(f"| {what} | {statistics.median(values):.2f} | {statistics.median(values) / slowest:.2f} |")


if __name__ == "__main__":
    main()
