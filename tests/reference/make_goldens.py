"""Makes the committed numbers in tests/goldens by running the `image-reward` package (see package.py for how to install it).

    python tests/reference/make_goldens.py tiny real_size bert_vocabulary   # needs nothing but the package
    python tests/reference/make_goldens.py tokens --data DIR                # and the shared test data (10,000 prompts)

Every file says which versions made it. Numbers may differ in the sixth digit on another processor; the test allows for that.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from checkpoints import REAL_SIZE, write_imagereward  # noqa: E402  (the folder of tests comes onto the path above)
from parity_cases import (  # noqa: E402
    PICTURE,
    PICTURES,
    PROMPT,
    PROMPTS,
    SAMPLES,
    SECOND_PICTURE,
    VOCABULARY,
    code_points,
    digest_ids,
    sha256,
    ten_thousand_prompts,
    written_prompts,
)
from reference.package import load_reference, tokenizer, versions  # noqa: E402

PROMPT_TOKENS = 35
RANKED = ("512 x 512", "black", "checkerboard", "RGBA", "768 x 512")


def resized(model: Any, image: Image.Image) -> np.ndarray:
    """The (224, 224, 3) uint8 pixels that the package turns into a tensor: its preprocessing up to there."""
    for step in model.preprocess.transforms[:3]:  # Resize, CenterCrop, convert to RGB
        image = step(image)
    return np.asarray(image)


def picture_cases(model: Any) -> dict[str, dict[str, Any]]:
    """For each picture the sha256 of its resized pixels and the score, or the error that the package raises."""
    made: dict[str, dict[str, Any]] = {}
    for name, build in PICTURES.items():
        try:
            pixels = resized(model, build())
        except Exception as error:
            made[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        made[name] = {
            "pixels": sha256(pixels),
            "score": model.score(PROMPTS[PROMPT], build()),
        }
    return made


def prompt_cases(model: Any, image: Image.Image) -> dict[str, dict[str, Any]]:
    made = {}
    for name, prompt in PROMPTS.items():
        ids = model.blip.tokenizer(prompt, truncation=True, max_length=PROMPT_TOKENS).input_ids
        made[name] = {"ids": ids, "score": model.score(prompt, image)}
    return made


def gard(model: Any) -> dict[str, Any]:
    """`score_gard` on a batch of two different prompts and pixels given as numbers, with the gradient's norm."""
    generator = np.random.PCG64(np.random.SeedSequence(7))
    raw = (generator.random_raw(2 * 3 * 224 * 224) >> np.uint64(56)).astype(np.float32) / np.float32(64) - np.float32(2)
    pixels = torch.from_numpy(raw.reshape(2, 3, 224, 224)).requires_grad_()
    text = model.blip.tokenizer(
        [PROMPTS["sentence"], PROMPTS["letter"]], padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt"
    )
    with torch.enable_grad():
        scores = model.score_gard(text.input_ids, text.attention_mask, pixels)
        (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    return {
        "shape": list(scores.shape),
        "scores": scores.flatten().tolist(),
        "gradient_norms": gradient.flatten(1).norm(dim=1).tolist(),
    }


def seeded(sizes: dict[str, int]) -> dict[str, Any]:
    """Everything from seed 0: no file is needed to repeat it."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_reference(write_imagereward(folder, **sizes))
    ranks, scores = model.inference_rank(PROMPTS[PROMPT], [PICTURES[name]() for name in RANKED])
    return {
        "seed": 0,
        "sizes": sizes,
        "pictures": picture_cases(model),
        "prompts": {picture: prompt_cases(model, PICTURES[picture]()) for picture in (PICTURE, SECOND_PICTURE)},
        "inference_rank": {"pictures": RANKED, "ranks": ranks, "scores": scores},
        "score_gard": gard(model),
    }


def bert_vocabulary() -> dict[str, Any]:
    """The real vocabulary and pictures, on small towers: what tokens and files do to the score."""
    sizes = {"vocab_size": REAL_SIZE["vocab_size"]}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_imagereward(folder, **sizes)
        (Path(folder) / "vocab.txt").write_bytes(VOCABULARY.read_bytes())
        model = load_reference(checkpoint)
    pictures = {}
    for path in SAMPLES:
        pixels = resized(model, Image.open(path))
        scores = [model.score(prompt, str(path)) for prompt in written_prompts()[:100]]
        pictures[path.name] = {"pixels": sha256(pixels), "scores": scores}
    return {"seed": 0, "sizes": sizes, "pictures": pictures, "prompts": prompt_cases(model, Image.open(SAMPLES[0]))}


def tokens(data: Path) -> dict[str, Any]:
    """One sha256 over the ids of every written prompt, and one over those of every code point in three settings."""
    slow = tokenizer(VOCABULARY)
    return {
        "unicode": unicodedata.unidata_version,
        "written prompts": digest_ids(slow_ids(slow), written_prompts()),
        "ten thousand prompts": digest_ids(slow_ids(slow), ten_thousand_prompts(data)),
        "code points": {block: digest_ids(slow_ids(slow), texts) for block, texts in code_points()},
    }


def slow_ids(slow: Any) -> Callable[[str], list[int]]:
    return lambda text: list(slow.convert_tokens_to_ids(slow.tokenize(text)))


def as_text(golden: dict[str, Any]) -> str:
    """JSON with a line for each case, lists of numbers on one."""
    text = json.dumps(golden, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="+", choices=("tiny", "real_size", "bert_vocabulary", "tokens"))
    parser.add_argument("--data", type=Path, default=TESTS.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=TESTS / "goldens")
    arguments = parser.parse_args()
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "tiny": lambda: seeded({}),
        "real_size": lambda: seeded(REAL_SIZE),
        "bert_vocabulary": bert_vocabulary,
        "tokens": lambda: tokens(arguments.data),
    }
    torch.set_grad_enabled(False)
    for which in arguments.which:
        golden = {"made_by": "tests/reference/make_goldens.py", "versions": versions(), **makers[which]()}
        (arguments.out / f"{which}.json").write_text(as_text(golden), encoding="utf-8")
        print(f"wrote {which}.json", file=sys.stderr)


if __name__ == "__main__":
    main()
