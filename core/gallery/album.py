"""What the gallery shows and changes, apart from how it looks. Pictures are named by content, never by path.

Nothing outside the chosen folder is read or written: a picture comes from the store, and its real path must lie below the
folder's; a folder to move to must lie there, too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..curate.actions import Actions
from ..curate.outcome import Outcome
from ..curate.pipeline import OnProgress, Summary, score_files
from ..curate.ranking import Ranked, Ranking
from ..curate.records import Picture, ScorerRecord
from ..curate.store import Store
from ..curate.unread import Unread, find_unread
from ..curate.workplace import Workplace, find_store, open_to_read, open_workplace
from ..errors import ImageRewardError
from ..files.tables import write_jsonl
from ..pictures.scan import scan
from ..scorers.base import Scorer
from .apart import Apart
from .found import Found, Groups

PAGE = 24
GRID, GROUPS, PAIRS = "Grid", "Groups by prompt", "Pairs"
VIEWS = (GRID, GROUPS, PAIRS)
WAIT_SECONDS = 5.0  # for another process that works on the folder; a page waits no longer
LOOK_SECONDS = 3.0  # for new files when a folder is opened
PAIRS_FILE = "preference-pairs.jsonl"


@dataclass(frozen=True)
class Choice:
    """What the page's controls say."""

    scorer: str = ""
    search: str = ""
    least: float = float("-inf")
    view: str = GRID
    page: int = 1
    apart: bool = False  # the pictures in the album's `apart` folders, which are shown apart from the others


@dataclass(frozen=True)
class Shown:
    """One page of pictures; in the views to pick from, those of one group."""

    pictures: list[Picture]
    page: int
    pages: int
    total: int
    winner: str = ""  # picture_id of the one that was picked


NOTHING = Shown([], 1, 1, 0)


@dataclass(frozen=True)
class NewScorer:
    """A scorer that is loaded when a picture needs it. key: see `store_key`."""

    key: str
    reads_prompt: bool
    load: Callable[[], Scorer]


def picture_id(picture: Picture) -> str:
    return picture.hash.hex()


@dataclass
class Album:
    """A scored folder, and the winners picked in it: group of ids -> winner's id."""

    root: Path
    apart: Callable[[], Collection[str]] = frozenset  # names of folders whose pictures are shown apart
    unread: Unread = field(default_factory=Unread)  # scores in files, as far as `arrive` looked for them
    picks: dict[frozenset[str], str] = field(default_factory=dict)
    _met: dict[str, Picture] = field(default_factory=dict)  # what was shown, by id
    _store: Store | None = None
    trouble: str = ""  # why the store cannot be read
    _store_number: int = 0  # its inode
    _state: object = None  # of the store, when the following was read from it
    _scorers: list[ScorerRecord] = field(default_factory=list)
    _ranking: Ranking | None = None
    _found: Found | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(cls, root: Path, apart: Callable[[], Collection[str]] = frozenset) -> Album:
        return cls(Path(os.path.realpath(root)), apart)

    def scorers(self) -> list[ScorerRecord]:
        with self._lock:
            self._follow()
            return self._scorers

    def scorer(self, title: str) -> ScorerRecord | None:
        records = self.scorers()
        return next((one for one in records if one.title == title), records[0] if records else None)

    def bounds(self, scorer: str) -> tuple[float, float]:
        """The lowest and the highest score."""
        with self._lock:
            ranking = self._ranking_of(scorer)
            return (ranking.score(len(ranking)), ranking.score(1)) if ranking else (-1.0, 1.0)

    def show(self, choice: Choice) -> Shown:
        with self._lock:
            found = self._search(choice)
            if found is None:
                return NOTHING
            shown = _grid(found, choice) if choice.view == GRID else self._group(found, choice)
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

    def act(self, action: str, choice: Choice, number: float, text: str, *, dry_run: bool) -> tuple[Outcome, list[str]]:
        """One of the actions of `imagereward curate` with its number and its folder or template; what it did, as lines.

        choice: whose scores count, and which side of the `apart` folders is worked on.
        """
        record = self.scorer(choice.scorer)
        if record is None:
            raise ImageRewardError("nothing is scored yet")
        lines: list[str] = []
        with open_workplace(self.root, dry_run=dry_run, wait=WAIT_SECONDS, say=lines.append) as place:
            if action == "undo":
                return place.undo(lines.append), lines
            ranked = Ranked(place.store, record, self.root, takes=self._side(choice))
            return self._act(place, ranked, lines, action, number, text), lines

    def score(self, new: NewScorer, trust: bool, on_progress: OnProgress | None = None) -> Summary:
        """Scores the pictures that are new. With `trust` scores in files count, and the scorer is loaded for the rest only."""
        if not self.root.is_dir():
            raise ImageRewardError(f"{self.root} does not exist yet: the first image that is saved there makes it")
        taken = Summary()
        if trust:
            taken = self.take(on_progress)
            with open_workplace(self.root, wait=WAIT_SECONDS) as place:
                if not place.store.lacking(new.key, new.reads_prompt):
                    return taken
        scorer = new.load()
        with open_workplace(self.root, wait=WAIT_SECONDS) as place:
            summary = score_files(self.root, [(new.key, scorer)], place.store, on_progress=on_progress)
        summary.taken, summary.unchanged = taken.taken, summary.unchanged - taken.taken
        return summary

    def take(self, on_progress: OnProgress | None = None, wait: float = WAIT_SECONDS) -> Summary:
        """Takes the scores that stand in files into the store, of every scorer; no model is loaded."""
        with open_workplace(self.root, wait=wait) as place:
            summary = score_files(self.root, [], place.store, trust=True, on_progress=on_progress)
        self.unread = Unread()
        return summary

    def arrive(self, trust: bool | None, seconds: float = LOOK_SECONDS) -> None:
        """What changed in the folder since it was last seen, as far as it can be told in this time.

        trust: True takes the scores that stand in new files, None looks whether there are any.
        """
        deadline = time.monotonic() + seconds

        def check(done: int, found: int) -> None:
            if time.monotonic() > deadline:
                raise TimeoutError

        self.unread = Unread()
        # What is left is for the next time, or another process is at work on it.
        with suppress(TimeoutError, ImageRewardError), self._lock:
            if trust is None:
                self.unread = find_unread(self.root, self._opened(), seconds)
            elif trust and next(scan(self.root, tidy=False), None) is not None:
                self.take(check, wait=0)

    # ------------------------------------------------------------------------------------------------------------------

    def _side(self, choice: Choice) -> Apart:
        return Apart(self.root, frozenset(self.apart()), choice.apart)

    def _act(
        self, place: Workplace, ranked: Ranked, lines: list[str], action: str, number: float, text: str
    ) -> Outcome:
        actions = Actions(ranked, place.journal, place.dry_run, lines.append)
        if action == "label":
            return actions.label()
        if action == "rename":
            return actions.rename(text)
        if action == "trash":
            return actions.delete_below(number)
        folder = self.check_inside(self.root / text)
        if not text.strip() or folder == self.root:
            raise ImageRewardError("name a folder below the one you browse, such as best or weak")
        if action == "copy":
            return actions.copy_best(int(number), folder)
        if action == "move":
            return actions.move_below(number, folder)
        raise ImageRewardError(f"no action is called {action!r}")

    def _follow(self) -> None:
        """Forgets what the store said before it changed; until then nothing is ranked twice."""
        store = self._opened()
        if store is None:
            self._scorers, self._state = [], None
            return
        state = store.state()
        if state != self._state:
            self._state, self._scorers = state, store.scorers()
            self._rank(None)

    def _opened(self) -> Store | None:
        """The store, once there is one; another one if that was moved aside, or now lies elsewhere."""
        path = find_store(self.root)
        number = path.stat().st_ino if path else 0
        if number != self._store_number:
            if self._store is not None:
                self._store.close()
            self._store = self._ranking = self._found = self._state = None
            self._store_number, self.trouble = number, ""
            try:
                self._store = open_to_read(self.root) if path else None
            except ImageRewardError as error:
                self.trouble = str(error)
        return self._store

    def _rank(self, record: ScorerRecord | None) -> None:
        if self._ranking is not None:
            self._ranking.close()
        self._ranking = self._found = None
        if record is not None and self._store is not None:
            self._ranking = Ranking(self._store, record)

    def _ranking_of(self, scorer: str) -> Ranking | None:
        record = self.scorer(scorer)
        if self._ranking is None or self._ranking.scorer != record:
            self._rank(record)
        return self._ranking

    def _search(self, choice: Choice) -> Found | None:
        ranking, side = self._ranking_of(choice.scorer), self._side(choice)
        if ranking is not None and (self._found is None or self._found.asked != (choice.search, side)):
            self._found = Found(ranking, choice.search, side)
        return self._found

    def _group(self, found: Found, choice: Choice) -> Shown:
        groups = Groups(found, choice.least, pairs=choice.view == PAIRS)
        if not len(groups):
            return NOTHING
        page = min(max(1, choice.page), len(groups))
        # In the order of their ids, which have nothing to do with the scores: who picks should not see the scorer's order.
        members = sorted(found.ranking.at(groups[page - 1]), key=picture_id)
        winner = self.picks.get(frozenset(map(picture_id, members)), "")
        return Shown(members, page, len(groups), groups.total, winner)


def _grid(found: Found, choice: Choice) -> Shown:
    ranks = found.passing(choice.least)
    pages = max(1, -(-len(ranks) // PAGE))
    page = min(max(1, choice.page), pages)
    here = ranks[(page - 1) * PAGE : page * PAGE].tolist()
    return Shown(found.ranking.at(here), page, pages, len(ranks))
