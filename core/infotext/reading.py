"""Generation parameters as people's files have them: without line breaks, with too few pairs, with words in front.

`parameters` holds the grammar. This module finds prompt and settings in a text that was damaged on its way, and says when it
could not tell the one from the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .parameters import NEGATIVE, begins_settings, fields_of, is_caption, split_negative, split_text, without_scores

# Where parts begin in a text that lost its line breaks: "a fox Negative prompt: blurry Steps: 20, Sampler: .."
_INLINE = re.compile(r"[ \t,;.]+(?=Steps: ?\d+(?:, ?[A-Z]|$))|\s+(?=Negative prompt: )")
_ESCAPED = re.compile(r"\\n(?=Negative prompt:|Steps: ?\d)")
_NEGATIVE = re.compile(
    r"^[ \t]*(?:negative[ _]?prompt|反向提示词|负面提示词|ネガティブプロンプト)[ \t]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_POSITIVE = re.compile(r"^\s*(?:positive[ _]?)?prompt\s*[:：]\s*", re.IGNORECASE)
_STEPS_ALONE = re.compile(r"\s*Steps: ?\d+\s*,?\s*")
_LEFT_OVER = re.compile(r"\bSteps: ?\d+\b|\bSampler: ?\w|\bCFG scale: ?\d|^Negative prompt:", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """What a parameters text says, and in `uncertain` why it may be misread ("" where it is plain)."""

    prompt: str = ""
    negative: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    uncertain: str = ""


def read_infotext(text: str) -> Reading:
    """The prompt, negative prompt and settings of a text that is said to hold generation parameters. Never fails."""
    body, settings = _split(_with_line_breaks(text))
    prompt, negative = split_negative(body)
    fields = fields_of(settings)
    if fields or negative:
        prompt = _POSITIVE.sub("", prompt)
    doubt = "its settings could not be told from the prompt" if _LEFT_OVER.search(prompt) else ""
    return Reading(prompt.strip(), negative.strip(), fields, doubt)


def _with_line_breaks(text: str) -> str:
    """The text with line breaks before its parts, and the negative prompt's name as A1111 spells it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff\0 \t\n")
    if "\n" not in text and _ESCAPED.search(text):
        text = text.replace("\\n", "\n")
    text = _NEGATIVE.sub(NEGATIVE, text)
    if not any(map(_begins, text.split("\n"))) or _LEFT_OVER.search(_split(text)[0]):
        split_text = _INLINE.sub("\n", text)
        text = split_text if any(map(_begins, split_text.split("\n"))) else text
    return text


def _split(text: str) -> tuple[str, str]:
    """As `split_text`, but two pairs are enough, and a line of pairs that is a caption is none of settings."""
    start = 0
    for line in text.split("\n"):
        if _begins(line):
            return text[: max(0, start - 1)], text[start:]
        start += len(line) + 1
    body, settings = split_text(text)
    unscored = without_scores(settings)
    if not is_caption(unscored) or body.startswith(NEGATIVE) or f"\n{NEGATIVE}" in body:
        return body, settings
    return f"{body}\n{unscored}".strip(), ""


def _begins(line: str) -> bool:
    return begins_settings(line, least=2) or _STEPS_ALONE.fullmatch(line) is not None
