"""The random checkpoints have the published layout and the same bits everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from checkpoints import REAL_SIZE, VOCABULARY, imagereward_state_dict, vocabulary, write_imagereward
from safetensors.torch import load_file


def test_the_bits_never_change():
    digest = hashlib.sha256()
    for name, tensor in imagereward_state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == "fed481106475eafff343416abfb6e93ab8a5ddfb184a2b824151c0207cbc5d8b"


def test_seed_and_size_change_what_they_should():
    one, other = imagereward_state_dict(0), imagereward_state_dict(1, vision_depth=3)
    assert not torch.equal(one["mlp.layers.0.weight"], other["mlp.layers.0.weight"])
    assert len(other) - len(one) == 12
    assert torch.equal(one["mlp.layers.0.weight"], imagereward_state_dict(0, vision_depth=1)["mlp.layers.0.weight"])
    with pytest.raises(ValueError, match="multiple of the head width 64"):
        imagereward_state_dict(text_width=100)


def test_the_vocabulary_is_padded_to_the_checkpoints_embeddings():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    lines = vocabulary(REAL_SIZE["vocab_size"])
    assert len(lines) == 30522
    assert lines[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with pytest.raises(ValueError, match="at least"):
        vocabulary(10)


def test_both_file_formats_hold_the_same(tmp_path: Path):
    pickled = torch.load(write_imagereward(tmp_path, dtype=torch.float16), weights_only=True)
    safe = load_file(write_imagereward(tmp_path, dtype=torch.float16, format="safetensors"))
    assert pickled.keys() == safe.keys()
    assert all(torch.equal(pickled[name], safe[name]) for name in safe)
    assert {t.dtype for t in safe.values()} == {torch.float16, torch.int64}
    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines() == list(VOCABULARY)


@pytest.mark.slow
def test_real_size_counts_as_published():
    tensors = imagereward_state_dict(**REAL_SIZE)
    parameters = sum(t.numel() for name, t in tensors.items() if not name.endswith("position_ids"))
    assert (len(tensors), parameters) == (625, 446_665_953)
