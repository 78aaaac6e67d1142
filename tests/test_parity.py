"""Our scores against the reference's, whose numbers `tests/reference/make_goldens.py` committed to `tests/goldens`.

The tiny and the real-size checkpoints are rebuilt from a seed, the pictures from code: neither needs a download.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import imagereward_state_dict, write_imagereward
from parity_cases import (
    DEVIATIONS,
    PICTURE,
    PICTURES,
    PROMPT,
    PROMPTS,
    SAMPLES,
    SECOND_PICTURE,
    VOCABULARY,
    code_points,
    digest_ids,
    noise,
    sha256,
    written_prompts,
)
from PIL import Image
from safetensors.torch import save_file
from sd_imagereward.core.networks.wordpiece import WordPiece
from sd_imagereward.core.pictures.pixels import to_pixels
from sd_imagereward.core.pictures.resize import resize_crop
from sd_imagereward.core.scorers.base import Scorer
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

GOLDENS = Path(__file__).parent / "goldens"
EXACT = 5e-5  # fp32, any processor
HALF = 0.02  # weights held in float16

SIZES = ("tiny", pytest.param("real_size", marks=pytest.mark.slow))
# At the real size a picture takes two seconds. Which bytes the network sees of each is tested apart, and each is scored
# by the tiny network; these stand for them.
AT_REAL_SIZE = ("512 x 512", "RGBA", "L", "40 x 3000", "checkerboard", "black")


# Its last character is assigned since Unicode 14 (Python 3.11). Before, the reference takes it for a control character too.
TOO_NEW = {"chinese, extension B"} if int(unicodedata.unidata_version.split(".")[0]) < 14 else set()
KNOWN_PROMPTS = [name for name in PROMPTS if name not in TOO_NEW]


def golden(name: str) -> dict[str, Any]:
    """The numbers of a file, without the prompts that this Python's Unicode does not know."""
    return _known(json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8")))


def _known(numbers: Any) -> Any:
    if not isinstance(numbers, dict):
        return numbers
    return {name: _known(value) for name, value in numbers.items() if name not in TOO_NEW}


def rebuilt(folder: Path, sizes: dict[str, int], vocabulary: Path | None = None, **options: Any) -> Scorer:
    checkpoint = write_imagereward(folder, **sizes)
    if vocabulary is not None:
        (folder / "vocab.txt").write_bytes(vocabulary.read_bytes())
    return load_scorer(checkpoint, device="cpu", dtype="fp32", **options)


@pytest.fixture(scope="module", params=SIZES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """(golden, the checkpoint that its numbers are of)."""
    numbers = golden(request.param)
    return numbers, write_imagereward(tmp_path_factory.mktemp(request.param), **numbers["sizes"])


@pytest.fixture(scope="module")
def case(checkpoint: tuple[dict[str, Any], Path]) -> Any:
    """(golden, our scorer on the same checkpoint)."""
    numbers, path = checkpoint
    scorer = load_scorer(path, device="cpu", dtype="fp32")
    yield numbers, scorer
    scorer.unload()


def within(ours: torch.Tensor, theirs: list[float], names: list[str], limit: float) -> None:
    """Asserts on all cases at once, and names those that are off."""
    difference = (ours.double() - torch.tensor(theirs, dtype=torch.float64)).abs()
    off = {name: d for name, d in zip(names, difference.tolist(), strict=True) if not d <= limit}
    assert not off, f"{len(off)} of {len(names)} differ by more than {limit}: {off}"


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PICTURES if name not in DEVIATIONS])
def test_the_network_sees_the_same_bytes(name: str):
    expected = golden("tiny")["pictures"][name]
    pixels = resize_crop(to_pixels(PICTURES[name](), 224)[None], 224)[0]
    assert pixels.shape == (3, 224, 224)
    if "pixels" in expected:
        assert sha256(pixels.permute(1, 2, 0).numpy()) == expected["pixels"]
    else:  # the reference refuses this mode; we give it the meaning that Pillow's documentation does
        assert expected["error"].startswith("ValueError")


@pytest.mark.parametrize("name", ["I;16", "I, 16 bits"])
def test_sixteen_bits_are_scaled_where_the_reference_saturates(name: str):
    """The picture was made as 257 times its 8-bit version: it must look like that one."""
    eight = Image.fromarray(noise(name, 270, 331, 1)[..., 0])
    assert torch.equal(to_pixels(PICTURES[name](), 224), to_pixels(eight, 224))


@pytest.mark.parametrize("name", ["PA", "PA, enlarged"])
def test_a_palette_with_alpha_is_more_than_black(name: str):
    """Pillow loses the palette when it resizes mode PA, so the reference scores a black picture."""
    assert golden("tiny")["pictures"][name]["score"] == golden("tiny")["pictures"]["black"]["score"]
    assert to_pixels(PICTURES[name](), 224).float().std() > 10


def test_every_picture_scores_the_same(case: Any):
    numbers, scorer = case
    names = [name for name, row in numbers["pictures"].items() if "score" in row and name not in DEVIATIONS]
    names = names if numbers == golden("tiny") else list(AT_REAL_SIZE)
    ours = score_images(scorer, [PICTURES[name]() for name in names], PROMPTS[PROMPT]).total
    within(ours, [numbers["pictures"][name]["score"] for name in names], names, EXACT)


def test_pictures_of_other_modes_score_sanely(tmp_path: Path):
    numbers = golden("tiny")
    scorer = rebuilt(tmp_path, numbers["sizes"])
    names = [name for name, row in numbers["pictures"].items() if "error" in row or name in DEVIATIONS]
    assert torch.isfinite(score_images(scorer, [PICTURES[name]() for name in names], PROMPTS[PROMPT]).total).all()


# -- prompts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [PICTURE, SECOND_PICTURE])
def test_every_prompt_scores_the_same(case: Any, picture: str):
    numbers, scorer = case
    rows = numbers["prompts"][picture]
    ours = score_images(
        scorer, [PICTURES[picture]()] * len(rows), [PROMPTS[name] for name in rows], batch_size=64
    ).total
    within(ours, [row["score"] for row in rows.values()], list(rows), EXACT)


@pytest.mark.parametrize("name", KNOWN_PROMPTS)
def test_tokens_of_the_tiny_vocabulary(name: str, tmp_path: Path):
    tokenizer = WordPiece(write_imagereward(tmp_path).parent / "vocab.txt")
    expected = golden("tiny")["prompts"][PICTURE][name]["ids"]
    assert [tokenizer.first, *tokenizer.encode(PROMPTS[name]).ids[:33], tokenizer.last] == expected


@pytest.mark.parametrize("name", KNOWN_PROMPTS)
def test_tokens_of_berts_vocabulary(name: str):
    tokenizer = WordPiece(VOCABULARY)
    expected = golden("bert_vocabulary")["prompts"][name]["ids"]
    assert [tokenizer.first, *tokenizer.encode(PROMPTS[name]).ids[:33], tokenizer.last] == expected


def test_tokens_of_written_prompts():
    tokenizer = WordPiece(VOCABULARY)
    assert digest_ids(lambda text: tokenizer.encode(text).ids, written_prompts()) == golden("tokens")["written prompts"]


def test_tokens_of_every_code_point():
    """131,072 code points, each inside a word and alone."""
    expected = golden("tokens")
    if unicodedata.unidata_version != expected["unicode"]:
        pytest.skip(f"this Python knows Unicode {unicodedata.unidata_version}, the golden {expected['unicode']}")
    tokenizer = WordPiece(VOCABULARY)
    found = {block: digest_ids(lambda text: tokenizer.encode(text).ids, texts) for block, texts in code_points()}
    assert found == expected["code points"]


def test_berts_vocabulary_and_real_pictures(tmp_path: Path):
    numbers = golden("bert_vocabulary")
    scorer = rebuilt(tmp_path, numbers["sizes"], VOCABULARY)
    prompts = written_prompts()[:100]
    for path in SAMPLES:
        ours = score_images(scorer, [path] * len(prompts), prompts, batch_size=64).total
        expected = numbers["pictures"][path.name]["scores"]
        within(ours, expected, [f"{path.name}: {prompt}" for prompt in prompts], EXACT)
    rows = numbers["prompts"]
    ours = score_images(scorer, [SAMPLES[0]] * len(rows), [PROMPTS[name] for name in rows]).total
    within(ours, [row["score"] for row in rows.values()], list(rows), EXACT)


# -- the package's own functions ---------------------------------------------------------------------------------------


def test_inference_rank_and_score_gard(checkpoint: tuple[dict[str, Any], Path]):
    import sd_imagereward

    numbers, path = checkpoint
    model = sd_imagereward.load(str(path), device="cpu")
    expected = numbers["inference_rank"]
    ranks, scores = model.inference_rank(PROMPTS[PROMPT], [PICTURES[name]() for name in expected["pictures"]])
    assert ranks == expected["ranks"]
    within(torch.tensor(scores), expected["scores"], expected["pictures"], EXACT)

    rows = numbers["prompts"][PICTURE]
    ids = torch.zeros(2, 35, dtype=torch.long)
    mask = torch.zeros(2, 35, dtype=torch.long)
    for i, name in enumerate(("sentence", "letter")):
        tokens = rows[name]["ids"]
        ids[i, : len(tokens)], mask[i, : len(tokens)] = torch.tensor(tokens), 1
    stream = np.random.PCG64(np.random.SeedSequence(7)).random_raw(2 * 3 * 224 * 224)
    raw = (stream >> np.uint64(56)).astype(np.float32) / np.float32(64) - np.float32(2)
    pixels = torch.from_numpy(raw.reshape(2, 3, 224, 224)).requires_grad_()
    rewards = model.score_gard(ids, mask, pixels)
    expected = numbers["score_gard"]
    assert list(rewards.shape) == expected["shape"]
    within(rewards.detach().flatten(), expected["scores"], ["sentence", "letter"], EXACT)
    (gradient,) = torch.autograd.grad(rewards.sum(), pixels)
    for norm, wanted in zip(gradient.flatten(1).norm(dim=1).tolist(), expected["gradient_norms"], strict=True):
        assert math.isclose(norm, wanted, rel_tol=1e-3)


# -- half precision ----------------------------------------------------------------------------------------------------


def test_weights_in_half_precision(checkpoint: tuple[dict[str, Any], Path], tmp_path: Path):
    """A float16 checkpoint read as fp32, as `imagereward convert` makes it."""
    numbers, whole = checkpoint
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in torch.load(whole, weights_only=True).items()
    }
    save_file(half, tmp_path / "ImageReward.safetensors")
    (tmp_path / "vocab.txt").write_bytes((whole.parent / "vocab.txt").read_bytes())
    scorer = load_scorer(tmp_path / "ImageReward.safetensors", device="cpu", dtype="fp32")
    rows = numbers["prompts"][PICTURE]
    ours = score_images(
        scorer, [PICTURES[PICTURE]()] * len(rows), [PROMPTS[name] for name in rows], batch_size=64
    ).total
    within(ours, [row["score"] for row in rows.values()], list(rows), HALF)
    pictures = ["RGB", "L", "40 x 3000", "checkerboard"]
    ours = score_images(scorer, [PICTURES[name]() for name in pictures], PROMPTS[PROMPT]).total
    within(ours, [numbers["pictures"][name]["score"] for name in pictures], pictures, HALF)
    scorer.unload()


def test_the_goldens_are_of_this_checkpoint():
    """A change to checkpoints.py would make every number above meaningless."""
    digest = hashlib.sha256()
    for name, tensor in imagereward_state_dict(golden("tiny")["seed"]).items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == "fed481106475eafff343416abfb6e93ab8a5ddfb184a2b824151c0207cbc5d8b"
