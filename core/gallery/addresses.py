"""Who may ask the gallery: pages that were opened under its own addresses.

A page of any site can let its own name lead to 127.0.0.1 (DNS rebinding) and is then of one origin with a server there. What
it cannot choose is the Host header, which bears that name, and the Origin header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_HARMLESS = ("GET", "HEAD", "OPTIONS")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True)
class Addresses:
    """The loopback names, and further ones under which the page is reached: behind a proxy, for example."""

    further: Collection[str] = ()

    def refusal(self, headers: Mapping[str, str], *, changes: bool) -> str:
        """Why a request is refused, "" if it is not. changes: it can change something.

        headers: `host` and `origin`, as they came.
        """
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not self._own(_name(host)):
            return f"This page answers under its own addresses only, not under {host!r}."
        if changes and origin and not self._same(origin, host):
            return f"This page takes orders from itself only, not from {origin!r}."
        return ""

    def _own(self, name: str) -> bool:
        return name in LOOPBACK or name in {further.lower() for further in self.further}

    def _same(self, origin: str, host: str) -> bool:
        """A proxy may put the server's own name into Host, and leaves Origin as it is."""
        name = _name(origin.partition("://")[2])
        return origin.partition("://")[2].lower() == host.lower() or (name not in LOOPBACK and self._own(name))


class OwnAddressesOnly:
    """ASGI middleware (https://asgi.readthedocs.io) that answers 403 to all other requests."""

    def __init__(self, app: _App, addresses: Addresses) -> None:
        self.app, self.addresses = app, addresses

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        kind = scope["type"]
        if kind in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            changes = kind == "websocket" or scope["method"] not in _HARMLESS
            refusal = self.addresses.refusal(headers, changes=changes)
            if refusal:
                await _refuse(kind, refusal, send)
                return
        await self.app(scope, receive, send)


async def _refuse(kind: str, reason: str, send: _Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    head = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": head})
    await send({"type": "http.response.body", "body": reason.encode()})


def _name(address: str) -> str:
    """The host of `host:port` in lower case; "" if it is none."""
    try:
        return (urlsplit(f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return ""
