"""How a picture came about: its prompt, checkpoint and LoRAs, whichever program wrote them into the file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..infotext.parameters import parse_parameters
from ..infotext.syntax import plain_prompt
from .comfyui_graph import read_graph, read_workflow
from .texts import read_texts

_LORA_TAG = re.compile(r"<(?:lora|lyco):([^:>]+)")


@dataclass(frozen=True)
class Origin:
    """What a file says of its making. `prompt` is None where it says nothing, and else still has the host's syntax."""

    prompt: str | None = None
    negative: str = ""
    model: str = ""
    loras: tuple[str, ...] = ()
    program: str = ""  # who wrote it: "A1111", "ComfyUI", "Fooocus", "InvokeAI", "NovelAI", "text file"

    @property
    def plain(self) -> str | None:
        """The prompt as a scorer reads it; None where nothing is left of it."""
        return plain_prompt(self.prompt or "") or None


def find_origin(path: str | os.PathLike[str], image: Image.Image | None = None) -> Origin:
    """The origin of an image file: its own metadata, else a `.txt` of the same name, else an empty one. Never fails.

    image: the file already opened, which spares opening it again.
    """
    path = Path(path)
    origin = Origin()
    with suppress(Exception):  # whether the file is an image is for others to say
        origin = origin_of(read_texts(path if image is None else image))
    if origin.plain:
        return origin
    return read_sidecar(path) or origin


def read_sidecar(path: Path) -> Origin | None:
    """What the text file beside an image says; None if there is none, or nothing in it."""
    try:
        text = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return _from_parameters({"parameters": text}, "text file")


def origin_of(texts: Mapping[str, str]) -> Origin:
    """The origin that the texts of a file tell, by name as `read_texts` gives them; an empty one if they tell nothing."""
    found = [origin for origin in (reader(texts) for reader in _READERS) if origin is not None]
    chosen = next((origin for origin in found if origin.plain), None) or next(iter(found), Origin())
    # Save nodes of ComfyUI write the prompt alone as parameters; the rest is in the graph beside it.
    for other in found:
        chosen = replace(
            chosen,
            negative=chosen.negative or other.negative,
            model=chosen.model or other.model,
            loras=chosen.loras or other.loras,
        )
    return chosen


def _from_invokeai(texts: Mapping[str, str]) -> Origin | None:
    """`invokeai_metadata` (3 and later), `sd-metadata` (2)."""
    data = _json(texts.get("invokeai_metadata"))
    if data:
        loras = tuple(_name(_dig(lora, "model") or _dig(lora, "lora")) for lora in _items(data.get("loras")))
        return Origin(
            _text(data.get("positive_prompt")),
            _text(data.get("negative_prompt")) or "",
            _name(data.get("model")),
            loras,
            "InvokeAI",
        )
    data = _json(texts.get("sd-metadata"))
    image = data.get("image") if data else None
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):  # several prompts with weights
        prompt = ", ".join(str(_dig(part, "prompt") or "") for part in prompt)
    return Origin(_text(prompt), "", _name(data.get("model_weights")), (), "InvokeAI")


def _from_novelai(texts: Mapping[str, str]) -> Origin | None:
    """`Description` is the prompt, `Comment` all settings as JSON."""
    if not texts.get("Software", "").startswith("NovelAI"):
        return None
    settings = _json(texts.get("Comment"))
    prompt = texts.get("Description") or _text(settings.get("prompt"))
    return Origin(prompt, _text(settings.get("uc")) or "", texts.get("Source", ""), (), "NovelAI")


def _from_fooocus(texts: Mapping[str, str]) -> Origin | None:
    """JSON in place of A1111's text (`fooocus_scheme`), or the older `Comment` of RuinedFooocus."""
    for name in ("parameters", "Comment"):
        data = _json(texts.get(name))
        if data and (
            "base_model" in data or "base_model_name" in data or "metadata_scheme" in data or "Prompt" in data
        ):
            data = {key.lower().replace(" ", "_"): value for key, value in data.items()}
            loras = tuple(_name(_first(lora)) for lora in _items(data.get("loras")))
            loras += tuple(
                _name(str(value).rpartition(" : ")[0] or value)
                for key, value in data.items()
                if key.startswith("lora_combined")
            )
            model = data.get("base_model") or data.get("base_model_name")
            return Origin(
                _text(data.get("prompt")), _text(data.get("negative_prompt")) or "", _name(model), loras, "Fooocus"
            )
    return None


def _from_a1111(texts: Mapping[str, str]) -> Origin | None:
    return None if texts.get("parameters", "").lstrip().startswith("{") else _from_parameters(texts, "A1111")


def _from_parameters(texts: Mapping[str, str], program: str) -> Origin | None:
    if not texts.get("parameters"):
        return None
    parameters = parse_parameters(texts["parameters"])
    model = parameters.fields.get("Model", "")
    if parameters.fields.get("Version") == "ComfyUI":
        program = "ComfyUI"
    return Origin(
        parameters.prompt or None,
        parameters.negative,
        model,
        tuple(dict.fromkeys(_LORA_TAG.findall(parameters.prompt))),
        program,
    )


def _from_comfyui(texts: Mapping[str, str]) -> Origin | None:
    for name, read in (("prompt", read_graph), ("workflow", read_workflow)):
        data = _json(texts.get(name))
        found = read(data) if data else None
        if found is not None:
            loras = tuple(dict.fromkeys(_name(lora) for lora in found.loras))
            return Origin(found.prompt or None, found.negative, _name(found.model), loras, "ComfyUI")
    return None


# A program that leaves a name of its own goes before those whose texts others imitate.
_READERS: tuple[Callable[[Mapping[str, str]], Origin | None], ...] = (
    _from_invokeai,
    _from_novelai,
    _from_fooocus,
    _from_a1111,
    _from_comfyui,
)


def _json(text: str | None) -> dict[str, Any]:
    """The JSON object of a text; an empty one where it is none."""
    if not text or not text.lstrip().startswith("{"):
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dig(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and value else value


def _name(value: Any) -> str:
    """A model's name without folder and ending, from a text or from an object that has one."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("model_name") or ""
    name = re.split(r"[\\/]", str(value or "").strip())[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft)$", "", name, flags=re.IGNORECASE)
