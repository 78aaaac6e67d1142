"""Stand-in of ComfyUI's `comfy_execution.graph`."""

from __future__ import annotations


class ExecutionBlocker:
    def __init__(self, message: str | None) -> None:
        self.message = message
