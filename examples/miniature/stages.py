"""The chain, stage by stage: what is trained from nothing, then the project's own commands, then what came of it.

A stage that has ended leaves `<stage>.done` in the folder of its seed, with its seconds; the next run begins after it.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from . import pretraining
from .comparisons import write_rankings
from .drawing import GUIDANCE, IDS, STEPS, Artist
from .world import CAPTIONS, SIDE, Split, truth

RANK, UPDATES, RATE = 16, 100, 3e-4
ARTISTS = ("untuned", "half", "tuned", "full")


@dataclass(frozen=True)
class Size:
    """How much of everything; the default is what the claims rest on."""

    paintings: int = 6000
    vae_steps: int = 2400
    unet_steps: int = 2500
    blip_steps: int = 1500
    clip_steps: int = 800
    rankings: int = 7  # of four pictures, for each training caption
    test_rankings: int = 8  # for each test caption
    epochs: int = 8
    updates: int = UPDATES
    noises: int = 12  # of each test caption
    evaluation_images: int = 32


SMALL = Size(300, 6, 6, 6, 6, 1, 1, 1, 2, 2, 4)


@dataclass
class Workshop:
    """The folder of one seed. The VAE is the same for all seeds: it neither knows captions nor is it tuned."""

    root: Path
    seed: int
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        self.folder = self.root / f"seed-{self.seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.split = Split.of(self.seed)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def say(self, text: str) -> None:
        print(f"[seed {self.seed}] {text}", flush=True)

    @property
    def vae(self) -> Path:
        return self.root / "vae"

    @property
    def model(self) -> Path:
        return self / "model"

    @property
    def reward(self) -> Path:
        return self / "reward" / "ImageReward.safetensors"

    @property
    def scorers(self) -> dict[str, str]:
        """What `--scorer` takes, by the name it has on the page."""
        return {
            "trained": str(self.reward),
            "head only": str(self / "head" / "ImageReward.safetensors"),
            "BLIP": str(self / "blip" / "blip.safetensors"),
            "CLIP": str(self / "clip" / "model.safetensors"),
            "technical": "technical",
        }

    def command(self, *arguments: object, partial: bool = False) -> str:
        """Run `imagereward`; its output. partial: exit code 1, "done in part", is no failure."""
        words = [sys.executable, "-m", f"{__package__.split('.')[0]}.core.cli", *map(str, arguments)]
        with open(self / "commands.log", "a", encoding="utf-8") as log:
            log.write(f"$ imagereward {' '.join(map(str, arguments))}\n")
            log.flush()
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8", check=False)
            log.write(done.stdout)
        if done.returncode > partial:
            raise SystemExit(f"imagereward {arguments[0]} failed ({done.returncode}); see {self / 'commands.log'}")
        return done.stdout


# -- from nothing --------------------------------------------------------------------------------------------------


def pretrain_vae(shop: Workshop) -> None:
    if not (shop.vae / "config.json").exists():
        paintings = pretraining.paint(Split.of(0).train, shop.size.paintings, 0.9, 0)
        pretraining.train_vae(paintings, shop.size.vae_steps, 0, shop.say).save_pretrained(shop.vae)


def pretrain_model(shop: Workshop) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(shop.vae).eval().requires_grad_(False)
    paintings = pretraining.paint(shop.split.train, shop.size.paintings, 0.4, shop.seed)
    made = pretraining.train_generator(vae, shop / "clip", paintings, shop.size.unet_steps, shop.seed, shop.say)
    made.save_pretrained(shop.model)


def pretrain_scorers(shop: Workshop) -> None:
    paintings = pretraining.paint(shop.split.train, shop.size.paintings, 0.5, shop.seed)
    for name, train, steps in (
        ("blip", pretraining.train_blip, shop.size.blip_steps),
        ("clip", pretraining.train_clip, shop.size.clip_steps),
    ):
        folder = shop / name
        folder.mkdir(exist_ok=True)
        train(paintings, folder, steps, shop.seed, shop.say)


# -- the reward model ----------------------------------------------------------------------------------------------


def compare(shop: Workshop) -> None:
    """Rankings for training, for validation and for the test; no caption is in two of them."""
    for part, captions, each in (
        ("train", shop.split.train, shop.size.rankings),
        ("valid", shop.split.valid, shop.size.test_rankings),
        ("test", shop.split.test, shop.size.test_rankings),
    ):
        write_rankings(shop / "rankings" / part, captions, each, shop.model, shop.seed)


def train_reward(shop: Workshop) -> None:
    common = [*_data(shop, "train"), "--valid", shop / "rankings" / "valid" / "rankings.json"]
    common += ["--base", shop / "blip" / "blip.safetensors", "--device", "cpu", "--seed", shop.seed]
    recipe = ["--frozen", 0, "--lr", 5e-4, "--epochs", shop.size.epochs, "--batch-size", 64, "--per-device", 64]
    shop.command("train-reward", *common, "--output", shop / "reward", *recipe, "--warmup", 0.05, partial=True)
    shop.command("train-reward", *common, "--output", shop / "head", "--head-only", "--lr", 1e-3, partial=True)


def _data(shop: Workshop, part: str) -> list[object]:
    return ["--data", shop / "rankings" / part / "rankings.json", "--images", shop / "rankings"]


def evaluate(shop: Workshop) -> None:
    """The project's own table of agreement; then every score, for intervals between scorers."""
    scorers = ",".join(shop.scorers.values())
    shop.command(
        "evaluate", *_data(shop, "test"), "--scorers", scorers, "--output", shop / "evaluation", "--device", "cpu"
    )
    for name, scorer in shop.scorers.items():
        score_folder(shop, shop / "rankings" / "test", scorer, f"test {name}")


def score_folder(shop: Workshop, folder: Path, scorer: str, name: str) -> Path:
    """`imagereward score` over a folder of pictures named by their captions' ids."""
    listing, table = folder / "list.jsonl", shop / "scores" / f"{name.replace(' ', '-')}.csv"
    table.parent.mkdir(exist_ok=True)
    texts = {number: text for text, number in IDS.items()}
    rows = [{"path": str(path), "prompt": texts[path.name[:3]]} for path in sorted(folder.glob("*.png"))]
    listing.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    shop.command("score", listing, "--scorer", scorer, "--format", "csv", "--output", table, "--device", "cpu")
    return table


def read_scores(shop: Workshop, name: str) -> dict[str, float]:
    """Score by file name."""
    with open(shop / "scores" / f"{name.replace(' ', '-')}.csv", encoding="utf-8", newline="") as file:
        return {Path(row["file"]).name: float(row["score"]) for row in csv.DictReader(file)}


# -- ReFL ----------------------------------------------------------------------------------------------------------


def refl_arguments(shop: Workshop, output: Path, **changes: object) -> list[object]:
    """What `imagereward refl` is called with; changes: settings by name."""
    settings: dict[str, object] = {
        "model": shop.model,
        "prompts": shop / "prompts.txt",
        "evaluation_prompts": shop / "evaluation-prompts.txt",
        "reward": shop.reward,
        "held_out": shop / "clip" / "model.safetensors",
        "output": output,
        "width": SIDE,
        "height": SIDE,
        "sampler": "ddim",
        "denoising_steps": STEPS,
        "stop_window": (3 * STEPS // 4, STEPS - 1),
        "lora_rank": RANK,
        "steps": shop.size.updates,
        "batch_size": 8,
        "accumulation": 1,
        "learning_rate": RATE,
        "guidance": GUIDANCE,
        "evaluation_guidance": GUIDANCE,
        "evaluation_images": shop.size.evaluation_images,
        "evaluate_every": max(shop.size.updates // 10, 1),
        "dtype": "float32",
        "gradient_checkpointing": False,
        "device": "cpu",
        "seed": shop.seed,
        "tracker": "none",
        **changes,
    }
    words: list[object] = ["refl"]
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option if value else f'no-{option}'}")
        else:
            words += [f"--{option}", *(value if isinstance(value, tuple) else (value,))]
    return words


def tune(shop: Workshop) -> None:
    _write_prompts(shop)
    shop.command(*refl_arguments(shop, shop / "lora"), partial=True)
    shop.command(*refl_arguments(shop, shop / "full", tune="full", learning_rate=RATE / 10), partial=True)


def _write_prompts(shop: Workshop) -> None:
    (shop / "prompts.txt").write_text("\n".join(shop.split.train) + "\n", encoding="utf-8")
    (shop / "evaluation-prompts.txt").write_text("\n".join(shop.split.valid) + "\n", encoding="utf-8")


def artists(shop: Workshop) -> dict[str, Artist]:
    lora = shop / "lora" / "lora.safetensors"
    return {
        "untuned": Artist(shop.model),
        "half": Artist(shop.model, lora, 0.5),
        "tuned": Artist(shop.model, lora),
        "full": Artist(shop / "full" / "pipeline"),
    }


def draw(shop: Workshop) -> None:
    for name, artist in artists(shop).items():
        artist.draw_into(shop / "drawings" / name, shop.split.test, range(shop.size.noises))
        score_folder(shop, shop / "drawings" / name, str(shop.reward), f"drawings {name}")


def rank(shop: Workshop) -> None:
    """`benchmark` over the drawings, and the best of all with `curate`, as somebody with a full folder would."""
    prompts = [{"id": IDS[text], "prompt": text} for text in shop.split.test]
    (shop / "test-prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    pattern = str(shop / "drawings" / "<model>" / "<id>_<n>.png")
    common = ["--scorers", shop.reward, "--device", "cpu"]
    shop.command(
        "benchmark",
        "--prompts",
        shop / "test-prompts.json",
        "--images",
        pattern,
        "--output",
        shop / "benchmark",
        *common,
    )
    tuned = shop / "drawings" / "tuned"
    for path in tuned.glob("*.png"):
        path.with_suffix(".txt").write_text(list(CAPTIONS)[int(path.name[:3])], encoding="utf-8")
    shop.command("curate", tuned, "--scorer", shop.reward, "--copy-best", 16, shop / "best", "--device", "cpu")
    shop.command("report", tuned, "--output", shop / "drawings.html")


# -- what came of it -----------------------------------------------------------------------------------------------


def truths(folder: Path) -> dict[str, float]:
    """True preference by file name; kept beside the pictures, so that nothing is read twice."""
    kept = folder / "truth.json"
    if not kept.exists():
        texts = list(CAPTIONS)
        values = {
            path.name: truth(np.asarray(Image.open(path)), texts[int(path.name[:3])])
            for path in sorted(folder.glob("*.png"))
        }
        kept.write_text(json.dumps(values), encoding="utf-8")
    return dict(json.loads(kept.read_text(encoding="utf-8")))


Stage = Callable[[Workshop], None]
STAGES: dict[str, Stage] = {
    "vae": pretrain_vae,
    "scorers": pretrain_scorers,
    "model": pretrain_model,
    "rankings": compare,
    "reward": train_reward,
    "evaluate": evaluate,
    "tune": tune,
    "draw": draw,
    "rank": rank,
}


def run(shop: Workshop, stages: Mapping[str, Stage]) -> None:
    for name, stage in stages.items():
        mark = shop / f"{name}.done"
        if mark.exists():
            continue
        shop.say(f"{name} ...")
        began = time.perf_counter()
        stage(shop)
        mark.write_text(f"{time.perf_counter() - began:.1f}\n", encoding="utf-8")
        shop.say(f"{name}: {time.perf_counter() - began:.0f} s")


def seconds(shop: Workshop) -> dict[str, float]:
    """Seconds by stage, of those that have ended."""
    marks = sorted(shop.folder.glob("*.done"), key=lambda mark: mark.stat().st_mtime)
    return {mark.stem: float(mark.read_text(encoding="utf-8")) for mark in marks}
