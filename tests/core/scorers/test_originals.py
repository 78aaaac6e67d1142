"""The scorers give what their originals give, on small random checkpoints (benchmarks/PARITY.md: at real size)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import scorer_checkpoints as write
import torch
from sd_imagereward.core import load_scorer, score_images

GOLDENS = json.loads((Path(__file__).parents[2] / "goldens" / "scorers.json").read_text())  # by make_scorer_goldens.py


@pytest.mark.parametrize("name", list(GOLDENS["scores"]))
def test_equals_its_original(name: str, tmp_path: Path, shared_data: Path):
    checkpoint = write.write_golden_checkpoint(name, tmp_path)
    for file in (shared_data / "clip-tokenizer").iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    shutil.copyfile(shared_data / "bert-base-uncased-vocab.txt", tmp_path / "vocab.txt")
    expected = torch.tensor(GOLDENS["scores"][name])
    pictures = write.write_golden_pictures(tmp_path)
    scorer = load_scorer(checkpoint, device="cpu", dtype="fp32")
    assert scorer.info.name == name
    for picture, row in zip(pictures, expected, strict=True):
        ours = score_images(scorer, [picture] * len(row), write.GOLDEN_PROMPTS).total
        assert (ours - row).abs().max() < 1e-4
    assert expected.std() > 1e-2  # else equality would say little
