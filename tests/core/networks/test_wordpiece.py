"""BERT's tokens on more prompts than the repository holds; tests/test_parity.py has the cases that it does hold."""

from __future__ import annotations

import json
from pathlib import Path

from parity_cases import VOCABULARY, digest_ids, ten_thousand_prompts
from sd_imagereward.core.networks.wordpiece import WordPiece

GOLDENS = Path(__file__).parents[2] / "goldens" / "tokens.json"  # by tests/reference/make_goldens.py


def test_tokens_of_ten_thousand_written_prompts(shared_data: Path) -> None:
    tokenizer = WordPiece(VOCABULARY)
    found = digest_ids(lambda text: tokenizer.encode(text).ids, ten_thousand_prompts(shared_data))
    assert found == json.loads(GOLDENS.read_text(encoding="utf-8"))["ten thousand prompts"]
