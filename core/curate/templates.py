"""File names made from a template such as "{score:+.2f}_{name}"."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path

from ..errors import ImageRewardError
from ..files.names import safe_name

FIELDS = ("score", "percentile", "rank", "name", "folder", "prompt", "scorer", "model")
Value = str | float | None
_LONGEST_NAME = 200  # bytes of the 255 that most file systems give: some are for the ending, a number and a companion
_WIDEST = 200
_SAMPLES: dict[str, Value] = dict.fromkeys(FIELDS, "x") | {"score": 0.5, "percentile": 0.5, "rank": 1}


def check_template(template: str) -> None:
    """Raises ImageRewardError for a template with a field that does not exist or a format that does not fit it."""
    fill(template, _SAMPLES)


def fill(template: str, values: Mapping[str, Value]) -> str:
    """The template with the values in their formats. Only plain fields: no attributes, items, conversions or nested fields."""
    try:
        pieces = list(string.Formatter().parse(template))
        fields = [name for _, name, _, _ in pieces if name is not None]
        if not fields:
            raise ValueError("it has no field")
        return "".join(
            text + _formatted(name, form or "", conversion, values) for text, name, form, conversion in pieces
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ImageRewardError(
            f"cannot rename to {template!r} ({error}). The fields are {', '.join(FIELDS)}, as in "
            '"{score:+.2f}_{name}"; a brace itself is written twice.'
        ) from error


def file_name(template: str, values: Mapping[str, Value], old: Path) -> str:
    """The name that a template gives a file: safe on every system, with the file's own ending."""
    stem = fill(template, values).removesuffix(old.suffix)
    return (safe_name(stem, _LONGEST_NAME) or old.stem) + old.suffix


def _formatted(name: str | None, form: str, conversion: str | None, values: Mapping[str, Value]) -> str:
    if name is None:
        return ""
    if name not in FIELDS:
        raise ValueError(f"unknown field {name!r}")
    if conversion or "{" in form:
        raise ValueError(
            f"expected a format such as +.2f for {name!r}, got {f'!{conversion}' if conversion else form!r}"
        )
    if any(int(number) > _WIDEST for number in re.findall(r"\d+", form)):
        raise ValueError(f"a format of more than {_WIDEST} characters for {name!r}")
    return format(values[name], form)
