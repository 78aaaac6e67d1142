"""The control run: the host answers as it does without us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from .server import WebUI, to_base64

pytestmark = pytest.mark.host

PICTURE = to_base64(Image.effect_noise((128, 128), 60).convert("RGB"))
RUN = {"prompt": "a cat", "seed": 5, "steps": 1, "width": 128, "height": 128, "sampler_name": "Euler"}
CALLS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "txt2img": ("/sdapi/v1/txt2img", RUN),
    "txt2img, saved": ("/sdapi/v1/txt2img", {**RUN, "batch_size": 2, "save_images": True}),
    "img2img": ("/sdapi/v1/img2img", {**RUN, "init_images": [PICTURE]}),
    "inpaint": ("/sdapi/v1/img2img", {**RUN, "init_images": [PICTURE], "mask": PICTURE}),
    "control": ("/sdapi/v1/control", RUN),
    "no such sampler": ("/sdapi/v1/txt2img", {**RUN, "sampler_name": "no such sampler"}),
    "no such type": ("/sdapi/v1/txt2img", {**RUN, "steps": "many"}),
    "extras": ("/sdapi/v1/extra-single-image", {"image": PICTURE, "upscaler_1": "None"}),
    "png info": ("/sdapi/v1/png-info", {"image": PICTURE}),
    "options": ("/sdapi/v1/options", None),
    "set options": ("/sdapi/v1/options", {"samples_format": "png"}),
    "scripts": ("/sdapi/v1/scripts", None),
    "script info": ("/sdapi/v1/script-info", None),
    "progress": ("/sdapi/v1/progress", None),
    "openapi": ("/openapi.json", None),
}


@pytest.fixture(scope="module")
def alone(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    """The host without us."""
    server = furnish()
    server.extension = None
    try:
        yield server.start()
    finally:
        server.stop()


def statuses(server: WebUI) -> dict[str, int]:
    return {name: server.status(path, body)[0] for name, (path, body) in CALLS.items()}


def test_every_route_answers_as_without_us(webui: WebUI, alone: WebUI) -> None:
    expected = statuses(alone)
    assert expected["txt2img"] == 200
    assert statuses(webui) == expected


def test_the_pictures_are_those_without_us(webui: WebUI, alone: WebUI) -> None:
    expected, made = alone.generate(script=None), webui.generate(script=None)
    assert made.texts == expected.texts
    # Forge hides the text in alpha, with the time of it.
    assert [image.convert("RGB").tobytes() for image in made.images] == [
        image.convert("RGB").tobytes() for image in expected.images
    ]
