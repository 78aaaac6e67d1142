"""Stand-in of ComfyUI's `server`: the texts that nodes show, with a record of them."""

from __future__ import annotations


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        self.texts.append((node_id, text))


PromptServer.instance = PromptServer()
