"""As much of FastAPI as two routes need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any


class HTTPException(Exception):
    def __init__(self, status_code: int, detail: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status_code, self.detail, self.headers = status_code, detail, headers


class APIRoute:
    """dependant: what is asked of a caller, by the route and by the parameters of its function."""

    def __init__(self, path: str, endpoint: Callable[..., Any], dependencies: Any = None, **more: Any) -> None:
        self.path, self.endpoint, self.more = path, endpoint, more
        self.dependencies = list(dependencies or [])
        self.dependant = SimpleNamespace(dependencies=list(self.dependencies))


class FastAPI:
    def __init__(self) -> None:
        self.routes: list[Any] = []

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.routes.append(APIRoute(path, endpoint, **more))


class Request:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
