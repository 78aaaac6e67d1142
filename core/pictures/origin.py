"""What a file says of how its picture was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..infotext.parameters import has_settings
from ..infotext.syntax import plain_prompt

TEXT_FILE = "text file"
_ENDINGS = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft)$", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """What a file says of its making. `prompt` is None where it says nothing, and else still has the program's syntax."""

    prompt: str | None = None
    negative: str = ""
    model: str = ""
    loras: tuple[str, ...] = ()
    program: str = ""  # that wrote it, such as "A1111", or "text file"
    # How it was found out does not make it another origin.
    where: str = field(default="", compare=False)  # such as "PNG text prompt, node 6 (CLIPTextEncode)"
    uncertain: str = field(default="", compare=False)  # why the prompt may be another one, or why there is none
    syntax: str = field(default="", compare=False)  # the program whose syntax the prompt is in, if not `program`

    @property
    def plain(self) -> str | None:
        """The prompt as a scorer reads it; None where nothing is left of it."""
        return plain_prompt(self.prompt or "", self.syntax or self.program) or None


def json_object(text: str | None) -> dict[str, Any]:
    """The JSON object of a text, behind which settings may stand that were added later; an empty one if it is none."""
    text = (text or "").lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return {}
    try:
        data, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    rest = text[end:].strip("\0 \t\r\n")
    return data if isinstance(data, dict) and (not rest or has_settings(rest)) else {}


def text_of(value: Any) -> str | None:
    """A text without white space around it; None for anything else and for an empty one."""
    return value.strip() or None if isinstance(value, str) else None


def items_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def dig(value: Any, *keys: str) -> Any:
    """What lies under these keys, one inside the other; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def name_of(value: Any) -> str:
    """A model's name without folder and ending, from a text or from an object that has one."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("model_name") or ""
    return _ENDINGS.sub("", re.split(r"[\\/]", str(value or "").strip())[-1])


def names_of(values: Iterable[Any]) -> tuple[str, ...]:
    """The names that are none of nothing, each once."""
    return tuple(dict.fromkeys(name for name in map(name_of, values) if name))
