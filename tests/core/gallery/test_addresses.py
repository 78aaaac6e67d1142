"""The gallery answers under its own addresses alone, and takes orders from its own page alone."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.cli import main
from sd_imagereward.core.gallery.addresses import Addresses, OwnAddressesOnly
from sd_imagereward.core.gallery.album import Album
from sd_imagereward.core.gallery.trust import Trust

OWN = ["127.0.0.1:7860", "127.0.0.1", "localhost:7860", "LOCALHOST", "localhost.", "[::1]:7860"]
FOREIGN = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "10.0.0.1"]


@pytest.mark.parametrize("host", OWN)
def test_own_addresses(host: str) -> None:
    assert Addresses().refusal({"host": host, "origin": f"http://{host}"}, changes=True) == ""


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_addresses(host: str) -> None:
    for changes in (False, True):
        assert "own addresses only" in Addresses().refusal({"host": host, "origin": f"http://{host}"}, changes=changes)
    assert Addresses().refusal({}, changes=False)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1.evil.example"]
)
def test_orders_of_other_pages(origin: str) -> None:
    asked = {"host": "127.0.0.1:7860", "origin": origin}
    assert "from itself only" in Addresses().refusal(asked, changes=True)
    assert Addresses().refusal(asked, changes=False) == ""


def test_names_of_a_proxy() -> None:
    addresses = Addresses(["my.example"])
    for host in ("my.example", "127.0.0.1:7860"):  # whether or not the proxy keeps it
        assert addresses.refusal({"host": host, "origin": "https://my.example"}, changes=True) == ""
    assert addresses.refusal({"host": "my.example", "origin": "https://evil.example"}, changes=True)


@pytest.mark.parametrize(
    ("kind", "method", "origin", "answered"),
    [
        ("http", "GET", None, True),
        ("http", "POST", None, True),
        ("http", "POST", "http://evil.example", False),
        ("http", "GET", "http://evil.example", True),
        ("websocket", None, "http://evil.example", False),
        ("websocket", None, "http://localhost", True),
        ("lifespan", None, None, True),
    ],
)
def test_middleware(kind: str, method: str | None, origin: str | None, answered: bool) -> None:
    reached, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), *([(b"origin", origin.encode())] if origin else [])]
    scope = {"type": kind, "method": method, "headers": headers}
    asyncio.run(OwnAddressesOnly(app, Addresses())(scope, None, send))  # type: ignore[arg-type]
    assert bool(reached) == answered
    if not answered:
        assert sent[0] in (
            {"type": "websocket.close", "code": 1008, "reason": ""},
            {
                "type": "http.response.start",
                "status": 403,
                "headers": [(b"content-type", b"text/plain; charset=utf-8")],
            },
        )


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    main(["curate", str(root), "--scorers", "technical"])
    return root


@pytest.fixture(params=["served", "in a WebUI"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    gradio = pytest.importorskip("gradio", reason="pip install gradio to serve the gallery")
    if request.param == "served":
        from sd_imagereward.core.gallery.serve import serve

        yield serve([folder], open_browser=False, block=False)
        gradio.close_all()
        return
    from sd_imagereward.core.gallery.page import build_page

    with gradio.Blocks() as page:
        build_page([Album.open(folder)], ["Technical"], lambda folder, title: "", Addresses(), trust=Trust())
    yield page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)[1]
    page.close()


def ask(address: str, path: str, *, data: Any = None, **headers: str) -> tuple[int, str]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(
        f"{address.rstrip('/')}{path}", body, {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_rebound_name_reads_nothing_and_renames_nothing(address: str, folder: Path) -> None:
    config = json.loads(ask(address, "/config")[1])
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    names = {component["props"].get("elem_id"): component["id"] for component in config["components"]}
    predict = "/gradio_api/run/predict" if "api_prefix" in config else "/run/predict"

    def order(element: str, **new: Any) -> dict[str, Any]:
        target = names[element]
        number, found = next(
            (n, one)
            for n, one in enumerate(config["dependencies"])
            if any(target == (to[0] if isinstance(to, list) else to) for to in one["targets"])
        )
        given = {names[name]: value for name, value in new.items()}
        data = [given.get(i, values[i]) for i in found["inputs"]]
        return {"fn_index": found.get("id", number), "data": data, "session_hash": "x"}

    show = order("ir_gallery_wire", ir_gallery_wire='{"do": "show"}')
    rename = order("ir_gallery_apply", ir_gallery_action="Rename by template", ir_gallery_dry=False)
    text = next(i for i, value in enumerate(rename["data"]) if value == "")
    rename["data"][text] = "gone_{name}"
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        for data in (show, rename):
            status, body = ask(address, predict, data=data, **headers)
            assert status in (403, 500)
            assert "data:image" not in body
    read = ask(address, "/config", Host="evil.example")[1]
    assert "data:image" not in read
    assert "0.png" not in read
    assert sorted(path.name for path in folder.glob("*.png")) == ["0.png", "1.png", "2.png"]
    assert ask(address, predict, data=show)[1].count("data:image") == 3
    assert ask(address, predict, data=rename, Origin=address.rstrip("/"))[0] == 200
    assert sorted(path.name for path in folder.glob("*.png")) == ["gone_0.png", "gone_1.png", "gone_2.png"]
