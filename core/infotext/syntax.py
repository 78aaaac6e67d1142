"""Host prompt syntax -> plain text: what a person would say the image shows, for scorers that read natural language.

The rules are those of AUTOMATIC1111 1.10 (`prompt_parser.py`, `extra_networks.py`, the script Comments; Forge and reForge
have the same), of ComfyUI's prompt fields, and of the dynamic-prompts extensions:

    <lora:name:1>, <lyco:..>, <hypernet:..>, <any:..>     gone
    embedding:name, embedding:name.pt:1.2                 gone
    # to the end of the line                              gone (the hosts hide it from the model, too)
    (x), ((x)), (x:1.3), [x]                              x
    [from:to:0.5]                                         to
    [x:0.5], [:x:0.5], [x::0.5]                           x: text that comes or goes half-way still shaped the image
    [a|b|c]                                               a b c: the image is a blend of all
    {a|b}, {2$$a|b}, {0.3::a|b}                           a: only one is in the image and which one is unknown
    {{x}}                                                 x
    a AND b :0.8, a BREAK b                               a, b
    \\( \\) \\[ \\]                                           a space, so that "name \\(series\\)" reads "name series"
    __wildcard__                                          stays

No bracket and no backslash is left, escaped or not ("a cat (sleeping)" is emphasis to the hosts and reads "a cat
sleeping"). So plain text stays as it is when it is cleaned again. Brackets without partner vanish, and what they held
stays. White space becomes single spaces; empty places between commas go only where syntax was taken out.
"""

from __future__ import annotations

import re

_COMMENT = re.compile(r"#[^\n]*")
_NETWORK = re.compile(r"<\w+:[^>]+>")
_EMBEDDING = re.compile(r"\bembedding:(?:[^\s,()\[\]{}<>|\\]|\\(?![()\[\]{}]))+", re.IGNORECASE)
_AND = re.compile(r"\bAND\b")
_AND_WEIGHT = re.compile(r"(?<!\s)\s*:\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*$")
_BREAK = re.compile(r"\bBREAK\b")
_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d+)?|\.\d+)\.?\s*")
_DYNAMIC_PREFIX = re.compile(r"^\s*(?:[\d-]*\$\$(?:[^$]*\$\$)?)?(?:\s*(?:\d+(?:\.\d+)?|\.\d+)::)?")
_TOKEN = re.compile(r"\\[()\[\]{}]|\\|[()\[\]{}:|]|[^()\[\]{}:|\\]+")
_OPENER_OF = {")": "(", "]": "[", "}": "{"}


def plain_prompt(text: str) -> str:
    """The prompt without the syntax of A1111, Forge, reForge and ComfyUI, on one line; see the table of this module.

    Never fails. `plain_prompt(plain_prompt(text)) == plain_prompt(text)`.
    """
    before = None
    while before != text:  # what is removed may bring together what then is syntax: "A<lora:x:1>ND"
        before, text = text, _clean_once(text)
    return text


def _clean_once(text: str) -> str:
    cleaned = _COMMENT.sub("", text)
    end = cleaned.rfind(">") + 1  # no tag ends behind it, and looking for one from each "<" takes long
    cleaned = _NETWORK.sub("", cleaned[:end]) + cleaned[end:]
    cleaned = _EMBEDDING.sub("", cleaned)
    cleaned = _without_and(cleaned)
    cleaned = _BREAK.sub(",", cleaned)
    cleaned = _without_brackets(cleaned)
    # A text without syntax keeps its commas, odd as they may be: they are tokens, and its score must not change.
    return " ".join(text.split()) if cleaned == text else _tidy(cleaned)


def _without_and(text: str) -> str:
    parts = _AND.split(text)
    return text if len(parts) == 1 else ", ".join(_AND_WEIGHT.sub("", part).strip() for part in parts)


def _without_brackets(text: str) -> str:
    # Tokens in a row, of which ":" and "|" count as separators, and the places where brackets are open. A group that is
    # closed becomes one token. A stack, not recursion: a thousand brackets must not crash.
    tokens: list[str] = []
    opened: list[tuple[str, int]] = []
    waiting = {"(": 0, "[": 0, "{": 0}
    for token in _TOKEN.findall(text):
        if token in "([{":
            opened.append((token, len(tokens)))
            waiting[token] += 1
        elif token in ")]}":
            opener = _OPENER_OF[token]
            while waiting[opener]:  # those inside that are never closed vanish, and what they held stays
                bracket, start = opened.pop()
                waiting[bracket] -= 1
                if bracket == opener:
                    tokens[start:] = [_RENDER[token](tokens[start:])]
                    break
        elif token[0] == "\\":
            tokens.append(" " if len(token) > 1 else "")
        else:
            tokens.append(token)
    return "".join(tokens)


def _round(tokens: list[str]) -> str:
    """(x) or (x:1.3)"""
    *parts, last = _split(tokens, ":")
    return ":".join(parts) if parts and _NUMBER.fullmatch(last) else "".join(tokens)


def _square(tokens: list[str]) -> str:
    """[a|b], [from:to:when], [to:when] or [x]"""
    options = _split(tokens, "|")
    if len(options) > 1:
        return " ".join(option for option in options if option)
    *texts, when = _split(tokens, ":")
    if 1 <= len(texts) <= 2 and _NUMBER.fullmatch(when):
        return next((text for text in reversed(texts) if text.strip()), "")
    return "".join(tokens)


def _curly(tokens: list[str]) -> str:
    """{a|b} or {x}"""
    options = [_DYNAMIC_PREFIX.sub("", option) for option in _split(tokens, "|")]
    return next((option for option in options if option.strip()), "")


_RENDER = {")": _round, "]": _square, "}": _curly}


def _split(tokens: list[str], separator: str) -> list[str]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return ["".join(part) for part in parts]


def _tidy(text: str) -> str:
    """One line, single spaces, no empty places between commas and none at the ends."""
    text = " ".join(text.split())
    text = re.sub(r"(?: ?,)+", ",", text)
    return text.strip(", ")
