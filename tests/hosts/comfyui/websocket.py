"""The few lines of RFC 6455 that listening to a ComfyUI server takes, so that the tests need no further package."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from typing import Any

TEXT, CLOSE, PING = 0x1, 0x8, 0x9


def strict_json(text: str | bytes) -> Any:
    """As a browser reads it: NaN and Infinity, which Python writes, are errors."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"expected JSON that a browser can read, got {constant}")


class Listener:
    """Reads the JSON messages of ws://host:port/ws?clientId=..; binary frames (previews) are skipped."""

    def __init__(self, host: str, port: int, client: str, timeout: float) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET /ws?clientId={client} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"expected the server to switch to WebSocket, got {status!r}")
        while self.stream.readline().strip():
            pass

    def next(self) -> dict[str, Any]:
        while True:
            opcode, payload = self._frame()
            if opcode == CLOSE:
                raise ConnectionError("the server closed the WebSocket")
            if opcode == PING:
                self._pong(payload)
            if opcode == TEXT:
                message: dict[str, Any] = strict_json(payload)
                return message

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def _frame(self) -> tuple[int, bytes]:
        opcode, payload, last = 0, b"", False
        while not last:
            first, second = self._read(2)
            last, opcode = bool(first & 0x80), first & 0x0F or opcode
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self._read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._read(8))
            payload += self._read(length)
        return opcode, payload

    def _read(self, length: int) -> bytes:
        data = self.stream.read(length)
        if len(data) < length:
            raise ConnectionError("the server went away")
        return data

    def _pong(self, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(bytes([0x8A, 0x80 | len(payload)]) + mask + masked)
