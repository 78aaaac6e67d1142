"""Vocabularies of the captions' few words, in the files that BLIP's and CLIP's tokenizers read."""

from __future__ import annotations

import json
from pathlib import Path

from .world import CAPTIONS

WORDS = sorted({word for text in CAPTIONS for word in text.split()})
CLIP_TOKENS = 77
_ENDS = ("<|startoftext|>", "<|endoftext|>")


def write_wordpiece(folder: Path) -> int:
    """`vocab.txt`; returns how many embeddings a text encoder needs, with [DEC] and [ENC] that BLIP adds."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return len(tokens) + 2


def clip_tokens() -> tuple[dict[str, int], list[str]]:
    """CLIP's vocabulary, by id, and the merges that build each word letter by letter."""
    letters = sorted({letter for word in WORDS for letter in word})
    tokens, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        whole = pieces[0]
        for piece in pieces[1:]:
            if (merge := f"{whole} {piece}") not in merges:
                merges.append(merge)
            whole += piece
            tokens.append(whole)
    return {token: number for number, token in enumerate([*dict.fromkeys(tokens), *_ENDS])}, merges


def write_byte_pairs(folder: Path) -> int:
    """`vocab.json` and `merges.txt`; returns the size of the vocabulary, which ends with the marks of start and end."""
    vocabulary, merges = clip_tokens()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return len(vocabulary)
