"""JSON and YAML of unknown origin: bounded, strict, and never another error than the project's own."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.errors import ImageRewardError, UnreadableText
from sd_imagereward.core.files.parsing import MOST_LEVELS, MOST_YAML, parse_json, parse_yaml

ALIAS_BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[" * 100_000, "more than 64 levels"),
        ("[" * 100 + "]" * 100, "more than 64 levels"),
        ('{"a": ' * 100 + "1" + "}" * 100, "more than 64 levels"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1" * 5000, "5000 digits"),
        ('"\\ud800"', "half of a surrogate pair"),
    ],
)
def test_bad_json_is_named(text: str, said: str) -> None:
    with pytest.raises(UnreadableText, match=f"cannot read some.json as JSON: .*{said}"):
        parse_json(text, "some.json")


def test_good_json_is_what_the_library_reads() -> None:
    for value in ({"a": [1, 2.5, None, True, "ü🦊"]}, [[[]]], "x", -(10**40)):
        assert parse_json(json.dumps(value), "f") == value
    deepest = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert json.dumps(parse_json(f"[{deepest[1:-1]}, {'[],' * 99} []]", "f")).count("[") == MOST_LEVELS + 100
    assert parse_json("[NaN, Infinity]", "f", constants=True)[1] == float("inf")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {", "expected"),
        (ALIAS_BOMB, "aliases"),
        ("a: &a [*a]", "aliases"),
        ("[" * 100_000, "more than 64 levels"),
        ("- " * 100 + "x", "more than 64 levels"),
        ("{a: 1, a: 2}", "stands twice"),
        ("a: !!timestamp soon", "cannot read"),
        ("a: !!python/object/apply:os.getcwd []", "constructor"),
        ("a: " + "1" * 5000, "digits|limit"),
        ("? [a]\n: b", "unhashable"),
        ("\x00", "not allowed"),
        ("x" * (MOST_YAML + 1), "at most 4 MiB"),
    ],
)
def test_bad_yaml_is_named(text: str, said: str) -> None:
    pytest.importorskip("yaml")
    began = time.process_time()
    with pytest.raises(UnreadableText, match=said):
        parse_yaml(text, "some.yaml")
    assert time.process_time() - began < 5


def test_good_yaml_is_what_the_library_reads() -> None:
    yaml = pytest.importorskip("yaml")
    for value in ({"a": [1, 2.5, None, True, "ü🦊"], "b": {"c": {}}}, [[], []], "x"):
        text = yaml.safe_dump(value, allow_unicode=True)
        assert parse_yaml(text, "f") == value == yaml.safe_load(text)


ODD = '{}[]:,"&*!|>%@`?-\n\t\\\x00\x85 \ud800~<1e9'
SEEDS = ('{"mix": {"imagereward": 1, "a b": 0.5e-2}, "normalise": false}', "mix:\n  imagereward: 1\n  x: [1, {y: 2}]\n")


@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_random_damage_ends_in_one_error(text: str, seed: int) -> None:
    pytest.importorskip("yaml")
    dice = random.Random(seed)
    letters = list(text)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(letters))
        letters[place : place + dice.randint(0, 3)] = dice.choice(
            '{}[]:,"&*!|>%@`?-\n\t\\\x00\x85 \ud800~<1e9'
        ) * dice.randint(0, 3)
    for parse in (parse_json, parse_yaml):
        with suppress(ImageRewardError):
            parse("".join(letters), "f")
