"""clip + aesthetic + imagereward as one mixture against three separate loads: bytes of weights and seconds an image.

    python benchmarks/judges.py [--tiny] [--images 8]

Random checkpoints at real size (about 4 GB of disk and memory), or --tiny for a look at the mechanism. The separate loads get
copies of the CLIP file, as three programs would have.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401 - mounts this checkout as sd_imagereward
import judge_checkpoints as write  # noqa: E402
import torch  # noqa: E402
from checkpoints import REAL_SIZE, write_imagereward  # noqa: E402
from sd_imagereward.core import judge, load_scorer  # noqa: E402

PROMPT = "a painting of an ocean"


def files(folder: Path, tiny: bool) -> dict[str, Path]:
    """One folder with everything, as weights lie on a user's disk."""
    sizes = {} if tiny else write.VIT_L14 | {"vocab_size": len(write.clip_vocabulary()[0])}
    return {
        "imagereward": write_imagereward(folder, **({} if tiny else {**REAL_SIZE})),
        "clip": write.write_clip(folder, layout="open_clip", name="ViT-L-14.pt", **sizes),
        "aesthetic": write.write_aesthetic(folder, width=sizes.get("embedding", 32)),
    }


def seconds(work: object) -> float:
    begin = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--images", type=int, default=8)
    args = parser.parse_args()
    pixels = torch.rand(args.images, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as temporary:
        together, apart = Path(temporary) / "together", Path(temporary) / "apart"
        paths = files(together, args.tiny)
        mix = load_scorer(f"mix({', '.join(f'{path}=1' for path in paths.values())})", device="cpu", dtype="fp32")
        shared = (mix.memory(), seconds(lambda: judge(mix, pixels, PROMPT)))
        mix.unload()
        memory, spent = 0, 0.0
        for name, path in files(apart, args.tiny).items():
            scorer = load_scorer(path, device="cpu", dtype="fp32")
            memory += scorer.memory()
            spent += seconds(lambda scorer=scorer: judge(scorer, pixels, PROMPT))
            print(f"{name:<12} {scorer.memory() / 2**20:8.0f} MB")
            scorer.unload()
        separate = (memory, spent)
    print("\n|  | weights | seconds an image |\n|---|---|---|")
    for title, (size, total) in (("one mixture", shared), ("three separate loads", separate)):
        print(f"| {title} | {size / 2**20:.0f} MB | {total / args.images:.3f} |")
    print(f"| ratio | {separate[0] / shared[0]:.2f} | {separate[1] / shared[1]:.2f} |")


if __name__ == "__main__":
    main()
