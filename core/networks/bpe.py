"""CLIP's byte-pair tokenizer, with the text cleaning of OpenAI's and open_clip's code or of transformers'."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from .wordpiece import Encoded

START, END = "<|startoftext|>", "<|endoftext|>"
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class BytePairs:
    """Prompt -> token ids. `cleaning` is "openai" (CLIP's and open_clip's own code) or "hub" (transformers' fast tokenizer)."""

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], cleaning: str) -> None:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        self._cleaning = cleaning
        model = models.BPE(vocabulary, list(merges), end_of_word_suffix="</w>", unk_token=END)
        self._tokenizer = Tokenizer(model)
        if cleaning == "hub":
            self._tokenizer.normalizer = normalizers.Sequence(
                [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
            )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.add_special_tokens([START, END])
        self.first, self.last = vocabulary[START], vocabulary[END]
        self.size = len(vocabulary)

    @classmethod
    def read(cls, vocabulary: Path, merges: Path, cleaning: str) -> BytePairs:
        """From `vocab.json` and `merges.txt`; either may be a `tokenizer.json`, which holds both."""
        try:
            ids = _model_of(json.loads(vocabulary.read_text(encoding="utf-8"))).get("vocab")
            pairs = _read_merges(merges)
        except (UnicodeDecodeError, ValueError, AttributeError) as error:
            raise UnknownCheckpoint(
                f"expected CLIP's vocabulary and merges at {vocabulary} and {merges}: {error}"
            ) from error
        if not isinstance(ids, dict) or START not in ids or END not in ids or not pairs:
            raise UnknownCheckpoint(f"expected CLIP's vocabulary with {START} and {END} at {vocabulary} and {merges}")
        return cls(ids, pairs, cleaning)

    def clean(self, prompt: str) -> str:
        """The text that is really read, and that `encode`'s positions refer to."""
        return clean_as_openai(prompt) if self._cleaning == "openai" else prompt

    def encode(self, prompt: str) -> Encoded:
        """A cleaned prompt of any length, not cut, without start and end."""
        encoding = self._tokenizer.encode(prompt, add_special_tokens=False)
        return Encoded(encoding.ids, [end for _, end in encoding.offsets])

    def batch(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Ids of prompts -> (B, L) int64 with start and end, filled to the longest with zeros that nobody reads."""
        length = max(map(len, prompts)) + 2
        rows = [[self.first, *ids, self.last] for ids in prompts]
        return torch.tensor([row + [0] * (length - len(row)) for row in rows], device="cpu")


def _model_of(data: Any) -> dict[str, Any]:
    """`{"vocab", "merges"}` of a tokenizer.json; a plain vocab.json is the vocabulary itself."""
    return data["model"] if isinstance(data.get("model"), dict) else {"vocab": data}


def _read_merges(path: Path) -> list[tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        merges = _model_of(json.loads(text)).get("merges", [])
        pairs = [line.split(" ") if isinstance(line, str) else line for line in merges]
    else:
        pairs = [line.split(" ") for line in text.split("\n") if line.strip() and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a merge is not a pair of tokens")
    return [(left, right.rstrip("\r")) for left, right in pairs]


# -- cleaning --------------------------------------------------------------------------------------------------------

_LIGATURES = {0x132: "IJ", 0x133: "ij", 0x149: "ʼn", 0x1C4: "DŽ", 0x1C5: "Dž", 0x1C6: "dž", 0x1C7: "LJ", 0x1C8: "Lj"}
_LIGATURES |= {0x1C9: "lj", 0x1CA: "NJ", 0x1CB: "Nj", 0x1CC: "nj", 0x1F1: "DZ", 0x1F2: "Dz", 0x1F3: "dz"}
_LIGATURES |= {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "ſt", 0xFB06: "st"}
_WIDTHS = {c: unicodedata.normalize("NFKC", chr(c)) for c in (0x3000, *range(0xFF01, 0xFFF0))}
_QUOTES = {**dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'"), **dict.fromkeys(range(0x201C, 0x2020), '"')}
_CONTROLS = dict.fromkeys((*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF))
_CONTROLS |= dict.fromkeys(range(0xFFF9, 0xFFFD))
_TERMINAL_ESCAPE = re.compile("\x1b\\[[\\d;]*[a-zA-Z]")


def clean_as_openai(text: str) -> str:
    """What CLIP's `basic_clean`, `whitespace_clean` and `.lower()` make of a prompt.

    The originals call ftfy.fix_text; here its repairs of typography are made (quotes, ligatures, wide characters, control
    characters, NFC). Its repair of text that was decoded wrongly ("cafÃ©") is not: prompts are typed, not scraped.
    """
    if "<" not in text:
        text = html.unescape(text)
    text = _TERMINAL_ESCAPE.sub("", text)
    for table in (_LIGATURES, _WIDTHS, _QUOTES):
        text = text.translate(table)
    text = unicodedata.normalize("NFC", text.translate(_CONTROLS))
    text = html.unescape(html.unescape(text)).strip()
    return re.sub(r"\s+", " ", text).strip().lower()
