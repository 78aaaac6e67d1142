"""A WebUI behind passwords and a subpath, with this extension in a folder of an odd name, and once more in another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from .server import WebUI, to_base64
from .test_api import scores

pytestmark = pytest.mark.host

ROUTES = ("/imagereward/scorers", "/imagereward/score")
BODY = {"images": [to_base64(Image.new("RGB", (32, 32), "red"))], "prompt": "a red square"}


@pytest.fixture(scope="module")
def guarded(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    users = ["--api-auth", "someone:else,me:a-secret", "--gradio-auth", "guest:door"]
    if "--nowebui" not in os.environ.get("SDWEBUI_ARGS", ""):  # reForge answers nothing at all with both
        users += ["--subpath", "drawing"]
    server = furnish(*users, folder="Image Reward – été", user="me:a-secret")
    copy = server.data / "extensions" / "second copy"
    copy.parent.mkdir(parents=True)
    copy.symlink_to(server.extension, target_is_directory=True)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("user", [None, "me:wrong", "guest:door", "me:a-secret:more", ":"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_one_else_gets_in(guarded: WebUI, route: str, user: str | None) -> None:
    guarded.user, known = user, guarded.user
    try:
        assert guarded.status(route, BODY if route == "/imagereward/score" else None)[0] == 401
    finally:
        guarded.user = known


def test_users_of_the_api_get_in(guarded: WebUI) -> None:
    assert guarded.status("/imagereward/scorers")[0] == 200
    assert guarded.call("/imagereward/score", BODY)["scores"][0] is not None


def test_a_second_copy_is_told_and_stays_out(guarded: WebUI) -> None:
    assert "The ImageReward extension is installed twice" in guarded.boot_log
    assert guarded.call("/sdapi/v1/scripts")["txt2img"].count("imagereward") == 1
    result = guarded.generate()
    assert len(scores(result)) == len(set(scores(result))) == 4
