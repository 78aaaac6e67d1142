"""Downloads over real HTTP from a server on this machine that speaks as much of the Hub's language as a download needs."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTENT = bytes(range(256)) * 4096  # 1 MiB
GOOD = hashlib.sha256(CONTENT).hexdigest()

SCRIPT = """
import json, sys
sys.path.insert(0, 'tests')
import conftest
from pathlib import Path
from sd_imagereward.core.weights.catalogue import WeightFile
from sd_imagereward.core.weights.download import fetch_weight
from sd_imagereward.core.errors import ImageRewardError
heard = []
try:
    path = fetch_weight(WeightFile('owner/name', 'model.pt', 1 << 20, sys.argv[1], 'MIT'), lambda *p: heard.append(p))
    print(json.dumps({'path': str(path), 'size': path.stat().st_size, 'heard': heard}))
except ImageRewardError as error:
    print(json.dumps({'error': type(error).__name__, 'message': str(error)}))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    etag = GOOD
    body = CONTENT
    requests: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self._headers(200, len(self.body))

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        start = int(wanted.split("=")[1].split("-")[0]) if wanted else 0
        self._headers(206 if wanted else 200, len(self.body) - start)
        self.wfile.write(self.body[start:])

    def _headers(self, status: int, length: int) -> None:
        if "owner/name/resolve/main/model.pt" not in self.path:
            self.send_error(404)
            return
        self.send_response(status)
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {"requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler
    server.shutdown()
    server.server_close()


def fetch(home: Path, endpoint: str, sha256: str = "", **extra: str) -> dict[str, object]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "IMAGEREWARD"))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HOME": str(home), "NO_PROXY": "*"} | extra
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, sha256], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_mirror_is_asked_once_and_the_file_is_kept(hub: type[Hub], tmp_path: Path) -> None:
    first = fetch(tmp_path, hub.url, GOOD)
    assert Path(str(first["path"])) == tmp_path / "imagereward" / "model.pt"
    assert first["size"] == len(CONTENT)
    assert first["heard"] == [[0, len(CONTENT)], [len(CONTENT), len(CONTENT)]]
    asked = len(hub.requests)
    assert fetch(tmp_path, hub.url, GOOD)["path"] == first["path"]
    assert len(hub.requests) == asked
    assert [p.name for p in (tmp_path / "imagereward").iterdir()] == ["model.pt"]


@pytest.mark.parametrize("known", [GOOD, ""], ids=["hash in the catalogue", "hash from the Hub"])
def test_a_damaged_file_never_takes_its_name(hub: type[Hub], tmp_path: Path, known: str) -> None:
    hub.body = CONTENT[:-1] + b"x"
    answer = fetch(tmp_path, hub.url, known)
    assert answer["error"] == "DownloadFailed"
    assert "arrived damaged" in str(answer["message"])
    assert not (tmp_path / "imagereward" / "model.pt").exists()


def test_without_network_the_error_names_file_source_and_folder(tmp_path: Path) -> None:
    message = str(fetch(tmp_path, "http://127.0.0.1:9")["message"])
    assert "model.pt is not on this machine" in message
    assert "https://huggingface.co/owner/name/resolve/main/model.pt" in message
    assert str(tmp_path / "imagereward") in message


def test_offline_mode_asks_nobody(hub: type[Hub], tmp_path: Path) -> None:
    answer = fetch(tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert answer["error"] == "WeightsNotFound"
    assert "HF_HUB_OFFLINE" in str(answer["message"])
    assert hub.requests == []


def test_the_reference_packages_folder_is_looked_into(tmp_path: Path) -> None:
    there = tmp_path / ".cache" / "ImageReward" / "model.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT)
    assert fetch(tmp_path, "http://127.0.0.1:9")["path"] == str(there)


def test_a_folder_of_ones_own_goes_first(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "model.pt").write_bytes(CONTENT)
    assert fetch(tmp_path, "http://127.0.0.1:9", IMAGEREWARD_HOME=str(own))["path"] == str(own / "model.pt")
