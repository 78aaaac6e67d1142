"""The gallery's HTML. Pictures are embedded, so the page asks no server for files and no path ever comes from it."""

from __future__ import annotations

import html
from statistics import NormalDist

from ..curate.records import Picture, ScorerRecord
from ..errors import BadImage, ImageRewardError
from ..pages.contact_sheet import thumbnail_uri
from ..pictures.texts import read_texts
from .album import GRID, Album, Choice, Shown, picture_id

THUMBNAIL, FULL = 256, 1280
_LONGEST_TEXT = 20000

STYLE = """<style>
.ir-grid { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.ir-grid.ir-picking { grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.ir-card { border: 2px solid transparent; border-radius: 10px; overflow: hidden; cursor: pointer; text-align: left;
  background: color-mix(in srgb, currentColor 7%, transparent); padding: 0 !important; font: inherit; color: inherit; }
.ir-card:focus-visible { outline: 3px solid #2f8f5f; }
.ir-card.ir-winner { border-color: #2f8f5f; }
.ir-card img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882; margin: 0; }
.ir-card div { padding: .35rem .55rem .5rem; }
.ir-card b { font-variant-numeric: tabular-nums; } .ir-card span { opacity: .65; float: right; font-size: .85em; }
.ir-card p { margin: .15rem 0 0; font-size: .82em; font-weight: 400; opacity: .8; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.ir-detail img { max-width: 100%; max-height: 80vh; border-radius: 8px; }
.ir-detail pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85em; max-height: 20rem; overflow: auto; }
.ir-note { opacity: .75; }
.ir-wire { position: absolute !important; width: 1px !important; height: 1px !important; overflow: hidden !important;
  opacity: 0 !important; pointer-events: none; }
</style>"""


def page_html(album: Album, choice: Choice) -> str:
    record = album.scorer(choice.scorer)
    if record is None:
        note = album.trouble or "No picture of this folder is scored yet."
        return f'{STYLE}<p class="ir-note">{_escape(note)}</p>'
    shown = album.show(choice)
    picking = choice.view != GRID
    kind = "groups" if picking else "pages"
    note = f"{shown.total} pictures, {shown.page} of {shown.pages} {kind}"
    if picking:
        note += f"; {len(album.picks)} picked. Keys 1 to 9 pick the winner, arrows go on."
    if picking and not shown.pictures:
        note = "No two pictures share a prompt here."
    cards = "".join(
        _card(album, record, picture, n, shown, picking) for n, picture in enumerate(shown.pictures, start=1)
    )
    prompt = f"<p><i>{_escape(shown.pictures[0].prompt or '')}</i></p>" if picking and shown.pictures else ""
    return f'{STYLE}<p class="ir-note">{note}</p>{prompt}<div class="ir-grid{" ir-picking" * picking}">{cards}</div>'


def detail_html(album: Album, record: ScorerRecord, identity: str) -> str:
    """The picture large, its scores, and every text of its file."""
    try:
        picture = album.picture(identity)
        source, _, _ = thumbnail_uri(picture.path, FULL)
        texts = read_texts(picture.path)
    except (BadImage, ImageRewardError, OSError) as error:
        return f'<p class="ir-note">{_escape(str(error))}</p>'
    blocks = "".join(
        f"<h4>{_escape(name)}</h4><pre>{_escape(text[:_LONGEST_TEXT])}</pre>" for name, text in texts.items()
    )
    parts = "".join(f"<li>{_escape(title)}: {value:.4f}</li>" for title, value in picture.parts.items())
    size = f"{picture.width} x {picture.height}"
    read = " from ".join(one for one in (picture.program, picture.prompt_from) if one)
    notes = [f"Prompt: {read}" if read else "", f"Uncertain: {picture.uncertain}" if picture.uncertain else ""]
    told = "".join(f'<p class="ir-note">{_escape(note)}</p>' for note in notes if note)
    return (
        f'<div class="ir-detail"><h3>{_escape(picture.path.name)}</h3><p>{_escape(record.title)}: '
        f'<b>{picture.score:.4f}</b>, {size}</p><img src="{source}" alt="{_escape(picture.path.name)}"><ul>{parts}</ul>'
        f"{told}{blocks}</div>"
    )


def _card(album: Album, record: ScorerRecord, picture: Picture, number: int, shown: Shown, picking: bool) -> str:
    identity = picture_id(picture)
    try:
        album.check_inside(picture.path)
        source, _, _ = thumbnail_uri(picture.path, 2 * THUMBNAIL if picking else THUMBNAIL)
        image = f'<img src="{source}" alt="{_escape(picture.path.name)}">'
    except (BadImage, ImageRewardError, OSError) as error:
        image = f'<p class="ir-note">{_escape(str(error))}</p>'
    assert picture.score is not None
    percentile = 100 * NormalDist(record.mean, record.std).cdf(picture.score)
    # Who picks a winner should look at the pictures, not the scorer's numbers.
    line = f"<b>{number}</b>" if picking else f"<b>{picture.score:.4f}</b><span>{percentile:.0f} %</span>"
    below = "" if picking else f"<p>{_escape(picture.path.name)}</p><p>{_escape(picture.prompt or '')}</p>"
    won = " ir-winner" if identity == shown.winner else ""
    do = "pick" if picking else "open"
    return (
        f'<button type="button" class="ir-card{won}" data-ir-do="{do}" data-ir-id="{identity}" data-ir-key="{number}" '
        f'title="{_escape(picture.prompt or "")}">{image}<div>{line}{below}</div></button>'
    )


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
