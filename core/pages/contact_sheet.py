"""One HTML page that shows scored pictures side by side: thumbnails embedded, no script, nothing fetched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from .cards import Card, frame
from .kit import write_page

THUMBNAIL = 384  # longer side of the embedded pictures, in pixels


@dataclass(frozen=True)
class SheetRow:
    """One picture of the sheet. The order of the rows is their rank."""

    image: str | os.PathLike[str] | Image.Image
    score: float  # NaN: could not be scored
    percentile: float | None = None  # 0..100
    prompt: str = ""
    components: Mapping[str, float] = field(default_factory=dict)  # what the score is made of, by title
    name: str = ""  # the caption; "" takes the file's name


def write_contact_sheet(
    rows: Iterable[SheetRow],
    path: str | os.PathLike[str],
    *,
    title: str,
    note: str = "",
    thumbnail: int = THUMBNAIL,
) -> int:
    """Write the page and return the number of pictures on it.

    Rows are read one by one and written at once, so memory does not grow with their number; the page appears at `path`
    when it is whole, and an older one stays until then. A picture that cannot be read gets a card that says why.
    note: a line under the title. thumbnail: longer side in pixels (a picture takes about 20 KB at 384).
    """
    cards = _Cards(rows, Path(path).parent, thumbnail)
    write_page(path, "pages/contact_sheet.html", title=title, note=note, cards=cards)
    return cards.count


class _Cards:
    """The cards of a sheet, made as the page takes them; `count` says how many that were."""

    def __init__(self, rows: Iterable[SheetRow], folder: Path, thumbnail: int) -> None:
        self.count = 0
        self._rows, self._folder, self._thumbnail = rows, folder, thumbnail

    def __iter__(self) -> Iterator[Card]:
        for row in self._rows:
            self.count += 1
            name = row.name or ("" if isinstance(row.image, Image.Image) else Path(row.image).name)
            shown = frame(row.image, self._thumbnail, self._folder)
            yield Card(shown, name, self.count, row.score, row.percentile, row.prompt, components=row.components)
