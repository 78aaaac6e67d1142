"""What programs other than A1111 and ComfyUI write between the words of a prompt, taken out; `syntax` says what is what."""

from __future__ import annotations

import re

# InvokeAI 2 and later (compel).
_CALL = re.compile(r"\)\s*\.(?:and|blend)\([^()]*\)")
_SWAP = re.compile(r"(?:\b\w+|\([^()]*\))\.swap\(([^()]*)\)")
_WEIGHT = re.compile(r"(?<=[\w)\"])(?:\+{1,9}|-{1,9})(?=[\s,.;:)\"]|$)|(?<=\))[-+]?\d*\.?\d+(?=[\s,.;)]|$)")
_ANGLE = re.compile(r"<[^<>\s][^<>]{0,200}>")
# NovelAI 4.
_NOVEL_WEIGHT = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)[ ]?::|::")
_NOVEL_BRACKETS = str.maketrans("", "", "{}[]")
# Midjourney: flags at the end, weights, addresses of pictures.
_FLAG = re.compile(r"(?:^|\s)(?:--|\u2014)[a-z]")
_MIDJOURNEY_WEIGHT = re.compile(r"::(?:-?\d+(?:\.\d+)?)?")
_ADDRESS = re.compile(r"https?://\S+")
# SwarmUI.
_PART = re.compile(r"<(?:segment|refiner|video|clear|object)\b[^<>]{0,500}>")
_CHOICE = re.compile(r"<(?:random|alternate|alt|fromto)(?:\[[^\[\]<>]*\])?:([^<>]*)>")
_REST = re.compile(
    r"<(?:lora|lyco|embed|embedding|comment|param|preset|setvar|setmacro|break|trigger|region|base)\b[^<>]{0,500}>"
)
# prompt-control, a pack of ComfyUI.
_CONTROL = re.compile(
    r"\b(?:STYLE|SHIFT|SHUFFLE|NOSTRIP|I?MASK|MASKW|MASK_SIZE|AREA|FEATHER|FILL|SDXL|NOISE|TE_WEIGHT|ATTN)\([^()]{0,200}\)"
)
_CONTROL_JOIN = re.compile(r"\b(?:COUPLE|AVG)\([^()]{0,200}\)")


def without_invokeai(text: str) -> str:
    """red++, (red fox)1.2, ("a fox", "snow").and(), cat.swap(dog), <embedding>"""
    text = _SWAP.sub(r"\1", text)
    if _CALL.search(text):
        text = _CALL.sub(")", text).replace('"', "")
    return _ANGLE.sub("", _WEIGHT.sub("", text))


def without_novelai(text: str) -> str:
    """{x}, [x], 1.3::red fox::, a | b"""
    return re.sub(r" *\|[| ]*", ", ", _NOVEL_WEIGHT.sub("", text)).translate(_NOVEL_BRACKETS)


def without_midjourney(text: str) -> str:
    """red fox::2 snow --ar 16:9 --no birds"""
    flag = _FLAG.search(text)
    text = text[: flag.start()] if flag else text
    return _ADDRESS.sub("", _MIDJOURNEY_WEIGHT.sub(", ", text))


def without_swarmui(text: str) -> str:
    """<random:red, grey>, <lora:x>, <segment:face> and what follows it"""
    helper = _PART.search(text)
    text = _REST.sub("", text[: helper.start()] if helper else text)
    return _CHOICE.sub(lambda choice: re.split(r"\|\||[,|]", choice[1])[0], text)


def without_prompt_control(text: str) -> str:
    """STYLE(A1111) a fox MASK(0 0.5, 0 1) COUPLE(0.5 1, 0 1) snow"""
    return _CONTROL_JOIN.sub(",", _CONTROL.sub("", text))
