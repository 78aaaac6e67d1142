"""What can be done with scored pictures: label, copy, move, rename, trash. Each can be tried out first."""

from __future__ import annotations

import filecmp
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from ..errors import ImageRewardError
from ..files.atomic import replacing
from ..files.journal import Journal, Part
from ..files.moving import trash
from ..files.names import numbered
from ..pictures.companions import owned_by, parts_if_free, parts_to
from ..pictures.label import relabel_file
from ..pictures.opening import content_hash
from ..pictures.scan import Entry
from ..scorers.mix import TITLE as MIXTURE
from .outcome import Outcome, Say, unfailing
from .ranking import Ranked
from .records import Picture, ScorerRecord
from .templates import check_template, file_name

_COMMIT_EVERY = 200
_CHANGED = "it has changed since it was scored; left alone. Run curate again"


@dataclass
class Actions:
    """The actions on ranked pictures, best first.

    Pictures without score are never touched, nor are those that changed since they were scored. A file that cannot be
    changed is listed in the outcome, and the others go on. What is moved, copied or trashed takes its companions along.
    """

    ranked: Ranked
    journal: Journal
    dry_run: bool = False  # changes nothing
    say: Say = lambda line: None  # takes a line for each thing done, or with dry_run for each that would be done

    def __post_init__(self) -> None:
        self.say = unfailing(self.say)
        self.store = self.ranked.store

    def label(self, records: Iterable[ScorerRecord] = (), decimals: int = 4) -> Outcome:
        """Writes the scores into the files: those of this scorer, a mixture's with its members', and of the others given."""
        mine = self.ranked.scorer
        others = [record for record in records if record.key != mine.key]

        def write(picture: Picture) -> bool:
            assert picture.score is not None
            members = picture.parts if mine.title == MIXTURE else {}
            scores = {mine.title: picture.score, **members} | self._scores_of(picture, others)
            labels = json.dumps({title: round(score, decimals) for title, score in scores.items()})
            if picture.labels == labels:
                return False
            if self.dry_run:
                return True
            old, new = relabel_file(
                picture.path, scores, decimals, check=lambda data: self._check_content(picture, data)
            )
            # By what was written, not by what lies there a moment later: somebody may have put another file there.
            entry = Entry(picture.path, len(new), picture.mtime_ns)
            self.store.relabelled(picture, entry, content_hash(new), labels)
            return old != new

        return self._each(self.ranked, "label" if self.dry_run else "", write)

    def sidecar(self) -> Outcome:
        """Writes `cat.png.score.json` beside each picture."""

        def write(picture: Picture) -> bool:
            target = picture.path.with_name(f"{picture.path.name}.score.json")
            shown = {"file": picture.path.name, "prompt": picture.prompt, self.ranked.scorer.title: picture.score}
            text = json.dumps(shown | dict(picture.parts), indent=2, ensure_ascii=False) + "\n"
            data = text.encode("utf-8", "replace")
            if target.is_file() and target.read_bytes() == data:
                return False
            if not self.dry_run:
                with replacing(target) as file:
                    file.write(data)
            return True

        return self._each(self.ranked, "sidecar for" if self.dry_run else "", write)

    def copy_best(self, most: int, folder: Path) -> Outcome:
        """Copies the best into a folder; one that is there already is not copied again."""
        if most < 1:
            raise ImageRewardError(f"expected a number of pictures to copy, at least 1, got {most}")

        def copy(picture: Picture) -> bool:
            missing = self._missing_of_copy(picture.path, folder / picture.path.name)
            if missing and not self.dry_run:
                self.journal.carry(missing)
            return bool(missing)

        return self._each(islice(self.ranked, most), f"copy to {folder}:", copy)

    def move_below(self, threshold: float, folder: Path) -> Outcome:
        """Moves pictures that score less into a folder."""
        there = Path(os.path.realpath(folder))

        def move(picture: Picture) -> bool:
            if picture.path.parent == there:  # moved before
                return False
            if not self.dry_run:
                self._move(picture.path, folder / picture.path.name)
            return True

        return self._each(self.ranked.below(threshold), f"move to {folder}:", move)

    def rename(self, template: str) -> Outcome:
        """Renames every picture: "{score:+.2f}_{name}". `name` is the one it had before any renaming."""
        check_template(template)
        ranks = count(1)

        def rename(picture: Picture) -> bool:
            new = picture.path.with_name(self._new_name(template, picture, next(ranks)))
            if new == picture.path or re.fullmatch(re.escape(new.stem) + r" \(\d+\)", picture.path.stem):
                return False
            if not self.dry_run:
                self._move(picture.path, new)
            else:
                self.say(f"rename {picture.path} to {new.name}")
            return True

        return self._each(self.ranked, "" if self.dry_run else "rename", rename)

    def delete_below(self, threshold: float) -> Outcome:
        """Moves pictures that score less to the system's trash, from which they can be had back."""
        send = trash()

        def delete(picture: Picture) -> bool:
            if not self.dry_run:
                try:
                    self.journal.trash(owned_by(picture.path), send)
                finally:
                    if not os.path.lexists(picture.path):
                        self.store.forget(picture.path)
            return True

        return self._each(self.ranked.below(threshold), "trash", delete)

    # ------------------------------------------------------------------------------------------------------------------

    def _each(self, pictures: Iterable[Picture], doing: str, act: Callable[[Picture], bool]) -> Outcome:
        outcome, root = Outcome(), Path(os.path.realpath(self.ranked.root))
        for picture in pictures:
            try:
                if root not in Path(os.path.realpath(picture.path)).parents:
                    raise ImageRewardError(f"it has become a symlink outside the folder {root}; left alone")
                if not picture.unchanged(Entry.of(picture.path)):
                    raise ImageRewardError(_CHANGED)
                if act(picture):
                    outcome.changed += 1
                    if doing:
                        self.say(f"{doing} {picture.path}")
            except (OSError, ImageRewardError) as error:
                outcome.fail(picture.path, error)
            if outcome.changed % _COMMIT_EVERY == 0:
                self.store.commit()
        self.store.commit()
        return outcome

    def _check_content(self, picture: Picture, data: bytes) -> None:
        """Size and time may be those of before, as rsync and cp -p keep them."""
        if content_hash(data) != picture.hash:
            self.store.forget(picture.path)  # or it would be taken for unchanged again
            raise ImageRewardError(_CHANGED)

    def _move(self, old: Path, new: Path) -> None:
        places = (parts_if_free(old, place) for place in numbered(new))
        self.store.moved(old, self.journal.carry(filter(None, places)))

    def _missing_of_copy(self, picture: Path, target: Path) -> list[list[Part]] | Iterator[list[Part]]:
        """Where the copy may go; of one that was made before, the companions that it lacks."""
        for place in numbered(target):
            if place.is_file() and filecmp.cmp(picture, place, shallow=False):
                companions = parts_to(picture, place, copied=True)[1:]
                missing = [part for part in companions if not os.path.lexists(part.new)]
                return [missing] if missing else []
            if not os.path.lexists(place) and parts_if_free(picture, place, copied=True):
                break
        return filter(None, (parts_if_free(picture, place, copied=True) for place in numbered(target)))

    def _new_name(self, template: str, picture: Picture, rank: int) -> str:
        values = {
            "score": picture.score,
            "percentile": self.ranked.percentile(picture),
            "rank": rank,
            "name": Path(picture.first_name or picture.path.name).stem,
            "folder": picture.path.parent.name,
            "prompt": (picture.prompt or "")[:80],
            "scorer": self.ranked.scorer.title,
            "model": picture.model,
        }
        return file_name(template, values, picture.path)

    def _scores_of(self, picture: Picture, records: Iterable[ScorerRecord]) -> dict[str, float]:
        found = {record.title: self.store.score_of(picture, record) for record in records}
        return {title: score for title, score in found.items() if score is not None}
