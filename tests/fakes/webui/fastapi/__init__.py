"""As much of FastAPI as two routes need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any


class HTTPException(Exception):
    def __init__(self, status_code: int, detail: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status_code, self.detail, self.headers = status_code, detail, headers


def Depends(dependency: Callable[..., Any]) -> Any:  # noqa: N802 (its name there)
    return dependency


class FastAPI:
    def __init__(self) -> None:
        self.routes: dict[str, dict[str, Any]] = {}

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.routes[path] = {"endpoint": endpoint, **more}


class Request:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
