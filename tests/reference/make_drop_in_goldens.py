"""Makes tests/goldens/drop_in.json: what the `image-reward` package answers to the calls of its clients, on tiny checkpoints.

    python tests/reference/make_drop_in_goldens.py CLIP_TOKENIZER_FOLDER BERT_VOCABULARY

in the environment that package.py describes.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(Path(__file__).parent)]

from checkpoints import write_imagereward  # noqa: E402
from drop_in_cases import PROMPTS, pictures, pixels  # noqa: E402
from package import declare_torchvision_operators, load_reference, versions  # noqa: E402
from scorer_checkpoints import write_golden_checkpoint, write_golden_pictures  # noqa: E402
from scorers import ORIGINALS  # noqa: E402


def image_reward(folder: Path) -> dict[str, Any]:
    model = load_reference(write_imagereward(folder))
    first, second, third = pictures()
    text = model.blip.tokenizer(
        list(PROMPTS), padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    )
    ids, mask, images = text.input_ids, text.attention_mask, pixels()
    features = model.blip.visual_encoder(images)
    seen = torch.ones(features.shape[:-1], dtype=torch.long)
    partly = seen.clone()
    partly[:, 100:] = 0
    made: dict[str, Any] = {
        "score": model.score(PROMPTS[0], first),
        "score of a list of one": model.score(PROMPTS[0], [first]),
        "score of a list": model.score(PROMPTS[0], [first, second, third]),
        "rank of one": model.inference_rank(PROMPTS[0], [first]),
        "rank of three": model.inference_rank(PROMPTS[0], [first, second, third]),
        "rank of two prompts and three images": model.inference_rank(list(PROMPTS[:2]), [first, second, third]),
        "score_gard": model.score_gard(ids, mask, images).tolist(),
        "score_gard, one text": model.score_gard(ids[:1], mask[:1], images).tolist(),
        "score_gard, one image": model.score_gard(ids, mask, images[:1]).tolist(),
        "longest": dict(model.blip.tokenizer(list(PROMPTS), padding=True)),
        "decoded": model.blip.tokenizer.batch_decode(ids, skip_special_tokens=True),
        "image features": digest(features),
        "hidden states": digest(
            model.blip.text_encoder(
                ids,
                attention_mask=mask,
                encoder_hidden_states=features,
                encoder_attention_mask=seen,
                return_dict=True,
            ).last_hidden_state
        ),
        "hidden states, image in part": digest(
            model.blip.text_encoder(
                ids, attention_mask=mask, encoder_hidden_states=features, encoder_attention_mask=partly
            )[0]
        ),
        "hidden states, text alone": digest(model.blip.text_encoder(ids, attention_mask=mask, mode="text")[0]),
    }
    with torch.enable_grad():
        model.score_gard(ids, mask, images).sum().backward()
    made["gradients"] = {n: digest(p.grad) for n, p in model.named_parameters() if p.grad is not None}
    return made


def digest(tensor: torch.Tensor) -> list[Any]:
    """Shape, norm, and the product with a fixed cosine."""
    flat = tensor.detach().double().flatten()
    wave = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [list(tensor.shape), *(float(f"{value:.8g}") for value in (flat.norm().item(), (flat @ wave).item()))]


def other_score(name: str, folder: Path, tokenizers: list[Path], vocabulary: Path) -> dict[str, Any]:
    """Ranks and rewards of the golden pictures, and of one alone."""
    checkpoint = write_golden_checkpoint(name, folder)
    for file in tokenizers:
        shutil.copyfile(file, folder / file.name)
    shutil.copyfile(vocabulary, folder / "vocab.txt")
    files = [str(path) for path in write_golden_pictures(folder)]
    model = ORIGINALS[name](checkpoint).__self__  # type: ignore[attr-defined] # the bound method of the original
    return {
        "score": model.score(PROMPTS[0], files[0]),
        "score of a list of one": model.score(PROMPTS[0], files[:1]),
        "rank": model.inference_rank(PROMPTS[0], files),
    }


def main(tokenizer: Path, vocabulary: Path) -> None:
    declare_torchvision_operators()
    importlib.import_module("ImageReward")
    made: dict[str, Any] = {"versions": versions()}
    with tempfile.TemporaryDirectory() as name:
        made["ImageReward"] = image_reward(Path(name))
    for title in ("CLIP", "BLIP", "Aesthetic"):
        with tempfile.TemporaryDirectory() as name, torch.no_grad():
            made[title] = other_score(title.lower(), Path(name), list(tokenizer.iterdir()), vocabulary)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), json.dumps(made, indent=1))
    (TESTS / "goldens" / "drop_in.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
