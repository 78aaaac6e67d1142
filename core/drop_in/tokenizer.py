"""BLIP's tokenizer with the face that users of transformers' `BertTokenizer` know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.wordpiece import WordPiece
from ..weights.catalogue import BERT_VOCABULARY
from ..weights.download import companion

_PADDINGS = {True: "longest", False: "do_not_pad", None: "do_not_pad"}
# What transformers takes away before and within English punctuation when it writes tokens as text.
_TIDIED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
           (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip


class Tokens(dict[str, Any]):
    """`input_ids`, `token_type_ids` and `attention_mask`, as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Tokens has no attribute {name!r}; it has {', '.join(self)}") from None

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> Tokens:
        """The same with every tensor on `device`."""
        return Tokens(
            {key: v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v for key, v in self.items()}
        )


class Tokenizer:
    """bert-base-uncased with BLIP's [DEC] and [ENC], as the reference's `init_tokenizer` makes it.

    beside: the checkpoint or configuration beside which `vocab.txt` may lie; it is read, or downloaded, at the first use.
    """

    model_max_length = 512
    padding_side = truncation_side = "right"
    unk_token, sep_token, pad_token, cls_token, mask_token = "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"
    bos_token = "[DEC]"
    enc_token = "[ENC]"
    additional_special_tokens = (enc_token,)
    all_special_tokens = (bos_token, unk_token, sep_token, pad_token, cls_token, mask_token, enc_token)
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")

    def __init__(self, beside: Path | None = None) -> None:
        self.beside = beside

    @cached_property
    def words(self) -> WordPiece:
        return WordPiece(companion(BERT_VOCABULARY, self.beside, also=("vocab.txt",)))

    @cached_property
    def _tokens(self) -> dict[int, str]:
        return {id: token for token, id in self.words.ids.items()}

    # -- text to ids ---------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool | str | None = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
        return_token_type_ids: bool = True,
        return_attention_mask: bool = True,
    ) -> Tokens:
        """A text -> lists of ids; several texts -> lists of lists; with return_tensors "pt" or "np", arrays (B, L).

        padding: True or "longest", "max_length", or False. truncation: cut at max_length (512 where None is given).
        """
        texts = [text] if isinstance(text, str) else list(text)
        wrong = next((each for each in texts if not isinstance(each, str)), None)
        if wrong is not None or not texts:
            what = "no text" if not texts else type(wrong).__name__
            raise ValueError(f"expected a text or a list of texts to tokenize, got {what}")
        longest = max_length or self.model_max_length
        rows = [self._ids(each, longest if truncation else None, add_special_tokens) for each in texts]
        length = self._padded_length(padding, rows, longest)
        padded = {
            "input_ids": [row + [self.words.pad] * (length - len(row)) for row in rows],
            "token_type_ids": [[0] * max(length, len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (length - len(row)) for row in rows],
        }
        if not return_token_type_ids:
            del padded["token_type_ids"]
        if not return_attention_mask:
            del padded["attention_mask"]
        if return_tensors is None:
            return Tokens({key: value[0] if isinstance(text, str) else value for key, value in padded.items()})
        return Tokens({key: _array(value, return_tensors) for key, value in padded.items()})

    encode_plus = batch_encode_plus = __call__

    def encode(self, text: str, **options: Any) -> Any:
        """The ids of a text, [CLS] and [SEP] included."""
        return self(text, **options).input_ids

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text: "photos" -> ["photo", "##s"]."""
        return self.convert_ids_to_tokens(self.words.encode(text).ids)

    def _ids(self, text: str, longest: int | None, special: bool) -> list[int]:
        ids = self.words.encode(text).ids
        room = None if longest is None else max(0, longest - 2 * special)
        return [self.words.first, *ids[:room], self.words.last] if special else ids[:room]

    def _padded_length(self, padding: bool | str | None, rows: list[list[int]], longest: int) -> int:
        kind = padding if isinstance(padding, str) else _PADDINGS[padding]
        if kind == "max_length":
            return longest
        if kind == "longest":
            return max(map(len, rows))
        if kind == "do_not_pad":
            return 0
        raise ValueError(f"expected a padding of True, False, 'longest', 'max_length' or 'do_not_pad', got {padding!r}")

    # -- ids to text ---------------------------------------------------------------------------------------------

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """A token -> its id, several -> their ids; an unknown one has the id of [UNK]."""
        ids, unknown = self.words.ids, self.unk_token_id
        return ids.get(tokens, unknown) if isinstance(tokens, str) else [ids.get(each, unknown) for each in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """An id -> its token, several (a list or a tensor) -> theirs."""
        if isinstance(ids, int):
            return self._tokens[ids]
        tokens = [self._tokens[int(each)] for each in ids]
        return [token for token in tokens if not (skip_special_tokens and token in self.all_special_tokens)]

    def decode(self, ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = True) -> str:
        """Ids of one text (a list or a tensor) -> the text, in lower case."""
        text = " ".join(self.convert_ids_to_tokens(ids, skip_special_tokens)).replace(" ##", "").strip()
        for found, tidy in _TIDIED if clean_up_tokenization_spaces else ():
            text = text.replace(found, tidy)
        return text

    def batch_decode(self, sequences: Iterable[Any], **options: Any) -> list[str]:
        """Ids of several texts -> the texts."""
        return [self.decode(ids, **options) for ids in sequences]

    # -- the vocabulary ------------------------------------------------------------------------------------------

    def get_vocab(self) -> dict[str, int]:
        """Token -> id."""
        return dict(self.words.ids)

    @property
    def vocab_size(self) -> int:
        """Without [DEC] and [ENC]."""
        return len(self) - 2

    def __len__(self) -> int:
        return self.words.size

    def __bool__(self) -> bool:
        return True  # asking must not read the vocabulary

    @property
    def pad_token_id(self) -> int:
        return self.words.pad

    @property
    def cls_token_id(self) -> int:
        return self.words.first

    @property
    def sep_token_id(self) -> int:
        return self.words.last

    @property
    def unk_token_id(self) -> int:
        return self.words.ids[self.unk_token]

    @property
    def mask_token_id(self) -> int:
        return self.words.ids[self.mask_token]

    @property
    def bos_token_id(self) -> int:
        return self.words.ids[self.bos_token]

    @property
    def enc_token_id(self) -> int:
        return self.words.ids[self.enc_token]

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        return [self.enc_token_id]

    @property
    def all_special_ids(self) -> list[int]:
        return [self.words.ids[token] for token in self.all_special_tokens]


def init_tokenizer() -> Tokenizer:
    """BLIP's tokenizer, as the reference's function of that name."""
    return Tokenizer()


def _array(rows: list[list[int]], kind: str) -> Any:
    if kind not in ("pt", "np"):
        raise ValueError(f"expected return_tensors of 'pt' or 'np', got {kind!r}")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("texts of different lengths make no tensor: tokenize them with padding=True")
    array = torch.tensor(rows, device="cpu")
    return array if kind == "pt" else array.numpy()
