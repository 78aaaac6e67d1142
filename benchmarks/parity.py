"""How near each scorer comes to its original on equal random weights at real size; writes the table of PARITY.md.

    python benchmarks/parity.py --reference-python PYTHON --images FOLDER --clip-tokenizer FOLDER --bert-vocabulary FILE

PYTHON has the originals (tests/reference/scorers.py tells how to install them). Scored are the four pictures of the goldens,
which have other shapes than a square, and then those of FOLDER. One checkpoint at a time is made, scored by the original and
by this package in fp32, fp16 and bf16 on the CPU, and deleted; ViT-H needs about 10 GB of memory and disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401 - mounts this checkout as sd_imagereward
import scorer_checkpoints as write  # noqa: E402
import torch  # noqa: E402
from sd_imagereward.core import load_scorer, score_images  # noqa: E402

DTYPES = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Case:
    name: str
    original: str
    make: Callable[[Path], Path]


def _clip_pair(folder: Path) -> Path:
    write.write_clip(folder, name="ViT-L-14.pt", layout="open_clip", **write.VIT_L14)
    return write.write_aesthetic(folder, width=768)


CASES = (
    Case("blip", "image-reward 1.5 `BLIPScore`", lambda folder: write.write_blip(folder, **write.BLIP_LARGE)),
    Case(
        "clip",
        "image-reward 1.5 `CLIPScore`",
        lambda folder: write.write_clip(folder, name="ViT-L-14.pt", layout="open_clip", **write.VIT_L14),
    ),
    Case("aesthetic", "image-reward 1.5 `AestheticScore`", _clip_pair),
    Case(
        "pickscore",
        "transformers `CLIPModel`, the model card's recipe",
        lambda folder: write.write_clip(folder, name="PickScore_v1.safetensors", **write.VIT_H14),
    ),
    Case(
        "hpsv2.1",
        "hpsv2 1.2.0 `score`",
        lambda folder: write.write_clip(
            folder, name="HPS_v2.1_compressed.pt", layout="open_clip", wrap="state_dict", **write.VIT_H14
        ),
    ),
)


def measure(case: Case, args: argparse.Namespace) -> dict[str, float]:
    """Largest difference from the original by dtype, and the original's own spread ("range")."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [*write.write_golden_pictures(folder), *sorted(args.images.resolve().iterdir())]
        images = [str(path) for path in paths[: args.count]]
        checkpoint = case.make(folder)
        for file in args.clip_tokenizer.iterdir():
            shutil.copy(file, folder)
        shutil.copy(args.bert_vocabulary, folder / "vocab.txt")
        script = str(ROOT / "tests" / "reference" / "scorers.py")
        command = [args.reference_python, script, case.name, str(checkpoint), *images]
        said = subprocess.run(
            command, input=json.dumps(write.GOLDEN_PROMPTS), capture_output=True, text=True, cwd=folder
        )
        if said.returncode:
            raise SystemExit(f"the original of {case.name} failed:\n{said.stderr[-2000:]}")
        expected = torch.tensor(json.loads(said.stdout.strip().splitlines()[-1]))  # images x prompts
        found = {"range": (expected.max() - expected.min()).item()}
        for dtype in args.dtypes:
            scorer = load_scorer(checkpoint, device="cpu", dtype=dtype)
            ours = torch.stack([score_images(scorer, images, prompt).total for prompt in write.GOLDEN_PROMPTS], dim=1)
            found[dtype] = (ours - expected).abs().max().item()
            print(f"{case.name}, {dtype}: {found[dtype]:.1e} of {found['range']:.3f}", file=sys.stderr, flush=True)
            scorer.unload()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--clip-tokenizer", type=Path, required=True, help="folder with vocab.json and merges.txt")
    parser.add_argument("--bert-vocabulary", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8, help="how many pictures")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, help="halves take long on a CPU without them")
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    args = parser.parse_args()
    print(
        f"| scorer | original | range of its scores | {' | '.join(args.dtypes)} |\n|---|---|---|{'---|' * len(args.dtypes)}"
    )
    for case in CASES:
        if case.name in args.only:
            found = measure(case, args)
            numbers = " | ".join(f"{found[dtype]:.1e}" for dtype in args.dtypes)
            print(f"| `{case.name}` | {case.original} | {found['range']:.3f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
