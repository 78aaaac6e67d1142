"""Scores that stand in files: asked for once, then never scored again; and pictures that are shown apart."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from sd_imagereward.core.curate import unread
from sd_imagereward.core.curate.pipeline import score_files
from sd_imagereward.core.curate.workplace import find_store, open_workplace
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.gallery.album import Album, Choice, NewScorer
from sd_imagereward.core.gallery.cards import page_html
from sd_imagereward.core.gallery.trust import Trust
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.scorers.base import Scorer
from sd_imagereward.core.scorers.loading import load_scorer

ASKED = "carry a score in the file"
IMAGEREWARD = Choice("ImageReward")


def add(folder: Path, name: str, score: float | None, colour: int = 0) -> Path:
    """A picture as a WebUI saves it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"a fox {name}\nSteps: 1, Sampler: Euler, Seed: 3, Size: 32x32"
    text += "" if score is None else f", ImageReward: {score:.4f}, Technical: {score - 1:.4f}"
    save_image(Image.new("RGB", (32, 32), (colour, len(name), 90)), path, parameters=text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "outputs"
    for i in range(4):
        add(root, f"2026-11-28/{i}.png", i / 10, i)
    add(root, "2026-11-28/rejected/5.png", -1.5, 5)
    add(root, "2026-11-28/6.png", None, 6)
    return root


@pytest.fixture
def loaded() -> list[str]:
    """Grows each time that a scorer is loaded."""
    return []


@pytest.fixture
def new(loaded: list[str]) -> NewScorer:
    """A scorer that needs no weights."""

    def load() -> Scorer:
        loaded.append("technical")
        return load_scorer("technical", device="cpu")

    return NewScorer("technical", False, load)


def names(album: Album, choice: Choice = IMAGEREWARD) -> list[str]:
    return [picture.path.name for picture in album.show(choice).pictures]


def test_the_question_comes_before_anything_is_written(root: Path) -> None:
    album, trust = Album.open(root), Trust()
    album.arrive(trust.answer())
    page = page_html(album, IMAGEREWARD, trust)
    assert f"5 pictures of this folder {ASKED}" in page
    assert "(ImageReward, Technical)" in page
    assert "No picture of this folder is scored yet" in page
    assert find_store(root) is None


def test_a_look_that_ends_early_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(unread, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    found = unread.find_unread(root, None, seconds=2)
    assert 0 < found.pictures < 5
    assert not found.all_seen
    album, trust = Album.open(root), Trust()
    album.unread = found
    assert "At least " in page_html(album, IMAGEREWARD, trust)


def test_yes_shows_them_and_is_asked_once(root: Path) -> None:
    album, trust = Album.open(root), Trust()
    trust.remember(True)
    album.arrive(trust.answer())
    assert names(album) == ["3.png", "2.png", "1.png", "0.png", "5.png"]
    assert [picture.score for picture in album.show(IMAGEREWARD).pictures] == [0.3, 0.2, 0.1, 0.0, -1.5]
    assert ASKED not in page_html(album, IMAGEREWARD, trust)
    add(root, "2026-11-29/7.png", 2.0)
    album.arrive(trust.answer())
    assert names(album)[0] == "7.png"


def test_no_leaves_them_alone(root: Path) -> None:
    album, trust = Album.open(root), Trust()
    trust.remember(False)
    album.arrive(trust.answer())
    assert ASKED not in page_html(album, IMAGEREWARD, trust)
    assert find_store(root) is None


def test_what_is_in_the_gallery_is_not_asked_for(root: Path) -> None:
    album = Album.open(root)
    album.take()
    album.arrive(None)
    assert album.unread.pictures == 0
    add(root, "8.png", 1.0)
    album.arrive(None)
    assert album.unread.pictures == 1


def test_nothing_is_scored_twice(root: Path, new: NewScorer, loaded: list[str]) -> None:
    album = Album.open(root)
    for name in ("2026-11-28/6.png", "2026-11-28/rejected/5.png"):
        (root / name).unlink()
    summary = album.score(new, trust=True)
    assert (summary.taken, summary.scored, loaded) == (4, 0, [])
    assert "4 with a score in the file" in str(summary)
    add(root, "9.png", None, 9)
    summary = album.score(new, trust=True)
    assert (summary.taken, summary.scored, summary.unchanged, loaded) == (0, 1, 4, ["technical"])


def test_one_pass_takes_and_scores(root: Path, new: NewScorer) -> None:
    with open_workplace(root) as place:
        summary = score_files(root, [(new.key, new.load())], place.store, trust=True)
    assert (summary.taken, summary.scored) == (5, 1)


def test_without_trust_all_are_scored(root: Path, new: NewScorer) -> None:
    summary = Album.open(root).score(new, trust=False)
    assert (summary.taken, summary.scored) == (0, 6)


def test_a_score_by_the_model_is_not_replaced(root: Path, new: NewScorer) -> None:
    album = Album.open(root)
    album.score(new, trust=False)
    exact = {picture.path.name: picture.score for picture in album.show(Choice("Technical")).pictures}
    for path in root.rglob("*.png"):
        text = f"a fox\nSteps: 1, Seed: 3, Size: 32x32, Technical: {exact[path.name] or 0:.4f}"
        save_image(Image.open(path), path, parameters=text)
    album.score(new, trust=False)
    album.take()
    assert {picture.path.name: picture.score for picture in album.show(Choice("Technical")).pictures} == exact


def test_a_file_that_was_scored_before_the_answer_is_looked_into(root: Path, new: NewScorer) -> None:
    album = Album.open(root)
    album.score(new, trust=False)
    album.arrive(None)
    assert (album.unread.pictures, album.unread.titles) == (5, ("ImageReward",))  # Technical is known
    album.arrive(True)
    assert names(album) == ["3.png", "2.png", "1.png", "0.png", "5.png"]


def test_a_changed_file_is_looked_into_again(root: Path) -> None:
    album = Album.open(root)
    album.take()
    add(root, "2026-11-28/6.png", 0.9, 66)
    album.arrive(True)
    assert names(album)[0] == "6.png"


def test_rejected_pictures_are_apart(root: Path) -> None:
    album = Album.open(root, lambda: {"rejected"})
    album.take()
    assert names(album) == ["3.png", "2.png", "1.png", "0.png"]
    assert names(album, Choice("ImageReward", apart=True)) == ["5.png"]
    assert names(album, Choice("ImageReward", search="5.png")) == []
    outcome, _ = album.act("copy", IMAGEREWARD, 9, "best", dry_run=False)
    assert outcome.changed == 4
    outcome, _ = album.act("move", Choice("ImageReward", apart=True), 9, "worst", dry_run=False)
    assert outcome.changed == 1
    assert (root / "worst" / "5.png").is_file()


def test_a_folder_that_is_not_there_yet(tmp_path: Path, new: NewScorer) -> None:
    album, trust = Album.open(tmp_path / "later"), Trust()
    for answer in (None, True, False):
        album.arrive(answer)
    assert "Nothing is saved in" in page_html(album, IMAGEREWARD, trust)
    with pytest.raises(ImageRewardError, match="does not exist yet"):
        album.score(new, trust=True)
    assert not album.root.exists()
    add(album.root, "1.png", 0.5)
    album.arrive(True)
    assert names(album) == ["1.png"]
