"""How a picture came about: its prompt, checkpoint and LoRAs, whichever program wrote them into the file or beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image

from .origin import Origin
from .text_beside import in_text_file, read_beside, texts_beside
from .texts import read_texts
from .writers import WRITERS, Texts

__all__ = ["Origin", "find_origin", "origin_of", "read_sidecar"]


def find_origin(path: str | os.PathLike[str], image: Image.Image | None = None) -> Origin:
    """The origin of an image file: its own metadata, else a text file beside it (`text_beside`), else an empty one.

    image: the file already opened, which spares opening it again. Never fails.
    """
    path = Path(path)
    origin = Origin()
    with suppress(Exception):  # whether the file is an image is for others to say
        texts = read_texts(path if image is None else image)
        origin = origin_of(texts, texts.places)
    if origin.plain:
        return origin
    beside = read_sidecar(path)
    if beside is None or (beside.prompt is None and origin.uncertain):
        return origin
    return replace(beside, model=beside.model or origin.model, loras=beside.loras or origin.loras)


def read_sidecar(path: Path) -> Origin | None:
    """What the text files beside an image say; None if there are none, or nothing in them."""
    found: list[Origin] = []
    for beside in texts_beside(path):
        text, doubt = read_beside(beside)
        if text or doubt:
            found.append(in_text_file(origin_of({"parameters": text}), beside, doubt))
    first = next((origin for origin in found if origin.plain), found[0] if found else None)
    if first is None:
        return None
    others = [origin.where for origin in found if origin.plain and not _alike(origin, first)]
    if others and not first.uncertain:
        return replace(first, uncertain=f"{first.where} and {others[0]} hold different prompts")
    return first


def origin_of(texts: Mapping[str, str], places: Mapping[str, str] | None = None) -> Origin:
    """The origin that the texts of a file tell, by name as `read_texts` gives them; an empty one if they tell nothing.

    places: where each of the texts lies, for `Origin.where`.
    """
    sources = Texts(texts, places)
    found = [origin for origin in (writer.read(sources) for writer in WRITERS) if origin is not None]
    with_prompt = [origin for origin in found if origin.plain]
    chosen = next(iter(with_prompt), None) or next(iter(found), Origin())
    for other in with_prompt:
        # Save nodes of ComfyUI write the prompt alone as parameters; the rest is in the graph beside it.
        if other.program == "ComfyUI" and chosen.program == "A1111":
            chosen = replace(chosen, program="ComfyUI")
            if not _alike(chosen, other) and not chosen.uncertain and not other.uncertain:
                chosen = replace(chosen, uncertain="its parameters and its graph hold different prompts")
    for other in found:
        chosen = replace(
            chosen,
            negative=chosen.negative or other.negative,
            model=chosen.model or other.model,
            loras=chosen.loras or other.loras,
            uncertain=chosen.uncertain or ("" if chosen.plain else other.uncertain),
        )
    return chosen


def _alike(one: Origin, other: Origin) -> bool:
    """Whether two prompts say the same, or one says what the other says and more."""
    first, second = (" ".join(re.findall(r"\w+", (origin.plain or "").lower())) for origin in (one, other))
    return first in second or second in first
