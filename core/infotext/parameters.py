"""The grammar of A1111's generation parameters, the text that PNG Info shows and 'Send to txt2img' reads.

    a cat, a dog                                       the prompt: any number of lines
    Negative prompt: blurry                            and more lines
    Steps: 20, Sampler: Euler a, Lora hashes: "a: 1, b: 2", Size: 512x512

The parameters line has at least three `Key: value` pairs. Keys are letters, digits, `_`, `-`, `/` and spaces, two or more.
A value with a comma, colon or line break is written as a JSON string. AUTOMATIC1111 1.10.1 (`parse_generation_parameters` and
`quote`; Forge and reForge have the same) looks at the last line alone. Extensions write behind it, though ("Template: ..",
values with line breaks), so that here the first line of well-known settings begins the parameters, and whatever follows
belongs to them. Where no line is well-known, the last one counts, as in A1111.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import ImageRewardError

RECOGNISED_PAIRS = 3
NEGATIVE = "Negative prompt:"
# Settings that no caption has: the key and what its value looks like.
_NUMBER = r"-?\d+(?:\.\d+)?"
_SETTINGS = {
    **dict.fromkeys(("steps", "seed", "clip skip", "cfg scale", "denoising strength", "distilled cfg scale"), _NUMBER),
    **{"size": r"\d+ ?[x×] ?\d+", "model hash": r"[0-9a-f]{6,64}"},
    **dict.fromkeys(("sampler", "schedule type", "scheduler", "scored with"), r".*\S.*"),
}

# Dynamic prompts writes its templates behind the parameters, unquoted.
_TEMPLATE = re.compile(r"\s*(?P<key>Template|Negative Template): ?(?P<value>.*)", re.DOTALL)
_LINE_BREAK = re.compile(r'(?<=:)[ \t]*"(?:\\.|[^"\\])*"(?=[ \t]*(?:,|\n|$))|\n')
_SCORE = re.compile(r"-?\d+\.\d{2,}")
_WORDS = re.compile(r"[^\W\d_]{3}|[\u3040-\u9fff\uac00-\ud7a3]")

_KEY = r"\w[\w \-/]+"
# Behind a letter of a key no key begins, so that a run of them is read once, not once from each of its letters.
_PAIR = re.compile(rf'(?<![\w \-/])[ \-/]*(?P<key>{_KEY}):\s*(?P<value>"(?:\\.|[^"\\])+"|[^,]*)(?:,|$)')


@dataclass
class Parameters:
    """A parameters text taken apart. `fields` holds its pairs of settings, unquoted, in their order."""

    prompt: str = ""
    negative: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The text again, as A1111 writes it. Fewer than three fields would not be recognised when it is read."""
        negative = f"{NEGATIVE} {self.negative}" if self.negative else ""
        return "\n".join(part for part in (self.prompt, negative, join_pairs(self.fields)) if part).strip()


def parse_parameters(text: str) -> Parameters:
    """Takes a parameters text apart as A1111 does; a text without parameters line is all prompt.

    Each line loses the white space at its ends. Of a key that occurs twice the last value counts. `Size` stays one
    field, "512x768".
    """
    body, settings = split_text(text)
    return Parameters(*split_negative(body), fields_of(settings))


def without_fields(text: str, keys: Iterable[str]) -> str:
    """The text without the pairs of these keys."""
    parameters = parse_parameters(text)
    for key in keys:
        parameters.fields.pop(key, None)
    return parameters.text()


def split_negative(body: str) -> tuple[str, str]:
    """(prompt, negative prompt) of the text before the parameters."""
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for row in body.split("\n"):
        row = row.strip()
        if row.startswith(NEGATIVE):
            current, row = negative, row[len(NEGATIVE) :].strip()
        if row or current:  # empty lines inside stay, empty lines before the first word go
            current.append(row)
    return "\n".join(prompt), "\n".join(negative)


def fields_of(settings: str) -> dict[str, str]:
    """The pairs of the parameters, unquoted. Of those behind the first line, "Template: {red|grey} fox" is one pair."""
    first, *others = settings_lines(settings)
    # A key without value is no field; an empty text in quotes is.
    fields = {pair["key"]: unquote(pair["value"]) for pair in pairs(first) if pair["value"]}
    for line in others:
        template = _TEMPLATE.match(line)
        found = [template] if template else pairs(line)
        fields |= {pair["key"]: unquote(pair["value"]) for pair in found if pair["value"]}
    return fields


def split_text(text: str) -> tuple[str, str]:
    """The text before the parameters, and the parameters, which are empty if no line is recognised as their first."""
    text = text.strip()
    start = 0
    for line in text.split("\n"):
        if begins_settings(line):
            return text[: max(0, start - 1)], text[start:]
        start += len(line) + 1
    body, _, line = text.rpartition("\n")
    return (body, line) if sum(1 for _ in pairs(line)) >= RECOGNISED_PAIRS else (text, "")


def begins_settings(line: str, least: int = RECOGNISED_PAIRS) -> bool:
    """Whether a line is one of at least so many pairs, all but one of `least` well-known settings, from its start on."""
    found = list(pairs(line)) if ":" in line else []
    if len(found) < least or line[: found[0].start("key")].strip() or _ends_in_setting(found[0]["key"]):
        return False
    return sum(map(is_setting, found)) >= least - 1


def settings_lines(settings: str) -> list[str]:
    """The parameters line by line; a line break inside a quoted value ends none."""
    lines, start = [], 0
    for found in _LINE_BREAK.finditer(settings):
        if found[0] == "\n":
            lines.append(settings[start : found.start()])
            start = found.end()
    return [*lines, settings[start:]]


def is_caption(line: str) -> bool:
    """Whether a line of pairs describes a picture, "Subject: a fox, Mood: calm", and holds no settings and no scores."""
    found = list(pairs(line))
    if any(is_setting(pair) or _SCORE.fullmatch(pair["value"].strip()) for pair in found):
        return False
    return 2 * sum(1 for pair in found if _WORDS.search(pair["value"])) > len(found)


def without_scores(line: str) -> str:
    """A line without the pairs of scores at its end."""
    found = list(pairs(line))
    while found and _SCORE.fullmatch(found[-1]["value"].strip()):
        line = line[: found.pop().start()].rstrip(" ,")
    return line


def is_setting(pair: re.Match[str]) -> bool:
    """Whether a pair is a well-known setting of a generation: its key, and a value of its form."""
    form = _SETTINGS.get(pair["key"].strip().lower())
    return form is not None and re.fullmatch(form, unquote(pair["value"].strip()), re.IGNORECASE) is not None


def has_settings(text: str) -> bool:
    """Whether a text has a parameters line, with a well-known setting in it."""
    return any(map(is_setting, pairs(settings_lines(split_text(text)[1])[0])))


def is_parameters(text: str) -> bool:
    """Whether a text that may be about anything is one of parameters: by its settings, or as the JSON of Fooocus."""
    if has_settings(text):
        return True
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _ends_in_setting(key: str) -> bool:
    """ "a red fox Steps": a prompt that runs into the parameters without a line break."""
    return key.lower().strip().endswith(("negative prompt", *(f" {name}" for name in _SETTINGS)))


def pairs(line: str) -> Iterator[re.Match[str]]:
    """The `Key: value` pairs of a line, as matches with the groups `key` and `value` (still quoted)."""
    return _PAIR.finditer(line)


def join_pairs(fields: Mapping[str, str]) -> str:
    """One line of `Key: value` pairs. A key that could not be read back is an error."""
    for key in fields:
        if not is_key(key):
            raise ImageRewardError(
                f"{key!r} cannot be a key on the parameters line: expected two or more letters, digits, spaces, "
                "'_', '-' or '/', beginning with a letter, a digit or '_'."
            )
    return ", ".join(f"{key}: {quote(value)}" for key, value in fields.items())


def is_key(text: str) -> bool:
    return re.fullmatch(_KEY, text) is not None


def quote(value: str) -> str:
    """The value as it stands on the parameters line: as it is, or as a JSON string where it would be misread."""
    misread = value != value.strip() or not value or value[0] == '"' or any(mark in value for mark in ",:\n")
    return json.dumps(value, ensure_ascii=False) if misread else value


def unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value, strict=False))  # some write a line break as it is
    except ValueError:  # quotes that are no JSON string are part of the value
        return value
