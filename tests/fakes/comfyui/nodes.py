"""Stand-in of ComfyUI's `nodes`."""

from __future__ import annotations

from typing import Any

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
