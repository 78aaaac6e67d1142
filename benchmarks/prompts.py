"""A query to a large prompt library: seconds of the search and of reading the kept index, and the memory that it takes.

    python benchmarks/prompts.py --count 1000000 --width 768

The vectors are random: `flat` ones point anywhere; `falling` ones lie mostly in a few directions, as embeddings of text do,
which matters to faiss alone. They are written as the index beside a library is, and searched by a process of its own. Every
answer is compared with that of one product in float64. `--faiss` measures `--search faiss`, too, with minutes of preparation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkout import mount

GOAL = 0.2  # seconds a query, at a million
SPECTRA = ("flat", "falling")
CHUNK = 1 << 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="prompts (default a million)")
    parser.add_argument("--width", type=int, default=768, help="numbers a vector (default 768)")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("-n", type=int, default=20, help="neighbours wanted (default 20)")
    parser.add_argument("--spectra", nargs="+", choices=SPECTRA, default=SPECTRA)
    parser.add_argument("--faiss", action="store_true")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(Path(args.child), args)))
        return
    for spectrum in args.spectra:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "index.safetensors"
            write_index(file, args.count, args.width, args.queries, spectrum)
            print(f"{spectrum}: {args.count} x {args.width}, an index of {file.stat().st_size / 2**30:.2f} GB")
            for title, row in in_a_process(file, args).items():
                print(f"  {title:34} " + "   ".join(f"{name} {value}" for name, value in row.items()))


def write_index(file: Path, count: int, width: int, queries: int, spectrum: str) -> None:
    """The index, and in its place of the probe the queries: vectors like those of the library."""
    mount()
    import torch
    from sd_imagereward.core.prompts.kept_index import Kept, digests_of, keep

    generator = torch.Generator().manual_seed(0)
    decay = torch.ones(width) if spectrum == "flat" else torch.arange(1, width + 1).float() ** -0.7

    def draw(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator) * decay, dim=1)

    vectors = torch.empty(count, width)
    for start in range(0, count, CHUNK):
        vectors[start : start + CHUNK] = draw(min(CHUNK, count - start))
    keep(Kept(vectors, digests_of([str(i) for i in range(count)])), file, draw(queries).flatten())


def in_a_process(file: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    command = [sys.executable, os.fspath(Path(__file__)), "--child", os.fspath(file)]
    command += ["--queries", str(args.queries), "-n", str(args.n), *(["--faiss"] if args.faiss else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(file: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    mount()
    import torch
    from sd_imagereward.core.prompts.exact_search import ExactSearch
    from sd_imagereward.core.weights.read import read_checkpoint

    start = time.perf_counter()
    tensors = read_checkpoint(file).read()
    rows = {"reading the index": {"seconds": f"{time.perf_counter() - start:.2f}"}}
    n, search = args.n, ExactSearch(tensors["vectors"])
    topics = tensors["probe"].view(-1, search.vectors.shape[1])
    plain = [_best_in_float64(search.vectors, topic, n) for topic in topics]

    def compare(title: str, find: Callable[[torch.Tensor], torch.Tensor], exact: bool) -> None:
        find(topics[0])
        seconds, recall = [], []
        for topic, expected in zip(topics, plain, strict=True):
            start = time.perf_counter()
            found = find(topic)
            seconds.append(time.perf_counter() - start)
            recall.append(len(set(found.tolist()) & set(expected.tolist())) / n)
        assert not exact or min(recall) == 1.0, f"{title} missed a neighbour"
        rows[title] = {
            "median": f"{statistics.median(seconds):.3f} s",
            "worst": f"{max(seconds):.3f} s",
            "found": f"{statistics.mean(recall):.1%}",
            "goal": "met" if statistics.median(seconds) <= GOAL else "missed",
        }

    compare("exact search", lambda topic: search.nearest(topic, n).positions, True)
    if args.faiss:
        from sd_imagereward.core.prompts.faiss_search import FaissSearch

        start = time.perf_counter()
        cells = FaissSearch.of(search)
        rows["faiss, finding the cells"] = {"seconds": f"{time.perf_counter() - start:.0f}"}
        compare(
            f"faiss, {cells.probes} of {len(cells.cells.centres)} cells",
            lambda topic: cells.nearest(topic, n).positions,
            False,
        )
    return rows


def _best_in_float64(vectors: Any, topic: Any, n: int) -> Any:
    import torch

    parts = [vectors[start : start + CHUNK].double() @ topic.double() for start in range(0, len(vectors), CHUNK)]
    return torch.cat(parts).topk(n).indices


if __name__ == "__main__":
    main()
