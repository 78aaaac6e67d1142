"""Stand-in of ComfyUI's `comfy_api.latest`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from . import _io as io
from . import _ui as ui

__all__ = ["ComfyAPI", "ComfyExtension", "io", "ui"]


class ComfyAPI:
    """What an extension may ask of the host; `node_replacement` came after 0.12.1."""


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...
