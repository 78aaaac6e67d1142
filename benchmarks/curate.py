"""Curating a folder against a plain loop over the same scorer: files per second, and memory as the folder grows.

    python benchmarks/curate.py --files 2000 --memory-at 10000,100000
    python benchmarks/curate.py --files 0 --memory-at "" --known 1000000

The pictures are generated (PNG and JPEG with A1111 parameters), the scorer is `technical`, which needs no weights. Each
measurement runs in a process of its own. `--known` needs no disk: a store that knows so many files is made, and a run over
them, as if they lay there unchanged, a table of all of them and the gallery's requests are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from checkout import mount


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="files for the speed (default 1000)")
    parser.add_argument("--side", type=int, default=256, help="pixels a side for the speed (default 256)")
    parser.add_argument("--memory-at", default="1000,10000", help="numbers of small files (default 1000,10000)")
    parser.add_argument("--known", type=int, default=0, help="files that a store knows already (default 0: none)")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "DIR"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child[0], Path(args.child[1]))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if args.files:
            compare_speed(Path(scratch) / "speed", args.files, args.side)
        for count in map(int, filter(None, args.memory_at.split(","))):
            folder = Path(scratch) / f"memory{count}"
            make_files(folder, count, 16)
            first, again = in_a_process("first", folder), in_a_process("again", folder)
            print(
                f"{count:>8} files: {first['megabytes']:6.0f} MB at most, {first['seconds']:7.1f} s; "
                f"second run {again['seconds']:6.1f} s"
            )
        if args.known:
            folder = Path(scratch) / str(args.known)
            folder.mkdir()
            row = in_a_process("known", folder)
            print(
                f"{args.known:>8} known files: {row['megabytes']:6.0f} MB at most, run {row['seconds']:6.1f} s, "
                f"table of all {row['table_seconds']:6.1f} s, store {row['store_megabytes']:6.0f} MB"
            )
            row = in_a_process("gallery", folder)
            seconds = ", ".join(f"{name} {row[name]:.3f} s" for name in row if name != "megabytes")
            print(f"{args.known:>8} in the gallery: {row['megabytes']:6.0f} MB at most; {seconds}")


def compare_speed(folder: Path, count: int, side: int) -> None:
    make_files(folder, count, side)
    rows = {what: in_a_process(what, folder) for what in ("loop", "first", "again")}
    loop = rows["loop"]["seconds"]
    for what, title in (("loop", "plain loop"), ("first", "curate, first run"), ("again", "curate, second run")):
        seconds = rows[what]["seconds"]
        print(f"{title:20} {count / seconds:9.1f} files/s   {loop / seconds:7.2f} x the loop")


def make_files(folder: Path, count: int, side: int) -> None:
    """Pictures that all differ, from one noise image shifted, in folders of 1000."""
    mount()
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for i in range(count):
        path = folder / f"{i // 1000:04}" / f"{i:07}{'.jpg' if i % 4 == 3 else '.png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.roll(noise, i % side, axis=1)
        array[0, 0] = (i & 255, i >> 8 & 255, i >> 16 & 255)
        info = PngInfo()
        info.add_text("parameters", f"picture {i}\nSteps: 20, Sampler: Euler a, Seed: {i}, Size: {side}x{side}")
        Image.fromarray(array).save(
            path, **({"quality": 90} if path.suffix == ".jpg" else {"pnginfo": info, "compress_level": 1})
        )


def in_a_process(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, os.fspath(Path(__file__)), "--child", what, os.fspath(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(what: str, folder: Path) -> dict[str, float]:
    mount()
    if what == "known":
        return measure_known(folder, int(folder.name))
    if what == "gallery":
        return measure_gallery(folder)
    from sd_imagereward.core.curate.pipeline import score_files
    from sd_imagereward.core.curate.workplace import open_workplace
    from sd_imagereward.core.scorers.loading import load_scorer
    from sd_imagereward.core.scoring.score import score_images

    scorer = load_scorer("technical")
    start = time.perf_counter()
    if what == "loop":
        for path in sorted(folder.rglob("*.*")):
            score_images(scorer, path, "")
    else:
        with open_workplace(folder) as place:
            summary = score_files(folder, [("technical", scorer)], place.store)
        assert (summary.scored == 0) == (what == "again"), summary
    return {
        "seconds": time.perf_counter() - start,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_known(folder: Path, count: int) -> dict[str, float]:
    from sd_imagereward.core.curate import pipeline
    from sd_imagereward.core.curate.listing import list_csv
    from sd_imagereward.core.curate.ranking import Ranked
    from sd_imagereward.core.curate.records import Picture, ScorerRecord, content_hash
    from sd_imagereward.core.curate.store import Store
    from sd_imagereward.core.curate.workplace import default_store
    from sd_imagereward.core.pictures.scan import Entry
    from sd_imagereward.core.scorers.loading import load_scorer

    def walk(*_: object, **__: object) -> Iterator[Entry]:
        return (Entry(folder / f"{i // 1000:04}" / f"{i:07}.png", 1000, i) for i in range(count))

    scorer = load_scorer("technical")
    record = ScorerRecord.of("technical", scorer.info)
    pipeline.scan = walk
    with Store(default_store(folder)) as store:
        store.add_scorer(record)
        run = store.begin_run()
        entries = walk()
        while chunk := list(islice(entries, 500)):
            hashes = [content_hash(str(entry.mtime_ns).encode()) for entry in chunk]
            store.put_scores(
                record, [(h, None, entry.mtime_ns / count, {}) for h, entry in zip(hashes, chunk, strict=True)]
            )
            store.put(
                [
                    Picture(*entry, hash=h, prompt=f"picture {entry.mtime_ns // 4}", program="A1111", model="m")
                    for h, entry in zip(hashes, chunk, strict=True)
                ],
                run,
            )
        store.commit()
        start = time.perf_counter()
        summary = pipeline.score_files(folder, [("technical", scorer)], store)
        seconds = time.perf_counter() - start
        assert summary.unchanged == count, summary
        start = time.perf_counter()
        list_csv(Ranked(store, record, folder), folder / "all.csv", say=print)
        return {
            "seconds": seconds,
            "table_seconds": time.perf_counter() - start,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "store_megabytes": default_store(folder).stat().st_size / 2**20,
        }


def measure_gallery(folder: Path) -> dict[str, float]:
    """Requests of the page, without the pictures, which are decoded for 24 cards whatever the store holds."""
    from sd_imagereward.core.gallery.album import GRID, GROUPS, PAIRS, Album, Choice

    album = Album.open(folder)
    row = {}
    for name, choice in {
        "first page": Choice(),
        "page 2": Choice(page=2),
        "last page": Choice(page=10**9),
        "threshold": Choice(least=0.5),
        "search": Choice(search="picture 77"),
        "search, page 2": Choice(search="picture 77", page=2),
        "groups": Choice(view=GROUPS),
        "next group": Choice(view=GROUPS, page=2),
        "pairs": Choice(view=PAIRS, page=1000),
        "back": Choice(view=GRID, page=3),
    }.items():
        start = time.perf_counter()
        shown = album.show(choice)
        row[name] = time.perf_counter() - start
        assert shown.pictures, name
    return row | {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
