"""The grammar of A1111's generation parameters, the text that PNG Info shows and 'Send to txt2img' reads.

    a cat, a dog                                       the prompt: any number of lines
    Negative prompt: blurry                            and more lines
    Steps: 20, Sampler: Euler a, Lora hashes: "a: 1, b: 2", Size: 512x512

The last line counts as the parameters line if it has at least three `Key: value` pairs. Keys are letters, digits,
`_`, `-`, `/` and spaces, two or more. A value with a comma, colon or line break is written as a JSON string.
Behaviour of AUTOMATIC1111 1.10.1, `parse_generation_parameters` and `quote`; Forge and reForge have the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import ImageRewardError

RECOGNISED_PAIRS = 3
NEGATIVE = "Negative prompt:"

_KEY = r"\w[\w \-/]+"
# Behind a letter of a key no key begins, so that a run of them is read once, not once from each of its letters.
_PAIR = re.compile(rf'(?<![\w \-/])[ \-/]*(?P<key>{_KEY}):\s*(?P<value>"(?:\\.|[^"\\])+"|[^,]*)(?:,|$)')


@dataclass
class Parameters:
    """A parameters text taken apart. `fields` holds the pairs of the last line, unquoted, in their order."""

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
    body, line = split_text(text)
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for row in body.split("\n"):
        row = row.strip()
        if row.startswith(NEGATIVE):
            current, row = negative, row[len(NEGATIVE) :].strip()
        if row or current:  # empty lines inside stay, empty lines before the first word go
            current.append(row)
    # A key without value is no field; an empty text in quotes is.
    fields = {pair["key"]: unquote(pair["value"]) for pair in pairs(line) if pair["value"]}
    return Parameters("\n".join(prompt), "\n".join(negative), fields)


def split_text(text: str) -> tuple[str, str]:
    """The text before the parameters line, and that line, which is empty if the last line is not recognised as one."""
    text = text.strip()
    body, _, line = text.rpartition("\n")
    return (body, line) if sum(1 for _ in pairs(line)) >= RECOGNISED_PAIRS else (text, "")


def is_parameters(text: str) -> bool:
    """Whether a text that may be about anything is one of parameters: by its last line, or as the JSON of Fooocus."""
    if split_text(text)[1]:
        return True
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


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
        return str(json.loads(value))
    except ValueError:  # quotes that are no JSON string are part of the value
        return value
