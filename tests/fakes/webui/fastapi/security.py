from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HTTPBasicCredentials:
    username: str
    password: str


class HTTPBasic:
    def __call__(self) -> HTTPBasicCredentials:
        raise NotImplementedError
