"""Similar prompts out of a library, for a topic: what people asked for, and what it earned.

A topic and prompts are compared by the cosine of their text embeddings, as ImageReward's authors chose the prompts of
their data (Xu et al. 2023, arXiv 2304.05977, section 2.1, who used them to spread prompts apart).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageRewardError
from .embedders import BATCH, Embedder
from .entries import Entry, distinct, read_library
from .exact_search import ExactSearch
from .faiss_search import FaissSearch, find_cells, load_faiss
from .kept_index import Kept, digests_of, keep, keep_cells, read_cells, read_kept

OnProgress = Callable[[int, int], None]
SEARCHES = ("exact", "faiss")
PROBE = "a probe by which an index knows its embedder"
DISTINCT = 0.97  # prompts nearer to each other than that say the same


class Suggestion(NamedTuple):
    """A prompt of the library, its cosine with the topic, and its reward (NaN if not known)."""

    text: str
    similarity: float
    reward: float


class PromptLibrary:
    """Prompts that can be searched by meaning.

    The vectors of a file are kept beside it, as `<file>.<embedder>.index.safetensors`, and used again while the prompts stay
    the same; of a changed library only what is new is embedded.

    Args:
        source: a file (see `read_library`), or entries or texts at hand.
        embedder: see `load_embedder`.
        search: "exact", or "faiss" for more than a million prompts, which looks at some of them and may miss a neighbour.
        on_progress: called with (done, total) prompts while they are embedded.

    Raises:
        ImageRewardError: the library holds no prompts or cannot be read, or there is no such search.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[Entry | str],
        embedder: Embedder,
        *,
        search: str = "exact",
        on_progress: OnProgress | None = None,
    ) -> None:
        if search not in SEARCHES:
            raise ImageRewardError(f"expected a search of {', '.join(SEARCHES)}, got {search!r}")
        if search == "faiss":
            load_faiss()  # before a million prompts are embedded
        path = Path(source) if isinstance(source, (str, os.PathLike)) else None
        self.embedder = embedder
        if path is not None:
            self.entries = read_library(path)
        else:
            given: Sequence[Entry | str] = source  # type: ignore[assignment]
            self.entries = distinct(entry if isinstance(entry, Entry) else Entry(entry) for entry in given)
        if not self.entries:
            raise ImageRewardError("the library holds no prompts")
        self.rewards = torch.tensor([entry.reward for entry in self.entries])
        texts = [entry.text for entry in self.entries]
        file = None if path is None else index_file(path, embedder)
        exact = _index(texts, embedder, file, on_progress)
        self.index = exact if search == "exact" else _in_cells(exact, texts, file)

    def __len__(self) -> int:
        return len(self.entries)

    def suggest(
        self, topics: Sequence[str], n: int = 5, *, min_reward: float | None = None, distinct: float = DISTINCT
    ) -> list[list[Suggestion]]:
        """The most similar prompts for each topic.

        Args:
            topics: N texts.
            n: suggestions a topic; fewer if the library has no more.
            min_reward: only prompts whose known reward is at least that.
            distinct: a prompt with a higher cosine than this to one that is suggested already is passed over; 1 allows all.

        Returns:
            N lists, each with the best suggestion first.

        Raises:
            ImageRewardError: `n` is less than 1.
            TypeError: `topics` is a single text.
        """
        if isinstance(topics, str):
            raise TypeError("expected a sequence of topics; for a single one, suggest([topic])")
        if n < 1:
            raise ImageRewardError(f"expected at least 1 suggestion a topic, got {n}")
        allowed = None if min_reward is None else self.rewards >= min_reward  # NaN never is
        return [self._suggest(query, n, allowed, distinct) for query in self.embedder.unit(list(topics))]

    def _suggest(self, query: Tensor, n: int, allowed: Tensor | None, distinct: float) -> list[Suggestion]:
        count = 4 * n
        while True:
            found = self.index.nearest(query, count, allowed)
            chosen = _apart(self.index.vectors[found.positions], n, distinct)
            if len(chosen) == n or len(found.positions) < count:
                break
            count *= 4
        positions, products = found.positions.tolist(), found.products.tolist()
        return [
            Suggestion(self.entries[positions[i]].text, products[i], self.entries[positions[i]].reward) for i in chosen
        ]


def index_file(library: Path, embedder: Embedder) -> Path:
    """Where the vectors of a library are kept."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in embedder.name)
    return library.with_name(f"{library.name}.{name}.index.safetensors")


def _apart(vectors: Tensor, n: int, distinct: float) -> list[int]:
    """Rows in order, without those too near to one that was taken before; at most `n`."""
    chosen: list[int] = []
    for i in range(len(vectors)):
        if len(chosen) == n:
            break
        if not chosen or float((vectors[chosen] @ vectors[i]).max()) <= distinct:
            chosen.append(i)
    return chosen


def _index(texts: Sequence[str], embedder: Embedder, path: Path | None, on_progress: OnProgress | None) -> ExactSearch:
    """The vectors of these texts: from the file if it is theirs, else computed, and kept there if that can be."""
    probe = None if path is None else embedder.unit([PROBE])[0]
    before = None if path is None or probe is None else read_kept(path, probe)
    digests = digests_of(texts)
    if before is not None and np.array_equal(before.digests, digests):
        return ExactSearch(before.vectors)
    vectors = _vectors(texts, digests, embedder, before, on_progress)
    if path is not None and probe is not None:
        keep(Kept(vectors, digests), path, probe)
    return ExactSearch(vectors)


def _in_cells(exact: ExactSearch, texts: Sequence[str], file: Path | None) -> FaissSearch:
    """The same vectors with the cells that were kept beside the index, or with new ones, kept if that can be."""
    kept = None if file is None else file.with_name(file.name.replace(".index.", ".cells."))
    digests = digests_of(texts)
    cells = None if kept is None else read_cells(kept, digests, exact.vectors.shape[1])
    if cells is None:
        cells = find_cells(exact.vectors)
        if kept is not None:
            keep_cells(cells, kept, digests)
    return FaissSearch.of(exact, cells=cells)


def _vectors(
    texts: Sequence[str],
    digests: np.ndarray,
    embedder: Embedder,
    before: Kept | None,
    on_progress: OnProgress | None,
) -> Tensor:
    """(N, D) unit vectors; those of texts that an earlier index had are taken from there."""
    known = {} if before is None else {row.tobytes(): i for i, row in enumerate(before.digests)}
    places = [known.get(row.tobytes(), -1) for row in digests]
    new = [i for i, place in enumerate(places) if place < 0]
    computed: list[Tensor] = []
    for start in range(0, len(new), BATCH):
        computed.append(embedder.unit([texts[i] for i in new[start : start + BATCH]]))
        if on_progress is not None:
            on_progress(min(start + BATCH, len(new)), len(new))
    if before is None:
        return torch.cat(computed)
    old = [i for i, place in enumerate(places) if place >= 0]
    vectors = torch.empty(len(texts), before.vectors.shape[1])
    vectors[old] = before.vectors[torch.tensor([places[i] for i in old], dtype=torch.int64)]
    if computed:
        vectors[new] = torch.cat(computed)
    return vectors
