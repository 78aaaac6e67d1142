"""A Hub on this machine that speaks as much of the real one's language as a download needs, and fails as networks do."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CONTENT = bytes(range(256)) * 4096  # 1 MiB
GOOD = hashlib.sha256(CONTENT).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """What goes wrong is set on the class; `requests` logs (method, path, Range)."""

    url: str
    requests: list[tuple[str, str, str | None]]
    tokens: list[str | None]
    etag = GOOD
    body = CONTENT
    size: int | None = None  # what HEAD says, where it is not the body's
    cut_after: int | None = None  # bytes of each answer, after which the connection is closed
    stall_after: int | None = None  # bytes of each answer, after which nothing more comes
    failures: list[int]  # statuses of the next answers
    ranges = True
    pause = 0.0  # seconds between blocks
    elsewhere: str | None = None  # where large files are, as the Hub's lie at another host

    def do_HEAD(self) -> None:
        self._log()
        if self._fails():
            return
        size = len(self.body) if self.size is None else self.size
        if self.elsewhere:
            self._redirect({"X-Linked-Size": str(size), "X-Linked-ETag": f'"{self.etag}"', "ETag": '"another"'})
            return
        self._start(200, size)

    def do_GET(self) -> None:
        self._log()
        if self._fails():
            return
        if self.path.startswith("/api/models/"):
            answer = json.dumps({"siblings": [{"rfilename": "model.pt"}, {"rfilename": "README.md"}]}).encode()
            self._start(200, len(answer))
            self.wfile.write(answer)
            return
        if self.elsewhere:
            self._redirect({})
            return
        wanted = self.headers.get("Range") if self.ranges else None
        start = int(wanted.split("=")[1].split("-")[0]) if wanted else 0
        if start >= len(self.body):
            self.send_error(416)
            return
        self._start(206 if wanted else 200, len(self.body) - start, start if wanted else None)
        self._send(self.body[start:])

    def _send(self, body: bytes) -> None:
        for limit, act in ((self.cut_after, lambda: None), (self.stall_after, lambda: time.sleep(30))):
            if limit is not None and limit < len(body):
                self.wfile.write(body[:limit])
                self.wfile.flush()
                act()
                self.close_connection = True
                return
        with suppress(ConnectionError):  # whoever asked was killed
            for at in range(0, len(body), 1 << 16):
                self.wfile.write(body[at : at + (1 << 16)])
                time.sleep(self.pause)

    def _log(self) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Range")))
        self.tokens.append(self.headers.get("Authorization"))

    def _fails(self) -> bool:
        if not self.failures and ("owner/name" in self.path or "/lfs/" in self.path):
            return False
        status = self.failures.pop(0) if self.failures else 404
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _redirect(self, headers: dict[str, str]) -> None:
        self.send_response(302)
        for name, value in {**headers, "Location": f"{self.elsewhere}/lfs/blob", "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _start(self, status: int, length: int, start: int | None = None) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running(**settings: object) -> Iterator[type[Hub]]:
    """A Hub with the content at owner/name, file model.pt."""
    handler = type("OneHub", (Hub,), {"requests": [], "tokens": [], "failures": [], **settings})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


def ranges(hub: type[Hub]) -> list[str | None]:
    """What the downloads asked for, in order; None is the whole file."""
    return [wanted for method, path, wanted in hub.requests if method == "GET" and not path.startswith("/api")]
