"""ReFL beside its alternatives, each for the same seconds: `python -m sd_imagereward.examples.miniature --alternatives`.

Every row is one run without a guard; its LoRA is drawn at strength 1, with the usual guidance and without any, on test
captions. Diversity is how far apart the drawings of one caption are, as a share of the untuned model's.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from .claims import Values, mean_over_captions, true_values, wins
from .drawing import GUIDANCE, IDS, STEPS, Artist
from .stages import RATE, Workshop, read_scores, refl_arguments, score_folder

BUDGET = 60.0  # seconds of updates a run
NOISES = 4
BEST_OF = 8
LAST = STEPS - 1

VARIANTS: dict[str, dict[str, object]] = {
    "ReFL": {},
    "ReFL, a third of the learning rate": {"learning_rate": RATE / 3},
    "ReFL, three times the learning rate": {"learning_rate": 3 * RATE},
    "ReFL, trained without guidance": {"guidance": 1.0},
    "ReFL, the reference's sampler (ddpm)": {"sampler": "ddpm"},
    "ReFL, with prior loss": {"prior_weight": 1.0},
    "DRaFT-1": {"stop_window": (LAST, LAST)},
    "DRaFT-2": {"stop_window": (LAST, LAST), "gradient_steps": 2},
    "DRaFT-4": {"stop_window": (LAST, LAST), "gradient_steps": 4},
    "fine-tuned on the best of 8": {"pretraining_data": "best-of-8.json", "pretraining_weight": 1.0, "scale": 1e-12},
}


def run_alternatives(shop: Workshop) -> None:
    _draw(shop, Artist(shop.model), "untuned")
    _write_best(shop)
    for name, changes in VARIANTS.items():
        settings = dict(changes)
        if "pretraining_data" in settings:
            settings["pretraining_data"] = shop / str(settings["pretraining_data"])
        output = shop / "alternatives" / _file_name(name)
        trial = output.with_name(f"{output.name}-trial")
        shop.command(*refl_arguments(shop, trial, guard=False, steps=6, **settings))
        steps = max(int(BUDGET / _seconds_an_update(trial)), 1)
        shop.command(*refl_arguments(shop, output, guard=False, steps=steps, **settings))
        _draw(shop, Artist(shop.model, output / f"{output.name}.safetensors"), name)


def _seconds_an_update(run: Path) -> float:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return statistics.median(json.loads(line)["seconds"] for line in lines[1:])


def _write_best(shop: Workshop) -> None:
    """The best of eight drawings of each training caption, by the reward, as captioned images."""
    folder = shop / "training-drawings"
    Artist(shop.model).draw_into(folder, shop.split.train, range(BEST_OF))
    score_folder(shop, folder, str(shop.reward), "training drawings")
    scores = read_scores(shop, "training drawings")
    best = []
    for text in shop.split.train:
        names = [f"{IDS[text]}_{n}.png" for n in range(BEST_OF)]
        best.append({"image": str(folder / max(names, key=scores.__getitem__)), "text": text})
    (shop / "best-of-8.json").write_text(json.dumps(best), encoding="utf-8")


def _draw(shop: Workshop, artist: Artist, name: str) -> None:
    for guidance in (GUIDANCE, 1.0):
        drawer = Artist(artist.model, artist.lora, artist.strength, guidance)
        drawer.draw_into(_folder(shop, name, guidance), shop.split.test, range(NOISES))


def _folder(shop: Workshop, name: str, guidance: float) -> Path:
    return shop / f"drawings-alternatives-{guidance:g}" / _file_name(name)


def _file_name(name: str) -> str:
    return name.replace(",", "").replace("(", "").replace(")", "").replace("'", "").replace(" ", "-")


def table(shop: Workshop) -> tuple[list[str], list[list[str]]]:
    """Header and rows: truth and wins at the usual guidance and without, diversity, updates."""
    header = ["Method", "Truth", "Wins", "Truth, guidance 1", "Wins, guidance 1", "Diversity", "Updates"]
    rows = [["untuned", *_judged(shop, "untuned"), ""]]
    for name in VARIANTS:
        metrics = shop / "alternatives" / _file_name(name) / "metrics.jsonl"
        rows.append([name, *_judged(shop, name), str(len(metrics.read_text(encoding="utf-8").splitlines()))])
    return header, rows


def _judged(shop: Workshop, name: str) -> list[str]:
    cells = []
    for guidance in (GUIDANCE, 1.0):
        folder = f"drawings-alternatives-{guidance:g}"
        untuned, drawn = (true_values(shop, each, folder) for each in ("untuned", _file_name(name)))
        won = wins(drawn, untuned)
        cells.append(f"{mean_over_captions(drawn).value:.2f}")
        cells.append("" if name == "untuned" else f"{100 * won.value:.1f}% [{100 * won.low:.1f}, {100 * won.high:.1f}]")
    spread = _spread(shop, name) / _spread(shop, "untuned")
    return [*cells, f"{spread:.2f}"]


def _spread(shop: Workshop, name: str) -> float:
    """Mean distance (RMS of pixels) between drawings of one caption."""
    folder = _folder(shop, name, GUIDANCE)
    return float(np.mean([_apart(folder, text) for text in shop.split.test]))


def _apart(folder: Path, text: str) -> float:
    drawn: Values = np.stack([np.asarray(Image.open(folder / f"{IDS[text]}_{n}.png")) for n in range(NOISES)]) / 255.0
    pairs = [(a, b) for a in range(NOISES) for b in range(a)]
    return float(np.mean([np.sqrt(((drawn[a] - drawn[b]) ** 2).mean()) for a, b in pairs]))
