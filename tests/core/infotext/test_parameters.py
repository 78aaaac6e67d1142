"""A1111's grammar: the quoting of `infotext_utils.quote`, the last line as `parse_generation_parameters` finds it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.infotext.parameters import (
    Parameters,
    begins_settings,
    is_parameters,
    pairs,
    parse_parameters,
    quote,
    unquote,
    without_fields,
)

EXAMPLE = (
    "a cat: sitting,\n(masterpiece:1.2) <lora:fur:0.8>\n\nNegative prompt: blurry,\nbad: hands\n"
    'Steps: 20, Sampler: Euler a, Size: 512x768, Lora hashes: "fur: 1a2b, tail: 3c4d", Version: v1.10.1'
)


def test_fields_are_taken_out():
    less = without_fields(EXAMPLE, ["Sampler", "Lora hashes", "Seed"])
    assert less.splitlines()[-1] == "Steps: 20, Size: 512x768, Version: v1.10.1"
    assert less.splitlines()[:-1] == EXAMPLE.splitlines()[:-1]


keys = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ /\-]{1,12}", fullmatch=True)
fields = st.dictionaries(keys, st.text(max_size=20), min_size=3, max_size=6)


def test_a_real_text_comes_apart():
    parameters = parse_parameters(EXAMPLE)
    assert parameters.prompt == "a cat: sitting,\n(masterpiece:1.2) <lora:fur:0.8>\n"
    assert parameters.negative == "blurry,\nbad: hands"
    assert parameters.fields == {
        "Steps": "20",
        "Sampler": "Euler a",
        "Size": "512x768",
        "Lora hashes": "fur: 1a2b, tail: 3c4d",
        "Version": "v1.10.1",
    }
    assert parameters.text() == EXAMPLE


def test_a_line_of_two_pairs_is_prompt():
    assert parse_parameters("a cat\nSteps: 20, Seed: 1") == Parameters("a cat\nSteps: 20, Seed: 1")
    assert parse_parameters("") == Parameters()


def test_settings_begin_with_well_known_pairs_all_but_one():
    assert begins_settings("Steps: 20, Seed: 5, Mood: calm")
    assert not begins_settings("Steps: 20, Place: wood, Mood: calm")
    assert not begins_settings("Steps: 20, Seed: 5")
    assert begins_settings("Steps: 20, Seed: 5", least=2)


def test_windows_line_ends_and_outer_space_do_no_harm():
    text = "\n a cat \r\nNegative prompt:  dog\r\nSteps: 1, Seed: 2, Size: 8x8 \r\n"
    assert parse_parameters(text) == Parameters("a cat", "dog", {"Steps": "1", "Seed": "2", "Size": "8x8"})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Euler a", "Euler a"),
        ("a, b", '"a, b"'),
        ("a: b", '"a: b"'),
        ("two\nlines", '"two\\nlines"'),
        ('say "hi", you', '"say \\"hi\\", you"'),
        ("ünï, 😀", '"ünï, 😀"'),
        ("", '""'),
        (" padded", '" padded"'),
        ('"quoted"', '"\\"quoted\\""'),
    ],
)
def test_quoting(value, written):
    assert quote(value) == written
    assert unquote(written) == value


def test_quotes_that_are_no_json_stay():
    assert unquote('"\\q"') == '"\\q"'
    assert unquote('"') == '"'


@given(st.text())
def test_any_value_survives_quoting(value):
    assert unquote(quote(value)) == value


@given(fields)
def test_any_fields_survive(values):
    assert parse_parameters(Parameters("a cat", "a dog", values).text()).fields == values


@given(st.text(alphabet=st.sampled_from('ab:, \n"\\x😀é-/')), st.text(alphabet="ab:,\n\"'"), fields)
def test_prompts_survive_but_for_white_space_at_the_ends_of_lines(prompt, negative, values):
    once = parse_parameters(Parameters(prompt, negative, values).text())
    assert once.prompt.split() == prompt.split()
    assert once.negative.split() == negative.split()
    assert parse_parameters(once.text()) == once


@pytest.mark.parametrize("key", ["", "a", "a:b", "a,b", "-a", "two\nlines"])
def test_keys_that_could_not_be_read_back_are_refused(key):
    with pytest.raises(ImageRewardError, match="cannot be a key"):
        Parameters(fields={key: "1"}).text()


# The grammar as its docstring puts it, without a thought of how long it takes.
PLAIN_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^"\\])+"|[^,]*)(?:,|$)')


@given(st.text(alphabet='ab_0-/ \t:,"\\\n.é'))
def test_pairs_are_those_of_the_plain_grammar(line):
    assert [pair.group("key", "value") for pair in pairs(line)] == PLAIN_PAIR.findall(line)


@pytest.mark.parametrize("unit", ["a", " ", "a ", " -", "-/", "a,", "é\t", ":", "a:", 'ab: "', "ab: \\", "ab, cd:"])
def test_a_megabyte_of_anything_is_read_once(unit):
    """Where a run were read again from each of its letters, these would take 10^12 steps and never end."""
    text = unit * (1_000_000 // len(unit))
    parse_parameters(f"{text}\n{text}")
    is_parameters(text)
    assert text.count(":") == 0 or sum(1 for _ in pairs(text)) <= text.count(":")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EXAMPLE, True),
        ('{"prompt": "a cat", "base_model": "x"}', True),
        ("Created with GIMP", False),
        ("CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90", False),
        ("{no json", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_what_looks_like_parameters(text, expected):
    assert is_parameters(text) is expected
