"""The two routes: what they take, what they refuse, whom they let in."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image


def encoded(image: Image.Image, file_format: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def app() -> Any:
    """As the host makes it: its own route is there when `on_app_started` comes."""
    import fastapi

    app = fastapi.FastAPI()
    app.add_api_route("/sdapi/v1/txt2img", lambda: None, methods=["POST"])
    return app


@pytest.fixture
def routes(host: SimpleNamespace, app: Any) -> dict[str, Any]:
    """Ours, by path."""
    host.script_callbacks.call("app_started", None, app)
    return ours(app)


def ours(app: Any) -> dict[str, Any]:
    return {route.path: route for route in app.routes if route.path.startswith("/imagereward/")}


@pytest.fixture
def post(routes: dict[str, Any]) -> Any:
    import fastapi

    def call(body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(routes["/imagereward/score"].endpoint(fastapi.Request(data[:10], data[10:])))

    return call


@pytest.fixture
def refused(post: Any) -> Any:
    """`refused(body)` -> (status, text) of the error."""
    import fastapi

    def call(body: Any) -> tuple[int, str]:
        with pytest.raises(fastapi.HTTPException) as caught:
            post(body)
        return caught.value.status_code, caught.value.detail

    return call


def test_scores_are_those_of_the_scorer(post: Any, host: SimpleNamespace) -> None:
    images = [host.processing.noise(seed) for seed in range(3)]
    prompts = ["a cat", "a (dog:1.3)", ""]
    answer = post({"images": [encoded(image) for image in images], "prompts": prompts})
    expected = host.service.service.score("imagereward", images, ["a cat", "a dog", ""]).total.tolist()
    assert answer["scores"] == pytest.approx(expected, abs=1e-5)
    assert answer["components"] == {"ImageReward": answer["scores"]}
    assert answer["errors"] == {}
    json.dumps(answer, allow_nan=False)


def test_one_prompt_for_all_and_raw_prompts(post: Any, host: SimpleNamespace) -> None:
    image = encoded(host.processing.noise(1))
    clean = post({"images": [image, image], "prompt": "a (cat:1.2)"})["scores"]
    assert clean[0] == pytest.approx(clean[1], abs=1e-5)
    raw = post({"images": [image], "prompt": "a (cat:1.2)", "plain_prompt": False})["scores"]
    assert raw[0] != pytest.approx(clean[0], abs=1e-4)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP"])
def test_formats(post: Any, host: SimpleNamespace, file_format: str) -> None:
    image = encoded(host.processing.noise(1), file_format)
    answer = post({"images": [image, f"data:image/{file_format.lower()};base64,{image}"], "prompt": "x"})
    assert answer["errors"] == {}
    assert answer["scores"][0] == pytest.approx(answer["scores"][1], abs=1e-5)


def test_a_broken_image_does_not_spoil_the_others(post: Any, host: SimpleNamespace) -> None:
    good = encoded(host.processing.noise(1))
    cut = base64.b64encode(base64.b64decode(good)[:200]).decode()
    answer = post({"images": [cut, good, "/etc/passwd", "http://example.org/a.png"], "prompt": "x"})
    assert [score is None for score in answer["scores"]] == [True, False, True, True]
    assert "paths and links are not followed" in answer["errors"]["3"]
    assert post({"images": ["?"], "prompt": "x"})["scores"] == [None]


def test_formats_that_run_programs_are_not_opened(post: Any) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    answer = post({"images": [base64.b64encode(eps).decode()], "prompt": "x"})
    assert answer["scores"] == [None]


def test_a_picture_with_too_many_pixels(post: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.api, "MAX_PIXELS", 1000)
    assert "megapixels" in post({"images": [encoded(host.processing.noise(1))], "prompt": "x"})["errors"]["0"]


def test_size_limit_holds_while_reading(refused: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.api, "MAX_BODY_BYTES", 100)
    assert refused({"images": ["A" * 200]})[0] == 413


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'\xff{"images": ["A"]}',
        [],
        {},
        {"images": []},
        {"images": "x"},
        {"images": [1]},
        {"images": ["A"] * 65},
        {"images": ["A"], "prompts": ["a", "b"]},
        {"images": ["A"], "prompts": "a"},
        {"images": ["A"], "prompt": None},
        {"images": ["A"], "prompt": "a", "scorer": "/weights/mine.pt"},
        {"images": ["A"], "prompt": "a", "scorer": "hub:someone/else"},
        {"images": ["A"], "prompt": "a", "scorer": "mix(technical=0)"},
        {"images": ["A"], "prompt": "a", "plain_prompt": "no"},
        {"images": ["A"], "prompt": "a", "plain_prompt": 0},
    ],
)
def test_what_is_no_request(refused: Any, body: Any) -> None:
    status, text = refused(body)
    assert status == 422
    assert text


def test_no_weights_is_told(refused: Any, host: SimpleNamespace, no_weights: None) -> None:
    status, text = refused({"images": [encoded(host.processing.noise(1))], "prompt": "x"})
    assert status == 503
    assert "ImageReward.pt" in text


def test_scoring_waits_for_the_queue_and_gives_it_back(post: Any, host: SimpleNamespace, no_weights: None) -> None:
    import fastapi

    with pytest.raises(fastapi.HTTPException):
        post({"images": [encoded(host.processing.noise(1))], "prompt": "x"})
    assert host.call_queue.queue_lock.acquire(blocking=False)
    host.call_queue.queue_lock.release()


def test_scorers(routes: dict[str, Any]) -> None:
    from sd_imagereward.core.scorers.registry import scorer_infos

    listed = {one["name"]: one for one in routes["/imagereward/scorers"].endpoint()}
    assert set(listed) == set(scorer_infos())
    assert listed["imagereward"]["downloaded"] is True
    assert listed["technical"]["downloaded"] is True


PATHS = {"/imagereward/score", "/imagereward/scorers"}


def test_without_the_hosts_api_there_is_none(host: SimpleNamespace, app: Any) -> None:
    app.routes.clear()
    host.api.add_routes(None, app)
    assert app.routes == []


def test_the_hosts_credentials_are_asked_for(host: SimpleNamespace, app: Any) -> None:
    guard = object()
    app.routes.clear()
    app.add_api_route("/sdapi/v1/txt2img", lambda: None, methods=["POST"], dependencies=[guard])
    host.api.add_routes(None, app)
    assert {path: route.dependencies for path, route in ours(app).items()} == {key: [guard] for key in PATHS}


def test_where_the_host_asks_in_a_way_of_its_own_there_is_none(
    host: SimpleNamespace, app: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    app.routes[0].dependant.dependencies.append("a password among the arguments of its function")
    host.api.add_routes(None, app)
    assert ours(app) == {}
    assert "/imagereward/score is not offered" in capsys.readouterr().out


def test_the_hosts_own_means_comes_first(host: SimpleNamespace, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its users, and the path below which it serves its API."""

    class Api:
        def add_api_route(self, path: str, fn: Any, auth: bool = True, **kwargs: Any) -> None:
            for start in ("", "/drawing"):
                app.add_api_route(start + path, fn, dependencies=["its users"] if auth else [], **kwargs)

    monkeypatch.setattr(host.shared, "api", Api(), raising=False)
    host.api.add_routes(None, app)
    added = {route.path: route.dependencies for route in app.routes[1:]}
    assert added == {key: ["its users"] for key in (*PATHS, *("/drawing" + path for path in PATHS))}
