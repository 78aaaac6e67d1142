"""Scores on the parameters line: `ImageReward: 0.5812` beside `Steps: 20`, where PNG Info and image browsers look."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import chain

from .parameters import RECOGNISED_PAIRS, is_caption, join_pairs, pairs, settings_lines, split_text, unquote

RAW_PROMPT = "ImageReward raw prompt"  # the key that says that a score is of the prompt with its syntax

# Pairs for a line that has to be made and has too few others to be recognised: true of every file, whenever read.
_FILLER = {"Scored with": "sd-imagereward", "Score meaning": "higher is better"}


def score_pair(title: str, value: float, decimals: int = 4) -> str:
    """The text of one score: `ImageReward: 0.5812`, `ImageReward: -1.4132`.

    A title ending in "Score" gets the word "value" added ("PickScore value: 0.2213"), because an image browser searches
    files for "Score: <number>" and would take it for its own. What cannot stand in a key ("HPS v2.1") becomes "-".
    """
    return f"{score_key(title)}: {format_score(value, decimals)}"


def score_key(title: str) -> str:
    """The key under which the score of this title is written."""
    key = re.sub(r"[^\w \-/]", "-", title).strip(" -/")
    if len(key) < 2 or (key.lower().endswith("score") and key.lower() != "aesthetic_score"):
        key = f"{key} value".strip()
    return key


def format_score(value: float, decimals: int = 4) -> str:
    """The number with a fixed count of decimals; a value that rounds to zero has no minus sign."""
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def score_texts(scores: Mapping[str, float], decimals: int = 4) -> dict[str, str]:
    """Key and text of each score as they stand on the parameters line. One that is not finite has none."""
    return {score_key(title): format_score(value, decimals) for title, value in scores.items() if math.isfinite(value)}


def set_scores(
    parameters: str, scores: Mapping[str, float], decimals: int = 4, *, facts: Mapping[str, str] | None = None
) -> str:
    """The parameters text with one pair for each score on its parameters line.

    A pair that is already there gets the new value in its place; all else stays as it was. A text without parameters line
    (a bare prompt, an empty text, a picture from elsewhere) gets one, made of `facts` and the scores. If these are fewer than
    the three pairs that A1111 needs, "Scored with: sd-imagereward" and "Score meaning: higher is better" make up the number.

    Args:
        parameters: the A1111 text, "" where there is none.
        scores: value by title. One that is not finite is not written, and an older value is left.
        decimals: digits behind the point.
        facts: true pairs that the caller knows, such as {"Size": "512x768", "Version": "ComfyUI"}.

    Returns:
        The changed text.
    """
    written = score_texts(scores, decimals)
    if not written:
        return parameters
    body, settings = split_text(parameters)
    if is_caption(settings):  # "Subject: a fox, Mood: calm" describes the picture
        body, settings = parameters.strip(), ""
    if not settings:
        body, settings = _without_short_line(body)
        settings = _with_facts(settings, facts or {})
    first, *others = settings_lines(settings)
    missing = dict(written)
    first = _with_values(first, missing)
    others = [_with_values(line, missing) for line in others]
    first = _completed(", ".join(part for part in (first, join_pairs(missing)) if part))
    return "\n".join([*([body] if body else []), first, *others])


def read_scores(parameters: str, titles: Iterable[str], *, numbered: bool = False) -> dict[str, float]:
    """The scores on the parameters line by title, in its order; an empty dict if there are none. NaN is no score.

    `titles`: which titles to look for. `numbered`: also those with a number behind ("ImageReward 2": a mixture of two
    checkpoints of a kind).
    """
    title_of = {score_key(title): title for title in titles}
    found = {}
    for pair in chain.from_iterable(map(pairs, settings_lines(split_text(parameters)[1]))):
        title = title_of.get(pair["key"])
        if title is None and numbered:
            title = _numbered(pair["key"], title_of)
        value = _number(unquote(pair["value"]))
        if title is not None and value is not None:
            found[title] = value
    return found


def _with_values(line: str, missing: dict[str, str]) -> str:
    """The line with the values of `missing` in the places of their keys; what is placed is taken out of `missing`."""
    pieces: list[str] = []
    placed: set[str] = set()
    end = 0
    for pair in pairs(line):
        if pair["key"] not in missing and pair["key"] not in placed:
            continue
        before = line[end : pair.start("key")]
        if pair["key"] in missing:
            pieces += [
                before,
                line[pair.start("key") : pair.start("value")],
                missing.pop(pair["key"]),
                line[pair.end("value") : pair.end()],
            ]
            placed.add(pair["key"])
        else:
            pieces.append(before.rstrip())
        end = pair.end()
    return ("".join(pieces) + line[end:]).rstrip().rstrip(",").strip()


def _without_short_line(body: str) -> tuple[str, str]:
    """The text, and a last line that means to be a parameters line but has too few pairs ("Steps: 20, Seed: 1")."""
    before, _, last = body.rpartition("\n")
    return (before, last.strip()) if last.strip().startswith("Steps: ") else (body, "")


def _with_facts(line: str, facts: Mapping[str, str]) -> str:
    present = {pair["key"] for pair in pairs(line)}
    missing = {key: value for key, value in facts.items() if key not in present}
    return ", ".join(part for part in (line.rstrip(","), join_pairs(missing)) if part)


def _completed(line: str) -> str:
    """The line with as many pairs as it takes to be recognised."""
    missing = max(0, RECOGNISED_PAIRS - sum(1 for _ in pairs(line)))
    return ", ".join([line, *(f"{key}: {value}" for key, value in list(_FILLER.items())[:missing])])


def _numbered(key: str, title_of: Mapping[str, str]) -> str | None:
    """ "HPS v2-1 2" -> "HPS v2.1 2": the title of a mixture's second member of a kind, None if it is none."""
    first, _, number = key.rpartition(" ")
    return f"{title_of[first]} {number}" if first in title_of and re.fullmatch("[2-9]|[1-9][0-9]", number) else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
