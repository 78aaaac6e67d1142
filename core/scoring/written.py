"""The scores that a file already carries."""

from __future__ import annotations

import re
from collections.abc import Mapping

from PIL import Image

from ..infotext.parameters import fields_of, parse_parameters
from ..infotext.scores import RAW_PROMPT, score_key
from ..pictures.label import read_label
from ..pictures.opening import upright_size
from ..pictures.texts import read_texts
from ..scorers.registry import known_titles, scorer_infos

_FOREIGN = ("aesthetic_score",)  # other programs' scores that people sort by
_EXTRAS = "postprocessing"  # what the Extras tab of a WebUI did; it leaves the parameters as they were
_HIRES_SIZES = ("Hires size", "Hires resize", "Hires fixed")  # 1024x0: the second side follows from the first
_HIRES_SCALES = ("Hires upscale", "Hires scale")
_CUT = 8  # a decoder makes sides of whole multiples, so that a scaled one comes out up to this much shorter


def written_scores(text: str) -> dict[str, float]:
    """The scores by title in a parameters text: those of this package's scorers and mixtures, and `aesthetic_score`.

    Args:
        text: what `read_parameters` returns.

    Returns:
        Score by title. A title may have a number behind ("ImageReward 2": a mixture of two checkpoints of a kind).
    """
    return read_label(text, [*_FOREIGN, *known_titles()], numbered=True)


def matching_scores(image: Image.Image) -> dict[str, float]:
    """The scores in an image file that scorers of the registry gave to this very picture, as far as the file tells.

    It tells of another picture where the size differs from that in the parameters, and where Extras worked on it since
    without scoring it again. The total of a mixture tells nothing of its weights, and a prompt that was scored with its
    syntax is another prompt. Whether somebody painted over the picture, no file tells.

    Args:
        image: opened from the file; it need not be decoded.

    Returns:
        Score by name of the scorer.
    """
    texts = read_texts(image)
    parameters = texts.get("parameters", "")
    names = {info.title: name for name, info in scorer_infos().items()}
    written = read_label(parameters, names)
    if not written:
        return {}
    fields = parse_parameters(parameters).fields
    if RAW_PROMPT in fields:
        return {}
    if _EXTRAS in texts:
        later = fields_of(texts[_EXTRAS])
        return {names[title]: score for title, score in written.items() if _stands(title, later, fields)}
    if not _is_size(upright_size(image), fields):
        return {}
    return {names[title]: score for title, score in written.items()}


def _stands(title: str, later: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    key = score_key(title)
    return key in later and later[key] == fields.get(key)


def _is_size(size: tuple[int, int], fields: Mapping[str, str]) -> bool:
    """Whether a picture of these fields is (width, height); a side of 0 may be any."""
    expected = _expected_size(fields)
    if expected is None:
        return False
    return all(not side or 0 <= side - found < _CUT for side, found in zip(expected, size, strict=True))


def _expected_size(fields: Mapping[str, str]) -> tuple[int, int] | None:
    first = _sides(fields.get("Size", ""))
    hires = next((_sides(fields[key]) for key in _HIRES_SIZES if key in fields), None)
    if first is None or hires is not None:
        return hires
    factor = next((_factor(fields[key]) for key in _HIRES_SCALES if key in fields), 1.0)
    return int(first[0] * factor), int(first[1] * factor)


def _sides(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    return (int(found[1]), int(found[2])) if found else None


def _factor(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text) else 0.0
