"""The label of a file: `ImageReward: 0.5812` among its parameters, set without decoding or encoding a pixel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import BadImage, ImageRewardError
from ..files.atomic import replacing
from ..infotext.scores import read_scores, score_texts, set_scores
from .formats import avif, jpeg, png, webp
from .formats.tiff import comment_of, with_comment
from .opening import open_header, read_file

Change = Callable[[str], str]  # old text, "" where there is none -> new text

_NAME = "the file"  # in messages about bytes
_EXIF_CONTAINERS: tuple[Any, ...] = (jpeg, webp, avif)


def label_file(path: str | os.PathLike[str], scores: Mapping[str, float], decimals: int = 4) -> bool:
    """Writes scores into a PNG, JPEG, WebP or AVIF file, without decoding or encoding a pixel.

    The file is replaced as a whole or not at all; its pixels, other metadata, times, permissions, owner and extended
    attributes stay as they were.

    Args:
        path: the file.
        scores: value by title, such as {"ImageReward": 0.5812}.
        decimals: digits behind the point.

    Returns:
        Whether the file changed; False if the same scores stood there already.

    Raises:
        BadImage: the file is damaged, of another format or not to be read now.
        ForeignText: its text is in a form that is not understood.
        ImageRewardError: a JPEG's EXIF has no room for the scores.
        UnwritableFile: the file is read-only, has hard links or cannot keep its owner.
    """
    old, new = relabel_file(path, scores, decimals)
    return old != new


def relabel_file(
    path: str | os.PathLike[str],
    scores: Mapping[str, float],
    decimals: int = 4,
    *,
    check: Callable[[bytes], None] = lambda data: None,
) -> tuple[bytes, bytes]:
    """`label_file` that returns the file's bytes before and after. `check` sees those before, and may raise."""
    old = read_file(path)
    check(old)
    new = labelled(old, scores, decimals)
    if new != old:
        with replacing(path, keep_attributes=True) as file:
            file.write(new)
    return old, new


def labelled(data: bytes, scores: Mapping[str, float], decimals: int = 4) -> bytes:
    """The bytes of an image file with these scores among its parameters; see `label_file`."""
    try:
        image = open_header(_NAME, data)
        facts = {"Size": f"{image.width}x{image.height}"}
        new = _changed(data, lambda text: with_scores(text, scores, decimals, facts))
        open_header(_NAME, new)
    except ImageRewardError:
        raise
    except Exception as error:  # a decoder or a parser meets damage in ways of its own
        raise BadImage(f"no label written: {error}") from error
    return new


def read_label(text: str, titles: Iterable[str], *, numbered: bool = False) -> dict[str, float]:
    """The scores in a parameters text by title, on A1111's last line or in Fooocus' JSON; `read_scores` says which."""
    fields = _json_object(text)
    if fields is not None:
        text = set_scores("", {key: value for key, value in fields.items() if isinstance(value, float)})
    return read_scores(text, titles, numbered=numbered)


def with_scores(text: str, scores: Mapping[str, float], decimals: int, facts: Mapping[str, str]) -> str:
    """The text with a pair for each score; Fooocus' JSON gets a key, so that it stays JSON."""
    fields = _json_object(text)
    if fields is None:
        return set_scores(text, scores, decimals, facts=facts)
    added = {key: float(value) for key, value in score_texts(scores, decimals).items()}
    return text if fields | added == fields else json.dumps(fields | added)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _changed(data: bytes, change: Change) -> bytes:
    if png.recognises(data):
        return png.with_changed_text(data, change)
    for container in _EXIF_CONTAINERS:
        if container.recognises(data):
            exif = container.exif_of(data)
            old = comment_of(exif) or container.other_text(data)
            new = change(old)
            return data if new == old else container.with_exif(data, with_comment(exif, new))
    raise BadImage("expected a PNG, JPEG, WebP or AVIF file")
