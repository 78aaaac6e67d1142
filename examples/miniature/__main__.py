"""Runs the miniature: `python -m sd_imagereward.examples.miniature --output miniature --seeds 0 1 2`."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import page
from .alternatives import run_alternatives, table
from .claims import claims_of
from .guarding import guard_claims, run_hot
from .stages import SMALL, STAGES, Size, Workshop, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("miniature"), metavar="DIR", help="(default miniature)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="(default 0)")
    parser.add_argument("--hot", action="store_true", help="also runs that go wrong on purpose, to try the guard")
    parser.add_argument("--alternatives", action="store_true", help="also ReFL beside its alternatives, on equal time")
    parser.add_argument("--small", action="store_true", help="a few steps of everything: does it run at all?")
    parser.add_argument("--until", choices=STAGES, help="stop after this stage")
    args = parser.parse_args()
    stages = dict(STAGES)
    if args.until:
        names = list(stages)
        stages = {name: stages[name] for name in names[: names.index(args.until) + 1]}
    else:
        stages |= {"hot": run_hot} if args.hot else {}
        stages |= {"alternatives": run_alternatives} if args.alternatives else {}
    shops = [Workshop(args.output.resolve(), seed, SMALL if args.small else Size()) for seed in args.seeds]
    for shop in shops:
        run(shop, stages)
    if not args.until:
        found = [[*claims_of(shop), *(guard_claims(shop) if args.hot else ())] for shop in shops]
        tables = [(f"ReFL and its alternatives, seed {shop.seed}", table(shop)) for shop in shops if args.alternatives]
        print(page.write(args.output / "page.html", shops, found, tables))
        print((args.output / "page.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
