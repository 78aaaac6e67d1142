"""Memory and speed of the other scorers: ours, `imscore` and `hpsv2`, in turn, on equal random weights of real size.

    python benchmarks/scorers.py --clip-tokenizer FOLDER                                        # ours alone
    python benchmarks/scorers.py --clip-tokenizer FOLDER --reference-python PYTHON [--case hpsv2.1]

The case "three" scores by clip + aesthetic + imagereward: as one mixture of ours, by three separate loads of ours (each with
a CLIP file of its own, as three programs would have), and by imscore's three models. "hpsv2.1" and "pickscore" are one ViT-H
each, which takes about 5 GB of memory a contestant; HPS comes in fp16, as published. FOLDER holds CLIP's vocab.json and
merges.txt, PYTHON the packages: tests/reference/scorers.py tells how to install them. --weights keeps the files, 3 to 4 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from checkout import mount
from race import PROMPT, SIDE, Contestant, Load, Score, as_tensor, closing, launch_warm, race, serve

CLIP = "openai/clip-vit-large-patch14"  # the folder in which imscore finds it without the Hub
PICKSCORE, PICKSCORE_PROCESSOR = "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
HPS = "HPS_v2.1_compressed.pt"
AESTHETIC = "sac+logos+ava1-l14-linearMSE.pth"

# -- the files ----------------------------------------------------------------------------------------------------------


def write_three(folder: Path, tokenizer: Path) -> None:
    """ImageReward, a CLIP ViT-L/14 and the aesthetic head; and copies of the two last."""
    import scorer_checkpoints as write
    from checkpoints import REAL_SIZE, write_imagereward

    write_imagereward(folder / "imagereward", **REAL_SIZE)
    _write_hub_clip(folder / CLIP, write.VIT_L14, tokenizer, activation="quick_gelu")
    write.write_aesthetic(folder / CLIP, width=write.VIT_L14["embedding"])
    shutil.copytree(folder / CLIP, folder / "apart")


def write_pickscore(folder: Path, tokenizer: Path) -> None:
    import scorer_checkpoints as write

    _write_hub_clip(folder / PICKSCORE, write.VIT_H14, tokenizer, activation="gelu")
    (folder / PICKSCORE_PROCESSOR).mkdir(parents=True)
    for file in (folder / PICKSCORE).iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, folder / PICKSCORE_PROCESSOR)


def write_hps(folder: Path, tokenizer: Path) -> None:
    import scorer_checkpoints as write
    import torch

    tensors = write.clip_state_dict(layout="open_clip", **write.VIT_H14)
    torch.save({"state_dict": {name: tensor.half() for name, tensor in tensors.items()}}, folder / HPS)
    _copy_tokenizer(tokenizer, folder)


def _write_hub_clip(folder: Path, sizes: dict[str, int], tokenizer: Path, activation: str) -> None:
    """A CLIP as the Hub has it, with the configs that transformers reads beside it."""
    import scorer_checkpoints as write

    write.write_clip(folder, layout="hub", **sizes)
    _copy_tokenizer(tokenizer, folder)
    vision, text = ({"hidden_size": sizes[f"{side}_width"], "intermediate_size": 4 * sizes[f"{side}_width"],
                     "num_hidden_layers": sizes[f"{side}_depth"], "hidden_act": activation,
                     "projection_dim": sizes["embedding"]} for side in ("vision", "text"))  # fmt: skip
    vision |= {"patch_size": sizes["patch"], "num_attention_heads": 16}
    text |= {"num_attention_heads": sizes["text_width"] // 64, "bos_token_id": 49406, "eos_token_id": 49407}
    configs = {
        "config.json": {"model_type": "clip", "projection_dim": sizes["embedding"], "vision_config": vision,
                        "text_config": text},
        "preprocessor_config.json": {"image_processor_type": "CLIPImageProcessor", "processor_class": "CLIPProcessor"},
        "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
    }  # fmt: skip
    for name, config in configs.items():
        (folder / name).write_text(json.dumps(config), encoding="utf-8")


def _copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer / name, folder / name)


# -- contestants: each runs in a process of its own, in the folder of the weights ---------------------------------------


def ours(specs: Sequence[str]) -> Load:
    """The sum of what each loads to: scorers, or one mixture of them."""
    mount()
    from sd_imagereward.core import load_scorer, score_images

    def load() -> Score:
        scorers = [load_scorer(spec, device="cpu", dtype="fp32") for spec in specs]
        return lambda images: sum(score_images(scorer, images, PROMPT).total for scorer in scorers).tolist()

    return load


def imscore_three() -> Load:
    from reference.package import declare_torchvision_operators, load_imscore

    declare_torchvision_operators()
    import torch
    from imscore.aesthetic.model import LAIONAestheticScorer
    from imscore.imreward import model as _imreward  # noqa: F401  (its import is part of what is timed)
    from imscore.preference.model import CLIPScore

    def load() -> Score:
        aesthetic = LAIONAestheticScorer()
        aesthetic.mlp.load_state_dict(torch.load(f"{CLIP}/{AESTHETIC}", weights_only=True))
        clip = CLIPScore(CLIP)
        scale = clip.model.logit_scale.exp()  # ours gives the cosine
        models = [load_imscore(Path("imagereward/ImageReward.pt").resolve()), aesthetic.eval(), clip.eval()]

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                pixels, prompts = _batch(images)
                scores = [model.score(pixels, prompts).flatten() for model in models]
                return (scores[0] + scores[1] + scores[2] / scale).tolist()

        return score

    return load


def imscore_one(module: str, name: str, prepare: Callable[[Any], None] | None = None, checkpoint: str = "") -> Load:
    """A model of imscore, its constructor's weights or, where it would take others from the Hub, those of `checkpoint`."""
    import importlib

    from reference.package import declare_torchvision_operators

    declare_torchvision_operators()
    import torch

    package = importlib.import_module(f"imscore.{module}.model")

    def load() -> Score:
        if prepare is not None:
            prepare(package)
        model = getattr(package, name)()
        if checkpoint:
            model.model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"], strict=False)
        model.eval()

        def score(images: Sequence[Any]) -> list[float]:
            with torch.no_grad():
                return model.score(*_batch(images)).flatten().tolist()

        return score

    return load


def hpsv2() -> Load:
    """The package's `score`, which reads its checkpoint again at each call."""
    from reference.package import declare_torchvision_operators

    declare_torchvision_operators()
    from hpsv2 import img_score

    def load() -> Score:
        _without_download(img_score)
        img_score.initialize_model()
        return lambda images: [float(s) for s in img_score.score(list(images), PROMPT, cp=HPS)]

    return load


def _without_download(package: Any) -> None:
    """Lets open_clip make its ViT-H without weights, which the checkpoint brings; the packages would load LAION's first."""
    make = package.create_model_and_transforms
    package.create_model_and_transforms = lambda name, _pretrained, **options: make(name, pretrained=None, **options)


def _batch(images: Sequence[Any]) -> tuple[Any, list[str]]:
    import torch

    return torch.stack([as_tensor(image) for image in images]), [PROMPT] * len(images)


@dataclass(frozen=True)
class Case:
    """Who scores what. `contestants`: by title; those of ours begin with "ours"."""

    write: Callable[[Path, Path], None]
    contestants: dict[str, Callable[[], Load]]


_THREE = [f"{CLIP}/model.safetensors", f"{CLIP}/{AESTHETIC}", "imagereward/ImageReward.pt"]
_APART = [_THREE[0], f"apart/{AESTHETIC}", _THREE[2]]
CASES = {
    "three": Case(
        write_three,
        {
            "ours, one mixture": partial(ours, [f"mix({', '.join(f'{spec}=1' for spec in _THREE)})"]),
            "ours, three loads": partial(ours, _APART),
            "imscore": imscore_three,
        },
    ),
    "hpsv2.1": Case(
        write_hps,
        {
            "ours": partial(ours, [HPS]),
            "hpsv2": hpsv2,
            "imscore": partial(imscore_one, "hps", "HPSv2", _without_download, HPS),
        },
    ),
    "pickscore": Case(
        write_pickscore,
        {
            "ours": partial(ours, [f"{PICKSCORE}/model.safetensors"]),
            "imscore": partial(imscore_one, "pickscore", "PickScorer"),
        },
    ),
}


# -- the race -----------------------------------------------------------------------------------------------------------


def launch_all(arguments: argparse.Namespace, folder: Path) -> list[Contestant]:
    contestants = []
    for title in CASES[arguments.case].contestants:
        is_ours = title.startswith("ours")
        if not is_ours and (
            title not in arguments.packages or not (arguments.reference_python or arguments.reference_path)
        ):
            continue
        python = sys.executable if is_ours else arguments.reference_python or sys.executable
        command = [python, str(Path(__file__).resolve()), "--case", arguments.case, "--worker", title]
        path = "" if is_ours else arguments.reference_path or ""
        try:
            contestants.append(launch_warm(title, "fp32", command, path, folder))
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr)
    return contestants


def report(case: str, contestants: Sequence[Contestant], count: int) -> str:
    first = contestants[0]
    lines = [
        f"{case}: {count} pictures of {SIDE} x {SIDE} at once, fp32, CPU, {first.start['threads']} threads, torch "
        f"{first.start['torch']}; load average {os.getloadavg()[0]:.1f}.",
        "",
        "| | import s | load s | GB when loaded | GB after scoring | s an image | x | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for c in contestants:
        worst = max(abs(a - b) for a, b in zip(c.scores[count], first.scores[count], strict=True))
        numbers = [f"{c.start[what]:.1f}" for what in ("import", "load")]
        numbers += [f"{memory / 2**30:.1f}" for memory in (c.start["memory"], c.memory)]
        numbers += [f"{c.best(count) / count:.2f}", f"{c.best(count) / first.best(count):.2f}", f"{worst:.1e}"]
        lines.append(f"| {c.name} | " + " | ".join(numbers) + " |")
    spread = max(max(c.seconds[count]) / statistics.median(c.seconds[count]) for c in contestants)
    lines += [
        "",
        f"x: times the first one's seconds. Best of the turns; the slowest took {spread:.1f} times the median.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="three")
    parser.add_argument("--clip-tokenizer", type=Path, help="folder with vocab.json and merges.txt")
    parser.add_argument("--count", type=int, default=8, help="images scored at once")
    parser.add_argument("--repeats", type=int, default=2, help="turns after the one that warms up")
    parser.add_argument(
        "--packages", nargs="*", default=["imscore", "hpsv2"], help="whom of them, where memory is short"
    )
    parser.add_argument("--reference-python", default=os.environ.get("REFERENCE_PYTHON"))
    parser.add_argument("--reference-path", help="a folder of site-packages with imscore and hpsv2 in it")
    parser.add_argument("--weights", type=Path, help="a folder that keeps the random checkpoints for the next run")
    parser.add_argument("--write-only", action="store_true", help="only fill that folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    case = CASES[arguments.case]
    if arguments.worker:
        serve(case.contestants[arguments.worker])
        return
    if arguments.clip_tokenizer is None:
        parser.error("--clip-tokenizer is needed: the packages bring CLIP's whole vocabulary along")
    with contextlib.ExitStack() as stack:
        folder = (arguments.weights or Path(stack.enter_context(tempfile.TemporaryDirectory()))) / arguments.case
        if not folder.is_dir():
            folder.mkdir(parents=True)
            case.write(folder, arguments.clip_tokenizer)
        if arguments.write_only:
            return
        contestants = launch_all(arguments, folder)
        stack.enter_context(closing(contestants))
        race(contestants, [arguments.count], arguments.repeats)
        print(report(arguments.case, contestants, arguments.count))


if __name__ == "__main__":
    main()
