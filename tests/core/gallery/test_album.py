"""What the gallery shows, lets pick and refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.curate.records import Picture, ScorerRecord
from sd_imagereward.core.curate.store import Store
from sd_imagereward.core.curate.workplace import FILE_NAME
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.gallery.album import GRID, GROUPS, PAIRS, Album, Choice, picture_id
from sd_imagereward.core.gallery.cards import detail_html, page_html
from sd_imagereward.core.pictures.opening import content_hash
from sd_imagereward.core.pictures.scan import Entry
from sd_imagereward.core.preference.rankings import pairs_of
from sd_imagereward.core.preference.reading import read_rankings

TECHNICAL = Choice("Technical")
RECORD = ScorerRecord("technical", "Technical", False, 0.0, 1.0)


@pytest.fixture
def album(tmp_path: Path) -> Album:
    root = tmp_path / "pictures"
    root.mkdir()
    with Store(root / FILE_NAME) as store:
        run = store.begin_run()
        store.add_scorer(RECORD)
        for i in range(30):
            path = root / f"{i:02}.png"
            Image.new("RGB", (16, 16), (i, 0, 0)).save(path)
            content = content_hash(path.read_bytes())
            prompt = "a fox" if i < 3 else f"p{i}"
            picture = Picture(*Entry.of(path), hash=content, prompt=prompt, width=16, height=16)
            store.put([picture], run)
            store.put_scores(RECORD, [(picture.hash, picture.prompt, i / 10, {})])
    return Album.open(root)


def test_pages_search_and_threshold(album: Album) -> None:
    first = album.show(Choice())
    assert (len(first.pictures), first.pages, first.total) == (24, 2, 30)
    assert [p.score for p in first.pictures[:2]] == [2.9, 2.8]
    assert len(album.show(Choice(page=2)).pictures) == 6
    assert album.show(Choice(page=99)).page == 2
    assert album.show(Choice(search="a FOX")).total == 3
    assert album.show(Choice(least=2.0)).total == 10


def test_picks_become_pairs_that_training_reads(album: Album) -> None:
    group = album.show(Choice(view=GROUPS))
    assert len(group.pictures) == 3
    winner = group.pictures[1]
    album.pick(picture_id(winner), Choice(view=GROUPS))
    assert album.show(Choice(view=GROUPS)).winner == picture_id(winner)
    path, count = album.export()
    assert count == 2
    pairs = pairs_of(read_rankings(path))
    assert {(pair.prompt, pair.better) for pair in pairs} == {("a fox", winner.path)}
    assert {pair.worse for pair in pairs} == {p.path for p in group.pictures} - {winner.path}
    album.pick(picture_id(winner), Choice(view=GROUPS))
    with pytest.raises(ImageRewardError, match="nothing is picked"):
        album.export()


def test_pairs_view_goes_through_every_pair(album: Album) -> None:
    assert album.show(Choice(view=PAIRS)).pages == 3
    pages = [album.show(Choice(view=PAIRS, page=n)) for n in (1, 2, 3)]
    assert len({frozenset(map(picture_id, page.pictures)) for page in pages}) == 3


def test_picking_pages_do_not_show_the_score(album: Album) -> None:
    assert "0.2000" not in page_html(album, Choice(view=GROUPS))
    assert "2.9000" in page_html(album, Choice(view=GRID))


def test_only_pictures_of_the_folder_are_shown(album: Album, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (16, 16), "red").save(secret)
    shown = album.show(Choice()).pictures[0]
    for identity in ("../secret.png", str(secret), "", "ff"):
        assert "no such picture" in detail_html(album, RECORD, identity)
    shown.path.unlink()
    shown.path.symlink_to(secret)
    assert "leads out of" in detail_html(album, RECORD, picture_id(shown))
    assert "leads out of" in page_html(album, Choice())


@pytest.mark.parametrize(
    ("action", "number", "folder"), [("label", 0, ""), ("copy", 99, "best"), ("move", 99.0, "weak")]
)
def test_a_picture_that_became_a_link_out_of_the_folder_is_left_alone(
    album: Album, tmp_path: Path, action: str, number: float, folder: str
) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (16, 16), "red").save(secret)
    before = secret.read_bytes()
    count, link = len(list(album.root.glob("*.png"))), album.show(Choice()).pictures[0].path
    link.unlink()
    link.symlink_to(secret)
    outcome, _ = album.act(action, TECHNICAL, number, folder, dry_run=False)
    assert outcome.changed == count - 1
    assert [path for path, _ in outcome.failed] == [link]
    assert "symlink outside the folder" in outcome.failed[0][1]
    assert secret.read_bytes() == before
    assert link.is_symlink()
    assert not any((album.root / name / link.name).exists() for name in ("best", "weak"))


@pytest.mark.parametrize("folder", ["../out", "/tmp", "link/x", "", "."])
def test_actions_stay_in_the_folder(album: Album, tmp_path: Path, folder: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (album.root / "link").symlink_to(tmp_path / "elsewhere")
    before = visible(album.root)
    with pytest.raises(ImageRewardError, match=r"leads out of|name a folder"):
        album.act("move", TECHNICAL, 99.0, folder, dry_run=False)
    assert visible(album.root) == before


def visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_actions_and_undo(album: Album) -> None:
    outcome, lines = album.act("move", TECHNICAL, 0.15, "weak", dry_run=True)
    assert (outcome.changed, len(lines)) == (2, 2)
    assert not (album.root / "weak").exists()
    album.act("move", TECHNICAL, 0.15, "weak", dry_run=False)
    assert sorted(p.name for p in (album.root / "weak").iterdir()) == ["00.png", "01.png"]
    assert album.act("move", TECHNICAL, 0.15, "weak", dry_run=False)[0].changed == 0  # they are there already
    outcome, lines = album.act("undo", Choice(), 0, "", dry_run=True)
    assert (outcome.changed, sorted(lines)) == (2, [f"back to {album.root / name}" for name in ("00.png", "01.png")])
    assert not (album.root / "00.png").exists()
    assert album.act("undo", Choice(), 0, "", dry_run=False)[0].changed == 2
    assert (album.root / "00.png").exists()
    assert album.act("copy", TECHNICAL, 3, "best", dry_run=False)[0].changed == 3
    with pytest.raises(ImageRewardError, match="at least 1, got -1"):
        album.act("copy", TECHNICAL, -1, "best", dry_run=False)


def test_metadata_is_shown_as_text(album: Album) -> None:
    from sd_imagereward.core.pictures.saving import save_image

    picture = album.show(Choice()).pictures[0]
    save_image(Image.new("RGB", (16, 16)), picture.path, parameters="<script>alert(1)</script>")
    shown = detail_html(album, RECORD, picture_id(picture))
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>" not in shown
