"""What the gallery shows and changes, apart from how it looks. Pictures are named by content, never by path.

Nothing outside the chosen folder is read or written: a picture comes from the store, and its real path must lie below the
folder's; a folder to move to must lie there, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path

from ..curate.actions import Actions, Outcome
from ..curate.moving import Journal
from ..curate.store import Judge, Picture, Store, default_store
from ..errors import ImageRewardError
from ..metadata import write_jsonl

PAGE = 24
MOST_IN_GROUP = 9  # as many as there are number keys
GRID, GROUPS, PAIRS = "Grid", "Groups by prompt", "Pairs"
VIEWS = (GRID, GROUPS, PAIRS)
PAIRS_FILE = "preference-pairs.jsonl"


@dataclass(frozen=True)
class Choice:
    """What the page's controls say."""

    scorer: str = ""
    search: str = ""
    least: float = float("-inf")
    view: str = GRID
    page: int = 1


@dataclass
class Shown:
    """One page of pictures; in the views to pick from, those of one group."""

    pictures: list[Picture]
    page: int
    pages: int
    total: int
    winner: str = ""  # picture_id of the one that was picked


def picture_id(picture: Picture) -> str:
    return picture.hash.hex()


@dataclass
class Album:
    """A scored folder, and the winners picked in it: group of ids -> winner's id."""

    root: Path
    picks: dict[frozenset[str], str] = field(default_factory=dict)
    _met: dict[str, Picture] = field(default_factory=dict)  # what was shown, by id
    _store: Store | None = None

    @classmethod
    def open(cls, root: Path) -> Album:
        return cls(Path(os.path.realpath(root)))

    @property
    def store(self) -> Store:
        """Opened, and made, only when it is needed."""
        if self._store is None:
            self._store = Store(default_store(self.root))
        return self._store

    def judges(self) -> list[Judge]:
        if self._store is None and not default_store(self.root).is_file():
            return []
        return self.store.judges()

    def judge(self, title: str) -> Judge | None:
        judges = self.judges()
        return next((one for one in judges if one.title == title), judges[0] if judges else None)

    def bounds(self, scorer: str) -> tuple[float, float]:
        """The lowest and the highest score."""
        scores = [p.score for p in self._ranked(Choice(scorer)) if p.score is not None]
        return (min(scores), max(scores)) if scores else (-1.0, 1.0)

    def show(self, choice: Choice) -> Shown:
        shown = self._grid(choice) if choice.view == GRID else self._group(choice)
        self._met |= {picture_id(picture): picture for picture in shown.pictures}
        return shown

    def picture(self, identity: str) -> Picture:
        """A picture that was shown. Raises ImageRewardError for an unknown one, or one that leads out of the folder."""
        picture = self._met.get(identity)
        if picture is None:
            raise ImageRewardError("no such picture on this page; reload it")
        self.check_inside(picture.path)
        return picture

    def check_inside(self, path: Path) -> Path:
        """The real path; ImageRewardError if it lies outside the folder."""
        real = Path(os.path.realpath(path))
        if real != self.root and self.root not in real.parents:
            raise ImageRewardError(f"{path} leads out of {self.root}")
        return real

    def pick(self, winner: str, choice: Choice) -> None:
        """Makes a picture the winner of the group on the page; picked again, it is none."""
        members = frozenset(picture_id(picture) for picture in self.show(choice).pictures)
        if winner not in members or len(members) < 2:
            return
        if self.picks.get(members) == winner:
            del self.picks[members]
        else:
            self.picks[members] = winner

    def pairs(self) -> Iterator[dict[str, str]]:
        """The picks as comparisons: the winner is better than each of the others; files are named from the folder on."""
        for members, winner in self.picks.items():
            better = self._met[winner]
            for worse in (self._met[other] for other in sorted(members) if other != winner):
                names = [os.path.relpath(one.path, self.root).replace(os.sep, "/") for one in (better, worse)]
                yield {"prompt": better.prompt or "", "better": names[0], "worse": names[1]}

    def export(self) -> tuple[Path, int]:
        """Writes the picks where `imagereward train-reward` and `evaluate` read them; (file, comparisons)."""
        rows = list(self.pairs())
        if not rows:
            raise ImageRewardError(f"nothing is picked yet; choose {GROUPS} or {PAIRS}, and press 1 to 9")
        path = self.root / PAIRS_FILE
        write_jsonl(rows, path)
        return path, len(rows)

    def act(self, action: str, scorer: str, number: float, text: str, *, dry_run: bool) -> tuple[Outcome, list[str]]:
        """One of the actions of `imagereward curate` with its number and its folder or template; what it did, as lines."""
        judge = self.judge(scorer)
        if judge is None:
            raise ImageRewardError("nothing is scored yet")
        lines: list[str] = []
        journal = Journal(self.store.path.with_suffix(".undo.jsonl"))
        actions = Actions(self.store, judge, self.root, journal, dry_run, lines.append)
        if action == "label":
            return actions.label(), lines
        if action == "undo":
            return actions.undo(), lines
        if action == "rename":
            return actions.rename(text), lines
        if action == "trash":
            return actions.delete_below(number), lines
        folder = self.check_inside(self.root / text)
        if not text.strip() or folder == self.root:
            raise ImageRewardError("name a folder below the one you browse, such as best or weak")
        if action == "copy":
            return actions.copy_best(int(number), folder), lines
        if action == "move":
            return actions.move_below(number, folder), lines
        raise ImageRewardError(f"no action is called {action!r}")

    # ------------------------------------------------------------------------------------------------------------------

    def _ranked(self, choice: Choice) -> Iterator[Picture]:
        judge = self.judge(choice.scorer)
        if judge is None:
            return
        words = choice.search.lower().split()
        for picture in self.store.ranked(judge):
            if picture.score is None or picture.score < choice.least:
                return
            text = " ".join((picture.path.name, picture.prompt or "", picture.model, *picture.loras)).lower()
            if all(word in text for word in words):
                yield picture

    def _grid(self, choice: Choice) -> Shown:
        total = sum(1 for _ in self._ranked(choice))
        pages = max(1, -(-total // PAGE))
        page = min(max(1, choice.page), pages)
        return Shown(list(islice(self._ranked(choice), (page - 1) * PAGE, page * PAGE)), page, pages, total)

    def _group(self, choice: Choice) -> Shown:
        groups = self._groups(choice)
        if choice.view == PAIRS:
            groups = [list(pair) for group in groups for pair in combinations(group, 2)]
        if not groups:
            return Shown([], 1, 1, 0)
        page = min(max(1, choice.page), len(groups))
        # In the order of their ids, which have nothing to do with the scores: who picks should not see the scorer's order.
        members = sorted(groups[page - 1], key=picture_id)
        winner = self.picks.get(frozenset(map(picture_id, members)), "")
        return Shown(members, page, len(groups), sum(map(len, groups)), winner)

    def _groups(self, choice: Choice) -> list[list[Picture]]:
        """Pictures of one prompt, at most nine, in the order of their best; copies of a picture count once."""
        groups: dict[str, dict[str, Picture]] = {}
        for picture in self._ranked(choice):
            group = groups.setdefault(picture.prompt or "", {})
            if len(group) < MOST_IN_GROUP:
                group.setdefault(picture_id(picture), picture)
        return [list(group.values()) for group in groups.values() if len(group) > 1]
