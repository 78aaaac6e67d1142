"""Stand-in of ComfyUI's `comfy.cli_args`."""

from __future__ import annotations

from types import SimpleNamespace

args = SimpleNamespace(disable_metadata=False)
