"""What the inputs of ComfyUI nodes mean, by their names: packs call their nodes as they like, their inputs rarely."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from .comfyui_graph import Node

_POSITIVE = re.compile(r"(?:^|_|\b)pos(?:itive)?(?:$|_|\b|\d)", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?:^|_|\b)(?:neg(?:ative)?|uncond(?:itional)?)(?:$|_|\b|\d)", re.IGNORECASE)
_CONDITION = re.compile(r"(?:^|_)cond|embeds?$|embeddings?$|^guider$|guidance$", re.IGNORECASE)
_PIPE = re.compile(r"pipe|context|ctx|^bus$|bundle", re.IGNORECASE)
_TEXT = re.compile(
    r"text|prompt|string|caption|descri|t5|clip_[lgh]$|llama|bert|mt5|gemma|wildcard|value|content|words|^str|concat|phrase",
    re.IGNORECASE,
)
_NO_TEXT = re.compile(
    r"system|instruct|template|model|name|file|path|dir$|folder|^ext|format|mode|type|method|sampler|schedul|device|"
    r"delim|separat|joiner|colou?r|language|control_after|token|normali|interpret|weight|seed|key$|url|preset|aspect|"
    r"ratio|resol|quality|version|upscal|parser|extension|style|log_|action|tidy|find$|replace|regex|pattern|width|height|"
    r"embeds?$|upsampling|shape|dtype|padding",
    re.IGNORECASE,
)
_NO_TEXT_LINK = re.compile(r"regex|pattern|system|instruct|delim|separat", re.IGNORECASE)
# Inputs that lead away from the picture and from what describes it.
_ASIDE = re.compile(
    r"model|^clip$|clip_vision|^vae|_vae|control_?net|unet|lora|mask|seed|noise|sigma|sampler|schedul|adapter|insight|"
    r"detector|sam_|reference|^ref_|^audio|width|height|font|^steps|^cfg|denoise|style_model|trigger|batch_size|index",
    re.IGNORECASE,
)
_SAMPLES = re.compile(r"sampl(?!es)|detail|hires|highres|upscal|refin|generat|k ?sampler", re.IGNORECASE)
_BUNDLES = re.compile(r"(?:To|From|Edit|Make)(?:[A-Z_]\w*)?Pipe|[pP]ipe_?(?:Edit|EDIT|In|IN|Out|OUT|To|2)(?![a-z])")
_SAMPLES_FIELDS = {"steps", "cfg", "sampler_name", "noise_seed", "denoise", "sigmas", "guider", "scheduler"}
_SAVES = re.compile(
    r"\bsave|saver|saveimage|imagesave|save_|output|export|send|upload|websocket|combine", re.IGNORECASE
)
_SHOWS = re.compile(r"preview|show|display|view|compar|debug|print", re.IGNORECASE)
_NO_MAKER = re.compile(
    r"dino|\bsam|segm|detect|florence|caption|describ|vlm|ocr|overlay|watermark|draw|annotat|crop|mask", re.IGNORECASE
)
# Nodes that make text while the graph runs: language models, captioners, translators, generators of prompts.
_MAKES_TEXT = re.compile(
    r"ollama|llm|llama|gpt|openai|\bchat|chat ?node|gemini|claude|anthropic|mistral|groq|deep ?seek|\bgrok|florence|"
    r"caption|interrogat|wd ?-?14|tagger|blip|moondream|mini ?cpm|internvl|qwen ?\d*[._]?\d* ?_?-?(?:vl|llm)|llava|vlm|"
    r"vision ?language|translat|deepl|prompt ?_?(?:enhanc|expan|generat|improv|rewrit|upsampl|refin)|magic ?prompt|"
    r"super ?prompt|(?:image|img) ?_?(?:to|2) ?_?(?:prompt|text)|describe|text ?_?gen(?!re)|generate ?_?text|one ?button|"
    r"inspire ?prompt|lm ?studio|kobold|oobabooga|hugging ?face ?chat|phi-?\d|gemma|random ?prompt|prompt ?random",
    re.IGNORECASE,
)
_MODEL_FIELDS = re.compile(
    r"^(?:temperature|max_?(?:new_)?tokens|max_length|top_?[pk]|api_?key|keep_alive|num_beams|num_predict|repetition_penalty|"
    r"system_?(?:prompt|message|instruction)?|llm.*|(?:to|target|from|source)_?lang.*|frequency_penalty)$",
    re.IGNORECASE,
)
# Links that a node which makes text is given to look at.
_LOOKS_AT = re.compile(r"^(?:images?|image_?\d+|pixels|video|audio|media|clip_vision)$", re.IGNORECASE)
_ENCODED = {"CONDITIONING", "GUIDER"}
_PICTURE_TYPES = {"IMAGE", "LATENT"}
_OTHER_TYPES = {
    "MODEL",
    "CLIP",
    "VAE",
    "STRING",
    "INT",
    "FLOAT",
    "BOOLEAN",
    "MASK",
    "CONTROL_NET",
    "SIGMAS",
    "NOISE",
    "SAMPLER",
}
_PRIMITIVE_TYPES = _OTHER_TYPES - {"STRING"} | _PICTURE_TYPES | _ENCODED


@lru_cache(8192)
def is_negative(key: str) -> bool:
    return _NEGATIVE.search(key) is not None


@lru_cache(8192)
def is_positive(key: str) -> bool:
    return _POSITIVE.search(key) is not None and not is_negative(key)


@lru_cache(8192)
def is_pipe(key: str) -> bool:
    return _PIPE.search(key) is not None and not is_condition(key)


@lru_cache(8192)
def is_condition(key: str) -> bool:
    """Whether an input takes a conditioning, or whatever else describes the picture to a sampler."""
    return (_CONDITION.search(key) is not None or is_positive(key)) and not is_negative(key) and "vision" not in key


@lru_cache(8192)
def is_text(key: str) -> bool:
    """Whether a field of this name holds words for the picture."""
    return bool(_TEXT.search(key) or _POSITIVE.search(key) or _NEGATIVE.search(key)) and not _NO_TEXT.search(key)


@lru_cache(8192)
def is_prompt(key: str) -> bool:
    """Whether a field of a node that makes pictures by itself is its prompt."""
    return "prompt" in key.lower() and is_text(key) and not is_negative(key)


@lru_cache(8192)
def is_aside(key: str) -> bool:
    return _ASIDE.search(key) is not None


@lru_cache(8192)
def leads_to_picture(key: str, kind: str) -> bool:
    """Whether a link into this input, of this type ("" if it is unknown), carries a picture or latents."""
    if kind in _PICTURE_TYPES:
        return "control" not in key and "mask" not in key and not key.startswith("ref")
    if kind in _OTHER_TYPES | _ENCODED or is_aside(key) or is_condition(key) or is_negative(key):
        return False
    return is_pipe(key) or not is_text(key) or key.lower().startswith(("value", "input"))


@lru_cache(8192)
def leads_to_text(key: str, kind: str) -> bool:
    """Whether a link into this input of a node between texts may carry text."""
    return kind not in _PRIMITIVE_TYPES and not is_aside(key) and not _NO_TEXT_LINK.search(key)


@lru_cache(8192)
def _found(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.search(text) is not None


def samples(node: Node) -> bool:
    """Whether a node makes a picture out of noise or of another picture."""
    if _found(_BUNDLES, node.kind):
        return False
    return _found(_SAMPLES, node.kind) or not _SAMPLES_FIELDS.isdisjoint((*node.values, *node.links))


def saves(node: Node) -> bool:
    return _found(_SAVES, node.kind) and not _found(_SHOWS, node.kind)


def shows(node: Node) -> bool:
    return _found(_SHOWS, node.kind)


def may_make_pictures(node: Node) -> bool:
    if node.outputs and all(kind in _OTHER_TYPES for _, kind in node.outputs):
        return False
    return not _found(_NO_MAKER, node.kind) and not saves(node)


def makes_text(node: Node) -> bool:
    """Whether what a node gives to a text input is made while the graph runs, so that its own fields are the order for it."""
    if shows(node):
        return False
    if _found(_MAKES_TEXT, node.kind) or any(_found(_LOOKS_AT, key) for key in node.links):
        return True
    return any(_found(_MODEL_FIELDS, key) for key in (*node.values, *node.links))


def looks_like_words(value: Any) -> bool:
    """Whether a field of an unknown name may hold a prompt: several words, or a script without spaces; no file, no address."""
    if not isinstance(value, str) or re.search(
        r"^\s*(?:https?:|select (?:the|to) |[a-z]:\\|/|\{)|\.\w{2,11}\s*$", value, re.IGNORECASE
    ):
        return False
    return bool(re.search(r"[^\W\d_]{2,}[ ,.]+[^\W\d_]{2,}|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]", value[:2000]))
