"""Settings that come from Python, where nothing has looked at their types yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field
from numbers import Integral, Real
from typing import Any

from ..errors import ImageRewardError


def expect_kind(field: Field[Any], value: object) -> None:
    """Raises ImageRewardError unless the value is of the field's annotated type: bool, int, float, str, tuples of them, None.

    Numbers must be finite; 3.0 is no count, and True no number.
    """
    kind = str(field.type)
    if value is None and "None" in kind:
        return
    if kind.startswith("tuple[int"):
        if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_count, value)):
            raise ImageRewardError(f"expected two whole numbers as {field.name}, got {value!r:.200}")
    elif "tuple[str" in kind:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
            raise ImageRewardError(f"expected a text, or a sequence of texts, as {field.name}, got {value!r:.200}")
    else:
        name = kind.split(" ")[0]
        expected, fits = _KINDS[name]
        if not fits(value):
            raise ImageRewardError(f"expected {expected} as {field.name}, got {value!r:.200}")


def expect_range(
    name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raises ImageRewardError unless low <= value <= high; open_low, open_high: that end is not in it."""
    if value < low or value > high or (open_low and value == low) or (open_high and value == high):
        bound = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = "" if high == math.inf else f" and below {high:g}" if open_high else f" and at most {high:g}"
        raise ImageRewardError(f"{name} must be {bound}{upper}, got {value}")


def plain(value: Any) -> Any:
    """A setting as JSON and YAML can hold it: numpy's numbers as Python's, tuples as lists."""
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_count),
    "float": ("a finite number", _is_number),
    "str": ("a text", lambda value: isinstance(value, str)),
}
