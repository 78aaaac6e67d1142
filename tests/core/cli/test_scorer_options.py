"""The kinds of values that options take: each bound, and what lies just beyond it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest
from sd_imagereward.core.cli.scorer_options import count, finite, names, port, positive, share


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (positive, "1", 1),
        (count, "0", 0),
        (port, "1", 1),
        (port, "65535", 65535),
        (finite, "-2.5e3", -2500.0),
        (share, "0", 0.0),
        (share, "1", 1.0),
        (names, "a, mix(b=1, c=2),a", ["a", "mix(b=1, c=2)"]),
    ],
)
def test_values_up_to_the_bounds_are_taken(kind: Callable[[str], Any], text: str, value: object) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((positive, text) for text in ("0", "-1", "1.5", "many", "")),
        *((count, text) for text in ("-1", "0.5", "none")),
        *((port, text) for text in ("0", "65536", "http")),
        *((finite, text) for text in ("nan", "inf", "-inf", "high", "")),
        *((share, text) for text in ("-0.01", "1.01", "nan")),
        *((names, text) for text in ("", " , ")),
    ],
)
def test_values_beyond_them_are_refused(kind: Callable[[str], Any], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        kind(text)
