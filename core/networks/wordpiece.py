"""BERT's WordPiece tokenizer (Devlin et al. 2018, arXiv 1810.04805) as BLIP sets it up: uncased, [DEC] and [ENC] added.

Plain Python, because the `tokenizers` package carries the Unicode tables of its own day (newer marks and
unassigned characters come out differently: with tokenizers 0.13.3 and 0.23.3 a third of 131,072 texts of one code point) and
refuses unpaired surrogates; a prompt is short anyway.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint

_ROLES = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
_ADDED = ("[DEC]", "[ENC]")  # BLIP's `init_tokenizer`; their ids follow the vocabulary's
_SPECIAL = re.compile("(" + "|".join(re.escape(token) for token in (*_ROLES, *_ADDED)) + ")")
_LONGEST_WORD = 100  # characters; a longer one is unknown

# The blocks of CJK ideographs that BERT takes as words of their own.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class Encoded(NamedTuple):
    """One prompt: its ids between [CLS] and [SEP], and where in the text each token ends."""

    ids: list[int]
    ends: list[int]


class _Word(NamedTuple):
    """What is looked up in the vocabulary, and where in the text it stands."""

    text: str
    start: int
    end: int


class WordPiece:
    """Prompt -> token ids, equal to transformers' slow BertTokenizer.from_pretrained("bert-base-uncased")."""

    def __init__(self, vocabulary: Path) -> None:
        try:
            tokens = vocabulary.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UnknownCheckpoint(
                f"expected a WordPiece vocabulary (UTF-8 text, a token a line) at {vocabulary}"
            ) from error
        if tokens[-1] == "":
            tokens.pop()
        ids = {token.rstrip("\r"): i for i, token in enumerate(tokens)}
        missing = [role for role in _ROLES if role not in ids]
        if missing:
            raise UnknownCheckpoint(f"expected a WordPiece vocabulary at {vocabulary}; it lacks {', '.join(missing)}")
        for token in _ADDED:
            ids.setdefault(token, len(ids))
        self.ids = ids  # token -> id
        self.size = len(ids)
        self.pad, self.first, self.last = ids["[PAD]"], ids["[CLS]"], ids["[SEP]"]

    def clean(self, prompt: str) -> str:
        """The prompt as it is: `encode` leaves out what is not read, and its positions refer to the whole."""
        return prompt

    def encode(self, prompt: str) -> Encoded:
        """A prompt of any length, not cut, without [CLS] and [SEP]."""
        encoded = Encoded([], [])
        start = 0
        for part in _SPECIAL.split(prompt):  # text and special tokens in turn
            if _SPECIAL.fullmatch(part):
                encoded.ids.append(self.ids[part])
                encoded.ends.append(start + len(part))
            else:
                for word in _words(part, start):
                    self._add_pieces(word, encoded)
            start += len(part)
        return encoded

    def _add_pieces(self, word: _Word, encoded: Encoded) -> None:
        """The longest piece that the vocabulary knows, then the longest of the rest, or one [UNK] for all of it."""
        pieces: list[int] = []
        ends: list[int] = []
        begin = 0
        while begin < len(word.text) <= _LONGEST_WORD:
            prefix = "##" if begin else ""
            stops = range(len(word.text), begin, -1)
            stop = next((stop for stop in stops if prefix + word.text[begin:stop] in self.ids), 0)
            if not stop:
                pieces.clear()
                break
            pieces.append(self.ids[prefix + word.text[begin:stop]])
            # Accents and controls are gone from the word, so that the middle of one is only about here.
            ends.append(word.end if stop == len(word.text) else min(word.start + stop, word.end))
            begin = stop
        encoded.ids.extend(pieces or [self.ids["[UNK]"]])
        encoded.ends.extend(ends if pieces else [word.end])

    def batch(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        """Ids of prompts -> (B, L) int64 with [CLS] and [SEP], padded to the longest; and the mask, None if none is padded."""
        length = max(map(len, prompts)) + 2
        rows = [[self.first, *ids, self.last] for ids in prompts]
        padded = torch.tensor([row + [self.pad] * (length - len(row)) for row in rows], device="cpu")
        if all(len(row) == length for row in rows):
            return padded, None
        lengths = torch.tensor([len(row) for row in rows], device="cpu")
        return padded, torch.arange(length, device="cpu")[None, :] < lengths[:, None]


def _words(text: str, offset: int) -> Iterator[_Word]:
    """Runs between spaces, without accents, split at punctuation; positions count from `offset`."""
    for run in _runs(text, offset):
        plain = "".join(c for c in unicodedata.normalize("NFD", run.text) if unicodedata.category(c) != "Mn")
        begin = 0
        for i, character in enumerate(plain):
            if _is_punctuation(character):
                if begin < i:
                    yield _part(plain, run, begin, i)
                yield _part(plain, run, i, i + 1)
                begin = i + 1
        if begin < len(plain):
            yield _part(plain, run, begin, len(plain))


def _part(plain: str, run: _Word, begin: int, stop: int) -> _Word:
    end = run.end if stop == len(plain) else min(run.start + stop, run.end)
    return _Word(plain[begin:stop], min(run.start + begin, run.end), end)


def _runs(text: str, offset: int) -> Iterator[_Word]:
    """Lower-cased runs between spaces; controls dropped, ideographs apart.

    Lower case goes character by character: the last sigma of a Greek word stays like any other.
    """
    kept: list[str] = []
    start = offset
    for i, character in enumerate(text, offset):
        if _is_dropped(character):
            continue
        apart = _is_ideograph(character)
        if not (apart or character.isspace()):
            start = start if kept else i
            kept.append(character.lower())
            continue
        if kept:
            yield _Word("".join(kept), start, i)
            kept = []
        if apart:
            yield _Word(character, i, i + 1)
    if kept:
        yield _Word("".join(kept), start, offset + len(text))


def _is_dropped(character: str) -> bool:
    """Controls, formats, unassigned, private and surrogate code points; but tab and line ends are spaces."""
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or unicodedata.category(character).startswith("C")


def _is_ideograph(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in _IDEOGRAPHS)


def _is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and every ASCII character that is neither letter, digit, space nor control ("$", "^")."""
    if character.isascii():
        return 32 < ord(character) < 127 and not character.isalnum()
    return unicodedata.category(character).startswith("P")
