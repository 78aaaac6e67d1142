"""Prompt syntax -> plain text: what a person would say the image shows, for scorers that read natural language.

What is syntax in one program is text in another, so that each has its own rules (`SYNTAX`). Those of A1111 are of
AUTOMATIC1111 1.10 (`prompt_parser.py`, `extra_networks.py`, the script Comments; Forge and reForge have the same) and of the
dynamic-prompts and Regional Prompter extensions:

    <lora:name:1>, <lyco:..>, <hypernet:..>, <any:..>     gone
    embedding:name, embedding:name.pt:1.2                 gone
    # to the end of the line                              gone (the hosts hide it from the model, too)
    (x), ((x)), (x:1.3), [x]                              x
    [from:to:0.5]                                         to
    [x:0.5], [:x:0.5], [x::0.5]                           x: text that comes or goes half-way still shaped the image
    [a|b|c]                                               a b c: the image is a blend of all
    {a|b}, {2$$a|b}, {0.3::a|b}                           a: only one is in the image and which one is unknown
    {{x}}                                                 x
    a AND b :0.8, a BREAK b, a ADDCOL b                   a, b
    \\( \\) \\[ \\]                                           a space, so that "name \\(series\\)" reads "name series"
    __wildcard__                                          stays

There no bracket and no backslash is left, escaped or not ("a cat (sleeping)" is emphasis to the hosts and reads "a cat
sleeping"). ComfyUI has these but for comments and AND without weights; BREAK stays inside quotation marks, and the
functions of prompt-control (STYLE(A1111), MASK(..), COUPLE(..)) go. The others:

    InvokeAI      red++, (red fox)-, (red fox)1.2, ("a", "b").and(), a.swap(b), <embedding>
    NovelAI       {x}, [x], 1.3::red fox::, a | b; round brackets are text
    Midjourney    --ar 16:9, --no x, red fox::2, addresses of pictures in front
    SwarmUI       (x:1.3), <random:a,b>, <lora:x>, <segment:face> and what follows it

So plain text stays as it is when it is cleaned again. Brackets without partner vanish, and what they held stays. White space
becomes single spaces; empty places between commas go only where syntax was taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from . import dialects

_COMMENT = re.compile(r"#[^\n]*")
_NETWORK = re.compile(r"<\w+:[^>]+>")
_EMBEDDING = re.compile(r"\bembedding:(?:[^\s,()\[\]{}<>|\\]|\\(?![()\[\]{}]))+", re.IGNORECASE)
_AND = re.compile(r"\bAND\b")
_AND_WEIGHT = re.compile(r"(?<!\s)\s*:\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*$")
_AND_WEIGHTED = re.compile(r"\s:[-+]?(?:\d|\.\d)")
_BREAK = re.compile(r"\bBREAK\b")
_UNQUOTED_BREAK = re.compile(r"(?<![\"'“«])\bBREAK\b(?![\"'”»])")
_REGION = re.compile(r"\b(?:ADD(?:COL|ROW|COMM|BASE))\b")
_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d+)?|\.\d+)\.?\s*")
_DYNAMIC_PREFIX = re.compile(r"^\s*(?:[\d-]*\$\$(?:[^$]*\$\$)?)?(?:\s*(?:\d+(?:\.\d+)?|\.\d+)::)?")
_TOKEN = re.compile(r"\\[()\[\]{}]|\\|[()\[\]{}:|]|[^()\[\]{}:|\\]+")
_OPENER_OF = {")": "(", "]": "[", "}": "{"}
_SYSTEM_PROMPT = re.compile(r"^\s*You are an assistant\b.*?<Prompt Start>\s*", re.DOTALL)  # of Lumina's encoders


def plain_prompt(text: str, program: str = "A1111") -> str:
    """The prompt without the syntax of the program that it was written for, on one line; see the table of this module.

    Never fails, and `plain_prompt(plain_prompt(text)) == plain_prompt(text)`.

    Args:
        text: the prompt as it was typed.
        program: a key of `SYNTAX`; of any other, weights in brackets and networks go.

    Returns:
        What a scorer is to read.
    """
    rules = SYNTAX.get(program, _PLAIN)
    before = None
    while before != text:  # what is removed may bring together what then is syntax: "A<lora:x:1>ND"
        before, text = text, _clean_once(text, rules)
    return text


def _clean_once(text: str, rules: tuple[Rule, ...]) -> str:
    cleaned = text
    for rule in rules:
        cleaned = rule(cleaned)
    # A text without syntax keeps its commas, odd as they may be: they are tokens, and its score must not change.
    return " ".join(text.split()) if cleaned == text else _tidy(cleaned)


def _without_networks(text: str) -> str:
    end = text.rfind(">") + 1  # no tag ends behind it, and looking for one from each "<" takes long
    return _EMBEDDING.sub("", _NETWORK.sub("", text[:end]) + text[end:])


def _without_comments(text: str) -> str:
    return _COMMENT.sub("", text)


def _without_breaks(text: str) -> str:
    return _REGION.sub(",", _BREAK.sub(",", text))


def _without_comfyui_breaks(text: str) -> str:
    text = _UNQUOTED_BREAK.sub(",", text)
    return _without_and(text) if _AND.search(text) and _AND_WEIGHTED.search(text) else text


def _without_system_prompt(text: str) -> str:
    return _SYSTEM_PROMPT.sub("", text) if "<Prompt Start>" in text else text


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


Rule = Callable[[str], str]
_PLAIN: tuple[Rule, ...] = (_without_networks, _without_brackets)
# What is syntax in the prompts of a program, and in no other's.
SYNTAX: dict[str, tuple[Rule, ...]] = {
    "A1111": (_without_comments, _without_networks, _without_and, _without_breaks, _without_brackets),
    "ComfyUI": (
        _without_system_prompt,
        dialects.without_prompt_control,
        _without_networks,
        _without_comfyui_breaks,
        _without_brackets,
    ),
    "text file": (_without_networks, _without_comfyui_breaks, _without_brackets),
    "InvokeAI": (dialects.without_invokeai, _without_brackets),
    "NovelAI": (dialects.without_novelai,),
    "Midjourney": (dialects.without_midjourney,),
    "SwarmUI": (dialects.without_swarmui, *_PLAIN),
}
