"""A real Forge Neo: its command line and its settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .server import WebUI

LAUNCHER = Path("modules", "launch_utils.py")
VERSION = re.compile(r"""VERSION_UID\b.*=\s*["'](.+)["']""")


class Neo(WebUI):
    """`checkpoint` is found among the models: Neo cannot be told one."""

    default_arguments = "--cpu"

    @classmethod
    def is_at(cls, root: Path) -> bool:
        return (root / LAUNCHER).is_file() and VERSION.search((root / LAUNCHER).read_text("utf-8")) is not None

    def start(self) -> WebUI:
        link = self.models / "Stable-diffusion" / self.checkpoint.name
        if not link.exists():
            link.symlink_to(self.checkpoint)
        # As from its second start on: in the first, *Send to txt2img* leaves the prompt out, as its field has no value yet.
        values = {f"{tab}/Prompt/value": "" for tab in ("txt2img", "img2img")}
        (self.data / "ui-config.json").write_text(json.dumps(values), encoding="utf-8")
        return super().start()

    def _config(self) -> dict[str, Any]:
        """With the version, without which it takes the settings for those of an older one, and waits for Enter."""
        version = VERSION.search((self.root / LAUNCHER).read_text("utf-8"))
        assert version is not None
        return {**super()._config(), "VERSION_UID": version[1]}

    def _command(self) -> list[str]:
        command = [self.python, "launch.py", "--skip-prepare-environment", "--skip-torch-cuda-test", "--api"]
        command += ["--skip-version-check", "--no-hashing", "--port", str(self.port)]
        command += ["--data-dir", str(self.data), "--model-ref", str(self.models)]
        return [*command, "--gradio-allowed-path", str(self.root), *self.arguments]
