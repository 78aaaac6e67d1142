"""`POST /imagereward/score` and `GET /imagereward/scorers`, beside the host's own API and under its rules.

The bodies are read by hand: credentials are checked and the size is limited before a byte is parsed, and one code serves
pydantic 1 and 2. Images come as base64; paths and links are refused.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from modules.call_queue import queue_lock
from PIL import Image
from starlette.concurrency import run_in_threadpool

from ..core.errors import BadImage, ImageRewardError
from ..core.files.console import counted
from ..core.files.parsing import parse_json
from ..core.infotext.syntax import plain_prompt
from ..core.pictures.opening import open_header, open_picture
from ..core.scorers.registry import scorer_infos
from ..core.scoring.score import ImageScores
from ..core.weights.locate import find_weight
from . import host
from .folders import add_weights_folders
from .request import scorer_name
from .service import service

MAX_IMAGES = 64
MAX_BODY_BYTES = 128 << 20
MAX_PIXELS = 40_000_000  # of one image
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "AVIF")


def add_routes(demo: Any, app: FastAPI) -> None:
    """The host's `on_app_started`: offers both routes where the host offers its own."""
    host.add_route(
        app,
        "/imagereward/score",
        post_score,
        methods=["POST"],
        tags=["ImageReward"],
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": BODY_SCHEMA}}}},
    )
    host.add_route(app, "/imagereward/scorers", get_scorers, methods=["GET"], tags=["ImageReward"])


BODY_SCHEMA = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_IMAGES, "description": "base64"},
        "prompts": {"type": "array", "items": {"type": "string"}, "description": "one for each image, or a single one"},
        "prompt": {"type": "string", "description": "instead of prompts: one for all"},
        "scorer": {"type": "string", "default": "imagereward", "description": "a name, or mix(name=weight, ...)"},
        "plain_prompt": {"type": "boolean", "default": True, "description": "score the prompt without its syntax"},
    },
}


def get_scorers() -> list[dict[str, Any]]:
    """Every scorer of the registry, and whether its weights are on this machine."""
    add_weights_folders()
    return [
        {
            "name": info.name,
            "title": info.title,
            "measures": info.measures,
            "reads_prompt": info.reads_prompt,
            "mean": info.mean,
            "std": info.std,
            "licence": info.licence,
            "source": info.source,
            "size": sum(weight.size for weight in info.weights),
            "downloaded": not info.weights or find_weight(info.weights[0]) is not None,
        }
        for info in scorer_infos().values()
    ]


async def post_score(request: Request) -> dict[str, Any]:
    """`{"images": [...], "prompts": [...]}` -> `{"scorer", "scores", "components", "errors"}`; a broken image scores null."""
    body = await _read_body(request)
    return await run_in_threadpool(_score, body)


async def _read_body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"The body is larger than {MAX_BODY_BYTES >> 20} MB; send fewer images at a time.")
        chunks.append(chunk)
    return b"".join(chunks)


@dataclass(frozen=True)
class _ScoreRequest:
    images: list[str]
    prompts: list[str]
    scorer: str


def _score(body: bytes) -> dict[str, Any]:
    request = _parse(body)
    images: dict[int, Image.Image] = {}
    errors: dict[int, str] = {}
    for i, text in enumerate(request.images):
        try:
            images[i] = _decode(text)
        except ValueError as error:
            errors[i] = str(error)
    if not images:
        return _answer(request, None, [], errors)
    with queue_lock:  # never beside a generation
        try:
            scores = service.score(request.scorer, list(images.values()), [request.prompts[i] for i in images])
        except ImageRewardError as error:
            raise HTTPException(503, str(error)) from error
        finally:
            service.settle()
    return _answer(request, scores, list(images), errors)


def _parse(body: bytes) -> _ScoreRequest:
    try:
        data = parse_json(body.decode(), "the body")
    except ValueError as error:  # of the encoding, or UnreadableText
        raise HTTPException(422, f"Expected a body of JSON in UTF-8: {error}.") from error
    if not isinstance(data, dict):
        raise HTTPException(422, "Expected a JSON object with 'images' and 'prompts'.")
    images = _texts(data.get("images"), "images")
    if not 1 <= len(images) <= MAX_IMAGES:
        raise HTTPException(422, f"Expected 1 to {MAX_IMAGES} images, got {len(images)}.")
    prompts = _texts(data["prompts"] if "prompts" in data else [data.get("prompt", "")], "prompts")
    if len(prompts) == 1:
        prompts = prompts * len(images)
    if len(prompts) != len(images):
        raise HTTPException(
            422,
            f"{counted(len(prompts), 'prompt')} for {counted(len(images), 'image')}: expected one, or one for each.",
        )
    plain = data.get("plain_prompt", True)
    if not isinstance(plain, bool):
        raise HTTPException(422, f"'plain_prompt' must be true or false, got {plain!r:.100}.")
    if plain:
        prompts = [plain_prompt(prompt) for prompt in prompts]
    try:
        return _ScoreRequest(images, prompts, scorer_name(data.get("scorer")))
    except ImageRewardError as error:
        raise HTTPException(422, str(error)) from error


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise HTTPException(422, f"'{name}' must be a list of texts.")
    return value


def _decode(text: str) -> Image.Image:
    """The image of a base64 text, with or without `data:image/...;base64,`. Raises ValueError with the reason."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64; send the image itself, paths and links are not followed") from None
    try:
        image = open_header("the image", data)
        if image.format not in (*FORMATS, "MPO"):  # which is a JPEG of several pictures
            raise ValueError(f"not a {', '.join(FORMATS)} image")
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} is more than {MAX_PIXELS // 1_000_000} megapixels")
        return open_picture("the image", data).image
    except BadImage as error:
        raise ValueError(str(error)) from None


def _answer(
    request: _ScoreRequest, scores: ImageScores | None, positions: list[int], errors: dict[int, str]
) -> dict[str, Any]:
    count = len(request.images)
    total: list[float | None] = [None] * count
    components: dict[str, list[float | None]] = {}
    if scores is not None:
        total = _spread(scores.total.tolist(), positions, count)
        components = {title: _spread(values.tolist(), positions, count) for title, values in scores.components.items()}
    return {
        "scorer": request.scorer,
        "scores": total,
        "components": components,
        "errors": {str(i): reason for i, reason in errors.items()},
    }


def _spread(values: list[float], positions: list[int], count: int) -> list[float | None]:
    spread: list[float | None] = [None] * count
    for position, value in zip(positions, values, strict=True):
        spread[position] = None if math.isnan(value) else value
    return spread
