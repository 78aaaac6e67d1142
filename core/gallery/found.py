"""What a search, a threshold and the groups by prompt leave of a ranking, as ranks: a few bytes a picture."""

from __future__ import annotations

import os
from array import array
from functools import cached_property
from itertools import combinations, groupby
from operator import itemgetter
from typing import Any

import numpy as np

from ..curate.ranking import Ranking
from ..curate.records import lora_names, search_text
from .apart import Apart

MOST_IN_GROUP = 9  # as many as there are number keys
_NOBODY = np.iinfo(np.int32).max  # fills the rows of smaller groups


class Found:
    """The pictures of a ranking that hold all words of a search and lie on one side. Looked for once, asked for page after
    page.
    """

    def __init__(self, ranking: Ranking, search: str, side: Apart | None = None) -> None:
        self.ranking, self.asked = ranking, (search, side)
        words = search.lower().split()
        ranks = _with_words(ranking, words) if words else np.arange(1, len(ranking) + 1, dtype=np.int32)
        if side is not None and (side.names or side.inside):
            there = np.fromiter((rank for rank, path in ranking.paths() if side(path)), np.int32)
            ranks = ranks[np.isin(ranks, there, assume_unique=True)]
        self._ranks = ranks

    def passing(self, least: float) -> np.ndarray[Any, np.dtype[np.int32]]:
        """The ranks (N,) of those that score at least so much, best first."""
        return self._ranks[: np.searchsorted(self._ranks, self.ranking.passing(least), side="right")]

    @cached_property
    def groups(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Ranks (G, 9) of the pictures of one prompt, best first, filled with _NOBODY; the group of the best goes first.

        Copies of a picture count once, and a picture alone is no group.
        """
        selected = bytearray(len(self.ranking) + 1)
        for rank in self._ranks:
            selected[rank] = True
        flat = array("i")
        rows = self.ranking.columns("prompt_key, rowid, hash", order="prompt_key, rowid")
        for _, pictures in groupby(rows, key=itemgetter(0)):
            members: dict[bytes, int] = {}
            for _, rank, content in pictures:
                if selected[rank] and len(members) < MOST_IN_GROUP:
                    members.setdefault(content, rank)
            if len(members) > 1:
                flat.extend(members.values())
                flat.extend([_NOBODY] * (MOST_IN_GROUP - len(members)))
        groups = np.array(flat, dtype=np.int32).reshape(-1, MOST_IN_GROUP)
        return groups[np.argsort(groups[:, 0])]


class Groups:
    """The groups that a threshold leaves, or all pairs within them, each as a list of ranks."""

    def __init__(self, found: Found, least: float, *, pairs: bool) -> None:
        sizes = (found.groups <= found.ranking.passing(least)).sum(axis=1)
        kept = sizes > 1
        self._groups, self._sizes, self._pairs = found.groups[kept], sizes[kept], pairs
        self._ends = np.cumsum(self._sizes * (self._sizes - 1) // 2) if pairs else np.arange(1, len(self._sizes) + 1)
        self.total = 2 * len(self) if pairs else int(self._sizes.sum())  # pictures on all pages

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, place: int) -> list[int]:
        group = int(np.searchsorted(self._ends, place, side="right"))
        members = self._groups[group, : self._sizes[group]].tolist()
        if not self._pairs:
            return members
        pairs = list(combinations(members, 2))
        return list(pairs[place - int(self._ends[group])])  # counted from the group's end


def _with_words(ranking: Ranking, words: list[str]) -> np.ndarray[Any, np.dtype[np.int32]]:
    ranks = array("i")
    for rank, path, prompt, model, loras in ranking.columns("rowid, path, prompt, model, loras"):
        text = search_text(os.path.basename(os.fsdecode(path)), prompt, model, lora_names(loras))
        if all(word in text for word in words):
            ranks.append(rank)
    return np.array(ranks, dtype=np.int32)
