"""The programs that write prompts into pictures, one row each: who it is, by what its texts are recognised, how they are read.

A program that leaves a name of its own goes before those whose texts others imitate. docs/prompts-in-files.md lists the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..infotext.parameters import has_settings
from ..infotext.reading import read_infotext
from .comfyui_prompt import Found, read_graph, read_workflow
from .origin import Origin, dig, items_of, json_object, name_of, names_of, text_of

_LORA_TAG = re.compile(r"<(?:lora|lyco):([^:>]+)")
_SQUARE = re.compile(r"\[([^\[\]]*)\]")


class Text(NamedTuple):
    """A text of a file: its name, where it lies, and the JSON object that it holds, if any."""

    name: str
    text: str
    place: str
    data: Mapping[str, Any]


class Texts:
    """The texts of a file, found by name whatever its capitals, or by what they hold wherever they lie."""

    def __init__(self, texts: Mapping[str, str], places: Mapping[str, str] | None = None) -> None:
        self.all = [
            Text(name, text, (places or {}).get(name) or f"text {name}", json_object(text))
            for name, text in texts.items()
        ]

    def named(self, *names: str) -> Text | None:
        """The first text of one of the names, in the order of the names."""
        return next((one for name in names for one in self.all if one.name.lower() == name.lower()), None)

    def text(self, name: str) -> str:
        found = self.named(name)
        return found.text if found else ""

    def holding(self, *keys: str) -> Text | None:
        """The first text that is a JSON object with one of the keys."""
        return next((one for one in self.all for key in keys if key in one.data), None)

    def graphs(self) -> Iterator[Text]:
        return (one for one in self.all if _is_graph(one.data))

    def workflows(self) -> Iterator[Text]:
        return (one for one in self.all if isinstance(one.data.get("nodes"), list) and "links" in one.data)


Reader = Callable[[Texts], "Origin | None"]


@dataclass(frozen=True)
class Writer:
    """A program. `read` gives what its texts say, None where they are not its own."""

    name: str
    recognised_by: str  # for people
    read: Reader


def _is_graph(data: Mapping[str, Any]) -> bool:
    return any(isinstance(node, dict) and "class_type" in node for node in data.values())


# -- InvokeAI -------------------------------------------------------------------------------------------------------------


def _invokeai(texts: Texts) -> Origin | None:
    return _invokeai_3(texts) or _invokeai_2(texts) or _invokeai_1(texts)


def _invokeai_3(texts: Texts) -> Origin | None:
    found = texts.named("invokeai_metadata")
    if found is None or not found.data:
        return None
    data = found.data
    loras = names_of(dig(lora, "model") or dig(lora, "lora") for lora in items_of(data.get("loras")))
    negative = text_of(data.get("negative_prompt")) or ""
    return Origin(
        text_of(data.get("positive_prompt")), negative, name_of(data.get("model")), loras, "InvokeAI", found.place
    )


def _invokeai_2(texts: Texts) -> Origin | None:
    found = texts.named("sd-metadata")
    image = dig(found.data, "image") if found else None
    if found is None or not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):  # several prompts with weights
        prompt = ", ".join(str(dig(part, "prompt") or "") for part in prompt)
    return _with_brackets(text_of(prompt) or "", name_of(found.data.get("model_weights")), found.place)


def _invokeai_1(texts: Texts) -> Origin | None:
    found = texts.named("Dream")
    if found is None:
        return None
    quoted = re.match(r'\s*"((?:\\.|[^"\\])*)"\s*(?:-|$)', found.text)
    prompt = (
        quoted[1].replace('\\"', '"')
        if quoted
        else re.split(r"\s-{1,2}[a-zA-Z]", found.text, maxsplit=1)[0].strip(' "')
    )
    return _with_brackets(prompt, "", found.place)


def _with_brackets(prompt: str, model: str, place: str) -> Origin:
    """InvokeAI 1 and 2 have the negative prompt in square brackets inside the prompt."""
    negative = ", ".join(text.strip() for text in _SQUARE.findall(prompt) if text.strip())
    return Origin(text_of(" ".join(_SQUARE.sub(" ", prompt).split())), negative, model, (), "InvokeAI", place)


# -- programs with a name of their own -------------------------------------------------------------------------------------


def _swarmui(texts: Texts) -> Origin | None:
    found = texts.holding("sui_image_params")
    data = dig(found.data, "sui_image_params") if found else None
    if found is None or not isinstance(data, dict):
        return None
    negative = text_of(data.get("negativeprompt")) or ""
    loras = data.get("loras")
    loras = loras if isinstance(loras, list) else str(loras).split(",") if loras else []
    return Origin(
        text_of(data.get("prompt")), negative, name_of(data.get("model")), names_of(loras), "SwarmUI", found.place
    )


def _novelai(texts: Texts) -> Origin | None:
    """`Description` is the prompt, `Comment` all settings as JSON; 4 and later add a prompt for each character."""
    wrapped = texts.holding("Software")
    if wrapped and str(wrapped.data["Software"]).startswith("NovelAI"):
        inner = Texts({str(key): str(value) for key, value in wrapped.data.items()})
        return _replaced_place(_novelai(inner), wrapped.place)
    settings = texts.named("Comment") or texts.holding("v4_prompt")
    data = settings.data if settings else {}
    if not texts.text("Software").startswith("NovelAI") and "v4_prompt" not in data:
        return None
    caption = dig(data, "v4_prompt", "caption")
    base = text_of(dig(caption, "base_caption")) or text_of(texts.text("Description")) or text_of(data.get("prompt"))
    characters = [text_of(dig(one, "char_caption")) for one in items_of(dig(caption, "char_captions"))]
    negative = text_of(dig(data, "v4_negative_prompt", "caption", "base_caption")) or text_of(data.get("uc")) or ""
    prompt = ", ".join(part.strip(" ,") for part in (base, *characters) if part)
    described = texts.named("Description")
    place = (
        settings.place if caption and settings else described.place if described else settings.place if settings else ""
    )
    return Origin(prompt or None, negative, texts.text("Source"), (), "NovelAI", place)


def _replaced_place(origin: Origin | None, place: str) -> Origin | None:
    return replace(origin, where=place) if origin else None


def _fooocus(texts: Texts) -> Origin | None:
    """JSON in place of A1111's text (`fooocus_scheme`), or the older `Comment` of RuinedFooocus."""
    for found in texts.all:
        if not {"base_model", "base_model_name", "metadata_scheme", "Prompt"} & set(found.data):
            continue
        data = {key.lower().replace(" ", "_"): value for key, value in found.data.items()}
        loras = [value[0] if isinstance(value, list) and value else value for value in items_of(data.get("loras"))]
        loras += [str(v).rpartition(" : ")[0] or v for key, v in data.items() if key.startswith("lora_combined")]
        model = data.get("base_model") or data.get("base_model_name")
        negative = text_of(data.get("negative_prompt")) or text_of(data.get("negative")) or ""
        return Origin(text_of(data.get("prompt")), negative, name_of(model), names_of(loras), "Fooocus", found.place)
    return None


_EASY_FIELDS = {
    "use_stable_diffusion_model",
    "stable diffusion model",
    "num_inference_steps",
    "guidance_scale",
    "guidance scale",
}
_EASY_LINE = re.compile(
    r"^(Prompt|Negative Prompt|Seed|Stable Diffusion model|Clip Skip|VAE model|Sampler|Width|Height|Steps|Guidance Scale|"
    r"Prompt Strength|LoRA model|LoRA Strength|Hypernetwork model|Use Face Correction|Use Upscaling|Upscale By|Seamless Tiling|"
    r"ControlNet model|Embedding models): ?",
    re.MULTILINE,
)


def _easy_diffusion(texts: Texts) -> Origin | None:
    """One text a setting; in EXIF one JSON object; beside the file lines of `Prompt: ..` and the like."""
    names = {one.name.lower() for one in texts.all}
    fields: Mapping[str, Any] = {}
    found = None
    if "prompt" in names and names & (_EASY_FIELDS | {"negative_prompt", "negative prompt"}):
        found, fields = texts.named("prompt"), {one.name: one.text for one in texts.all}
    elif (held := texts.holding("use_stable_diffusion_model", "Stable Diffusion model")) is not None:
        found, fields = held, held.data
    else:
        found = texts.named("parameters")
        parts = _EASY_LINE.split(found.text) if found else []
        fields = dict(zip(parts[1::2], parts[2::2], strict=True)) if len(parts) > 8 and not parts[0].strip() else {}
    fields = {key.lower().replace(" ", "_"): value for key, value in fields.items()}
    if found is None or not fields or json_object(str(fields.get("prompt", ""))):
        return None
    model = fields.get("use_stable_diffusion_model") or fields.get("stable_diffusion_model")
    lora = fields.get("use_lora_model") or fields.get("lora_model")
    loras = names_of(lora if isinstance(lora, list) else [lora])
    negative = text_of(fields.get("negative_prompt")) or ""
    return Origin(text_of(fields.get("prompt")), negative, name_of(model), loras, "Easy Diffusion", found.place)


def _draw_things(texts: Texts) -> Origin | None:
    """JSON with `c` and `uc` as the UserComment of XMP or EXIF, beside a description in words."""
    found = next(
        (one for one in texts.all if "c" in one.data and {"uc", "v2", "sampler", "model"} & set(one.data)), None
    )
    if found is not None:
        negative = text_of(found.data.get("uc")) or ""
        loras = names_of(dig(lora, "model") for lora in items_of(found.data.get("lora")))
        model = re.sub(r"_(?:q\dp?|f16|q6p_q8p)$", "", name_of(found.data.get("model")))
        return Origin(text_of(found.data.get("c")), negative, model, loras, "Draw Things", found.place)
    described = texts.named("XMP dc:description")
    if described is None or not texts.text("XMP xmp:CreatorTool").startswith("Draw Things"):
        return None
    reading = read_infotext(described.text)
    prompt, _, negative = reading.prompt.partition("\n-")
    return Origin(
        text_of(prompt), negative.strip(), reading.fields.get("Model", ""), (), "Draw Things", described.place
    )


_MIDJOURNEY = re.compile(
    r"\bJob ID: ?[0-9a-f-]{8,}|\s--(?:v|ar|aspect|niji|style|stylize|chaos|sref|cref|profile|iw|q|s)\s+[\w:.,-]+"
)


def _midjourney(texts: Texts) -> Origin | None:
    """The description ends in parameters, `--ar 16:9`, and `Job ID: ..`."""
    for found in texts.all:
        if not found.name.lower().endswith(("description", "caption", "comment", "xptitle")) or found.data:
            continue
        if _MIDJOURNEY.search(found.text) and not has_settings(found.text):
            text = re.split(r"\s*\bJob ID:", found.text)[0].strip()
            negative = re.search(r"\s--no\s+(.*?)(?=\s--|$)", text, re.DOTALL)
            return Origin(text_of(text), negative[1].strip() if negative else "", "", (), "Midjourney", found.place)
    return None


# -- A1111 and ComfyUI, whose texts others imitate -----------------------------------------------------------------------------


def _a1111(texts: Texts) -> Origin | None:
    named = texts.named("parameters")
    found = [named] if named and not named.data and named.text.strip() else []
    found += [one for one in texts.all if one is not named and not one.data and has_settings(one.text)]
    read = [_of_infotext(one) for one in found]
    # Of a file that was labelled, the parameters may hold the label alone.
    return next((origin for origin in read if origin.prompt), read[0] if read else None)


def _of_infotext(found: Text) -> Origin:
    reading = read_infotext(found.text)
    version = reading.fields.get("Version", "")
    program = next((name for name in ("ComfyUI", "Fooocus") if version.startswith(name)), "A1111")
    loras = tuple(dict.fromkeys(_LORA_TAG.findall(reading.prompt)))
    return Origin(
        *(reading.prompt or None, reading.negative, reading.fields.get("Model", ""), loras, program, found.place),
        uncertain=reading.uncertain,
    )


def _comfyui(texts: Texts) -> Origin | None:
    workflow = next(texts.workflows(), None)
    for found in texts.graphs():
        read = read_graph(dict(found.data), dict(workflow.data) if workflow else None)
        if read is not None:
            return _civitai(found) or _of_graph(read, found.place)
    read = read_workflow(dict(workflow.data)) if workflow else None
    return _of_graph(read, workflow.place) if read and workflow else None


def _of_graph(found: Found, place: str) -> Origin:
    where = f"{place}, {found.node}" if found.node else place
    model, loras = name_of(found.model), names_of(found.loras)
    return Origin(found.prompt or None, found.negative, model, loras, "ComfyUI", where, found.uncertain)


def _civitai(found: Text) -> Origin | None:
    """Civitai's own generator writes the graph that it ran, and what it was asked beside it."""
    extra = json_object(text_of(found.data.get("extraMetadata")))
    if not text_of(extra.get("prompt")):
        return None
    return Origin(text_of(extra["prompt"]), text_of(extra.get("negativePrompt")) or "", "", (), "Civitai", found.place)


_PROMPT_KEYS = {"prompt", "positiveprompt", "positive"}
_NEGATIVE_KEYS = ("negativeprompt", "negative", "uc")
_MODEL_KEYS = ("model", "modelname", "basemodel", "checkpoint", "sdmodel")
_OTHER_KEYS = {
    *_NEGATIVE_KEYS,
    *_MODEL_KEYS,
    "seed",
    "steps",
    "cfg",
    "cfgscale",
    "sampler",
    "samplername",
    "width",
    "guidancescale",
}


def _other_json(texts: Texts) -> Origin | None:
    """A JSON object of a program without a row, with a prompt and something else that pictures are made by."""
    for found in texts.all:
        for data in (found.data, *(value for value in found.data.values() if isinstance(value, dict))):
            fields = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in data.items()}
            prompt = next(
                (text_of(fields[key]) for key in fields if key in _PROMPT_KEYS and text_of(fields[key])), None
            )
            if prompt and _OTHER_KEYS & set(fields) and not _is_graph(found.data):
                negative = next((text_of(fields[key]) for key in _NEGATIVE_KEYS if text_of(fields.get(key))), None)
                model = next((name_of(fields[key]) for key in _MODEL_KEYS if isinstance(fields.get(key), str)), "")
                return Origin(prompt, negative or "", model, (), "another program", found.place)
    return None


WRITERS: tuple[Writer, ...] = (
    Writer("InvokeAI", "invokeai_metadata (3 and later), sd-metadata (2), Dream (1)", _invokeai),
    Writer("SwarmUI", "JSON with sui_image_params", _swarmui),
    Writer("NovelAI", "Software: NovelAI, or JSON with v4_prompt", _novelai),
    Writer("Fooocus", "JSON with base_model or metadata_scheme", _fooocus),
    Writer(
        "Easy Diffusion",
        "prompt beside num_inference_steps and the like; JSON with use_stable_diffusion_model",
        _easy_diffusion,
    ),
    Writer("Draw Things", "JSON with c and uc", _draw_things),
    Writer("A1111", "parameters, or a text with a line of settings", _a1111),
    Writer("ComfyUI", "a graph or workflow, under whatever name", _comfyui),
    Writer("Midjourney", "a description with Job ID or --ar and the like", _midjourney),
    Writer("another program", "JSON with a prompt and a seed, steps, a model or the like", _other_json),
)
