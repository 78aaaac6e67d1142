"""Stand-in of ComfyUI's `server`: the texts that nodes show, with a record of them, and who reads what is posted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.on_prompt_handlers: list[Callable[[dict[str, Any]], dict[str, Any]]] = []

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        self.texts.append((node_id, text))

    def add_on_prompt_handler(self, handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.on_prompt_handlers.append(handler)


PromptServer.instance = PromptServer()
