"""Bytes over HTTP: what a server says of a file, and the file itself, gone on with where a connection broke.

The standard library does it: huggingface_hub resumes in some versions and not in others, and waits half a minute for a Hub that
cannot be reached. Its settings hold here, too: the token, HF_ENDPOINT, HF_HUB_DOWNLOAD_TIMEOUT, and the proxies of the system.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import Request

from ..errors import DownloadFailed
from ..files.atomic import remove
from .fork_safe import ForkSafeLock

CONNECT_SECONDS = 5.0
UNREACHABLE_SECONDS = 300.0  # for so long a server that could not be reached is not asked again
TRIES = 6  # in a row that bring nothing new
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
BLOCK = 1 << 20
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)

_unreachable: dict[str, tuple[float, str]] = {}  # host -> until when, why
_lock = ForkSafeLock()


class Unreachable(Exception):
    """No connection to the server could be made, now or a short while ago."""


class Refused(Exception):
    """The server answered, and does not give the file."""


@dataclass(frozen=True)
class Remote:
    """A file as its server describes it."""

    size: int  # bytes, 0 = not told
    etag: str  # "" = not told; of a large file on the Hub its sha256

    @property
    def sha256(self) -> str:
        return self.etag if re.fullmatch("[0-9a-f]{64}", self.etag) else ""


def describe(url: str) -> Remote:
    """Size and hash of the file at `url`. Raises Unreachable, Refused."""
    headers = _patiently(url, lambda: _head(url))
    etag = headers.get("X-Linked-ETag") or headers.get("ETag") or ""
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or "0"
    return Remote(int(size) if size.isdigit() else 0, etag.removeprefix("W/").strip('"'))


def read_json(url: str) -> Any:
    """A small answer of the Hub's API. Raises Unreachable, Refused."""

    def read() -> Any:
        with _open(Request(url, headers=_headers(url))) as answer:
            return json.loads(answer.read(10 * BLOCK))

    return _patiently(url, read)


def transfer(url: str, part: Path, size: int, on_progress: Callable[[int], None]) -> None:
    """The file at `url` into `part`, from where it ends. size: bytes in all, 0 = as many as the server sends.

    A connection that breaks, stalls or is told to wait is followed by another. on_progress(bytes so far).
    Raises DownloadFailed when none brings anything new (what arrived stays in `part`), Refused, OSError for the disk's errors.
    """
    furthest, fruitless, reason = _length(part), 0, "it ended early"
    while not (whole := _is_whole(part, size)) and fruitless < TRIES:
        if fruitless:
            time.sleep(_pause(fruitless, None))
        try:
            size = _go_on(url, part, size, on_progress)
        except _CannotWrite as error:
            raise error.reason from None
        except urllib.error.HTTPError as error:
            reason = _in_short(error)
            if error.code == 416:  # more is here than there, so it is another file's beginning
                _forget(part)
            elif error.code not in _TRY_AGAIN:
                raise Refused(reason) from error
            elif (wait := _retry_after(error)) > 0:
                time.sleep(wait)
        except (OSError, http.client.HTTPException) as error:
            reason = _in_short(error)
        now = _length(part)
        furthest, fruitless = (now, 0) if now > furthest else (furthest, fruitless + 1)
    if not whole:
        raise DownloadFailed(
            f"the download from {_host(url)} stopped at {_length(part):,} of {size or 'unknown':,} bytes ({reason}). "
            f"What arrived is kept: start it again to go on from there."
        )


def expect_reachable(url: str) -> None:
    """Raises Unreachable, without asking, for a server that could not be reached a short while ago."""
    with _lock:
        until, reason = _unreachable.get(_host(url), (0.0, ""))
    left = until - time.monotonic()
    if left > 0:
        raise Unreachable(f"{reason}; it is tried again in {max(1, round(left / 60))} min")


def forget_unreachable() -> None:
    """The next request asks every server again: for when a person asks for a download."""
    with _lock:
        _unreachable.clear()


# -- one request -----------------------------------------------------------------------------------------------------


def _patiently(url: str, ask: Callable[[], Any]) -> Any:
    """A first contact: a server that is busy is asked again, one that cannot be reached is remembered."""
    expect_reachable(url)
    for attempt in range(1, TRIES + 1):
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if error.code not in _TRY_AGAIN or attempt == TRIES:
                raise Refused(_in_short(error)) from error
            time.sleep(_pause(attempt, _retry_after(error)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{_host(url)} cannot be reached ({_in_short(error)})"
            with _lock:
                _unreachable[_host(url)] = (time.monotonic() + UNREACHABLE_SECONDS, reason)
            raise Unreachable(reason) from error
    raise AssertionError("unreachable")


def _head(url: str) -> Message:
    try:
        with _open(Request(url, headers=_headers(url), method="HEAD")) as answer:
            return answer.headers
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:  # where the Hub keeps large files; what it says of the file stands here
            return error.headers
        raise


def _go_on(url: str, part: Path, size: int, on_progress: Callable[[int], None]) -> int:
    """One connection's worth of bytes appended to `part`; the size in all, as far as it is known now."""
    have = _length(part)
    extra = {"Range": f"bytes={have}-"} if have else {}
    with _open(Request(url, headers=_headers(url) | extra)) as answer:
        if have and not (answer.status == 206 and _first_byte(answer.headers) == have):
            have = 0  # the server knows no ranges, and sends all of it
        length = answer.headers.get("Content-Length") or ""
        size = size or (have + int(length) if length.isdigit() else 0)
        with _Part(part, "ab" if have else "wb") as file:
            on_progress(told := have)
            # What has come is taken at once: a read that waits for a whole block loses it when the connection stalls.
            while (not size or have < size) and (block := answer.read1(min(BLOCK, size - have) if size else BLOCK)):
                file.write(block)
                have += len(block)
                if have - told >= BLOCK:
                    on_progress(told := have)
            if have != told:
                on_progress(have)
    return size or have


class _CannotWrite(Exception):
    """The disk's error, told from the network's."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Part:
    """The file that the bytes go into, opened to append or anew."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path, self._mode = path, mode

    def __enter__(self) -> _Part:
        try:
            self._file: IO[bytes] = open(self._path, self._mode, buffering=0)
        except OSError as error:
            raise _CannotWrite(error) from error
        return self

    def write(self, block: bytes) -> None:
        left = memoryview(block)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _CannotWrite(error) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()


# -- connections -----------------------------------------------------------------------------------------------------


def _seconds_each(host: str, port: int) -> float:
    """How long each of the server's addresses is tried: a large one has a dozen, which are tried one after the other."""
    with suppress(OSError):
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return max(1.0, CONNECT_SECONDS / max(1, len(addresses)))
    return CONNECT_SECONDS


class _Http(http.client.HTTPConnection):
    """Gives up connecting soon, and waits longer for bytes."""

    def connect(self) -> None:
        reading, self.timeout = self.timeout, _seconds_each(self.host, self.port)
        super().connect()
        self.sock.settimeout(reading)


class _Https(http.client.HTTPSConnection):
    def connect(self) -> None:
        reading, self.timeout = self.timeout, _seconds_each(self.host, self.port)
        super().connect()
        self.sock.settimeout(reading)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Https, context=_certificates()), request)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; a token is for the server it was made for alone, and a question ends where the answer is."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # before Python 3.11

    def redirect_request(
        self, request: Request, answer: Any, code: int, message: str, headers: Any, address: str
    ) -> Request | None:
        elsewhere = urlsplit(address).netloc != urlsplit(request.full_url).netloc
        asking = request.get_method() == "HEAD"
        if asking and (elsewhere or headers.get("X-Linked-Size")):
            return None
        following = super().redirect_request(request, answer, 307 if code == 308 else code, message, headers, address)
        if following is not None:
            following.method = request.get_method()
            if elsewhere:
                following.remove_header("Authorization")
        return following


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """The system's authorities and Mozilla's, which Python on macOS and Windows often lacks, and those that a person names."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.path.isfile(os.environ.get(variable, "")):
            context.load_verify_locations(os.environ[variable])
    return context


def _open(request: Request) -> Any:
    from huggingface_hub import constants

    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler, _Redirects)
    return opener.open(request, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _headers(url: str) -> dict[str, str]:
    """With the token where the Hub is asked; other servers do not learn it."""
    from huggingface_hub import constants, get_token

    headers = {"User-Agent": "sd-imagereward"}
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token and _host(url) == _host(constants.ENDPOINT):
        headers["Authorization"] = f"Bearer {token}"
    return headers


# -- small things ----------------------------------------------------------------------------------------------------


def _is_whole(part: Path, size: int) -> bool:
    have = _length(part)
    if size and have > size:
        remove(part)
        return False
    return bool(size) and have == size


def _forget(part: Path) -> None:
    with suppress(FileNotFoundError):
        remove(part)


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _first_byte(headers: Any) -> int:
    """Of "Content-Range: bytes 200-1000/67589", 200."""
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
    return int(match[1]) if match else -1


def _pause(attempt: int, retry_after: float | None) -> float:
    return min(LONGEST_PAUSE, retry_after or FIRST_PAUSE * 2 ** (attempt - 1))


def _retry_after(error: urllib.error.HTTPError) -> float:
    seconds = error.headers.get("Retry-After") or ""
    return min(LONGEST_PAUSE, float(seconds)) if seconds.isdigit() else 0.0


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _in_short(error: BaseException) -> str:
    """An error in a few words, on one line."""
    if isinstance(error, urllib.error.HTTPError):
        hint = {
            401: "the repository is private or gated: set HF_TOKEN",
            403: "the repository is private or gated: set HF_TOKEN",
            404: "the server has no such file",
            429: "too many requests",
        }.get(error.code, str(error.reason))
        return f"HTTP {error.code}, {hint}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
