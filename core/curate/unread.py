"""Which pictures of a folder carry scores that its store does not have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import BadImage
from ..pictures.opening import open_header
from ..pictures.scan import scan
from ..scorers.registry import scorer_infos
from ..scoring.written import matching_scores
from .records import Picture, ScorerRecord
from .store import PAGE, Store


@dataclass(frozen=True)
class Unread:
    """What a look at a folder's files found."""

    pictures: int = 0
    titles: tuple[str, ...] = ()  # of the scorers, in the registry's order
    all_seen: bool = True  # False: there was no time for every file


def find_unread(root: Path, store: Store | None, seconds: float) -> Unread:
    """Looks into files that no pass with `trust` has seen (see `score_files`) and writes nothing.

    Args:
        root: the folder.
        store: its store, None where there is none yet.
        seconds: after which the look ends.

    Returns:
        How many pictures carry a score that the store lacks, and of whom.
    """
    deadline = time.monotonic() + seconds
    pictures, names = 0, set[str]()
    for path, picture in _unseen(root, store):
        if time.monotonic() > deadline:
            return Unread(pictures, _titles(names), all_seen=False)
        with suppress(BadImage):
            found = matching_scores(open_header(path)).keys() - _stored(store, picture)
            pictures += bool(found)
            names |= found
    return Unread(pictures, _titles(names))


def _stored(store: Store | None, picture: Picture | None) -> set[str]:
    """Of which scorers the store has a score already."""
    if store is None or picture is None:
        return set()
    infos = scorer_infos().items()
    return {name for name, info in infos if store.has_score(picture.hash, ScorerRecord.of(name, info), picture.prompt)}


def _unseen(root: Path, store: Store | None) -> Iterator[tuple[Path, Picture | None]]:
    """Files that no such pass has seen, and what the store knows of them as they are now."""
    entries = scan(root, tidy=False)
    while chunk := list(islice(entries, PAGE)):
        known = store.known([entry.path for entry in chunk]) if store is not None else {}
        for entry in chunk:
            picture = known.get(entry.path)
            if picture is None or not picture.unchanged(entry):
                yield entry.path, None
            elif not (picture.labels or picture.error):
                yield entry.path, picture


def _titles(names: set[str]) -> tuple[str, ...]:
    return tuple(info.title for name, info in scorer_infos().items() if name in names)
