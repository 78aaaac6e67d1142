"""The gallery's HTML. Pictures are embedded, so the page asks no server for files and no path ever comes from it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from ..curate.records import Picture, ScorerRecord
from ..errors import BadImage, ImageRewardError
from ..files.console import counted
from ..pages.cards import Frame, frame, thumbnail
from ..pages.kit import render
from ..pictures.texts import read_texts
from .album import GRID, Album, Choice, Shown, picture_id
from .trust import Trust

THUMBNAIL, FULL = 256, 1280
_LONGEST_TEXT = 20000


class Tile(NamedTuple):
    """A picture of the page; a click opens it, or picks it as the best of its group."""

    picture: Picture
    id: str
    frame: Frame
    percentile: float
    won: bool


def page_html(album: Album, choice: Choice, trust: Trust | None = None) -> str:
    """What the controls ask for: a page of cards, or one group to pick the best from.

    trust: above it stands the question whether scores in files count, where it is open and there are any.
    """
    asks = trust is not None and trust.answer() is None and album.unread.pictures
    return (_question_html(album, trust.later) if trust and asks else "") + _pictures_html(album, choice)


def _question_html(album: Album, later: str) -> str:
    """Whether scores in files count: the buttons' answers reach the page through its script."""
    unread = album.unread
    count = (
        counted(unread.pictures, "picture") if unread.all_seen else f"At least {counted(unread.pictures, 'picture')}"
    )
    return str(render("gallery/question.html", count=count, titles=", ".join(unread.titles), later=later))


def _pictures_html(album: Album, choice: Choice) -> str:
    scorer = album.scorer(choice.scorer)
    if scorer is None:
        return note_html(album.trouble or _why_empty(album))
    shown = album.show(choice)
    picking = choice.view != GRID
    if picking and not shown.pictures:
        return note_html("No two pictures share a prompt here.")
    tiles = [_tile(album, scorer, picture, shown, picking) for picture in shown.pictures]
    context = {"picked": len(album.picks), "count": counted(shown.total, "picture"), "scorer": scorer.title}
    return str(render("gallery/page.html", shown=shown, tiles=tiles, picking=picking, **context))


def _why_empty(album: Album) -> str:
    if not album.root.is_dir():
        return f"Nothing is saved in {album.root} yet."
    return "No picture of this folder is scored yet. Choose a scorer and press Score new pictures."


def detail_html(album: Album, scorer: ScorerRecord, identity: str) -> str:
    """The picture large, its scores, and every text of its file."""
    try:
        picture = album.picture(identity)
        large = Frame(*thumbnail(picture.path, FULL))
        texts = {name: text[:_LONGEST_TEXT] for name, text in read_texts(picture.path).items()}
    except (BadImage, ImageRewardError, OSError) as error:
        return note_html(str(error))
    source = " from ".join(filter(None, (picture.program, picture.prompt_from)))
    return str(render("gallery/detail.html", scorer=scorer, picture=picture, large=large, source=source, texts=texts))


def note_html(text: str, lines: Sequence[str] = ()) -> str:
    """A sentence, and lines below it."""
    return str(render("gallery/note.html", text=text, lines=lines))


def _tile(album: Album, scorer: ScorerRecord, picture: Picture, shown: Shown, picking: bool) -> Tile:
    assert picture.score is not None
    identity = picture_id(picture)
    percentile = 100 * NormalDist(scorer.mean, scorer.std).cdf(picture.score)
    return Tile(picture, identity, _frame(album, picture, picking), percentile, identity == shown.winner)


def _frame(album: Album, picture: Picture, picking: bool) -> Frame:
    try:
        album.check_inside(picture.path)
    except ImageRewardError as error:
        return Frame(trouble=str(error))
    return frame(picture.path, 2 * THUMBNAIL if picking else THUMBNAIL)
