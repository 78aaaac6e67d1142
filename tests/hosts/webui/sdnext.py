"""A real SD.Next: its command line, its settings, and the names of its folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from .server import WebUI

FOLDERS = {
    "txt2img-images": "text",
    "img2img-images": "image",
    "control-images": "control",
    "txt2img-grids": "grids",
    "img2img-grids": "grids",
    "extras-images": "extras",
}


class SDNext(WebUI):
    """`checkpoint` is a folder in the form of diffusers, which is copied among the models: it is chosen by its name."""

    default_arguments = "--use-cpu all"
    defaults: ClassVar[dict[str, Any]] = {"include_mask": False}

    @classmethod
    def is_at(cls, root: Path) -> bool:
        return (root / "modules" / "scripts_manager.py").is_file()

    @classmethod
    def checkpoint_maker(cls, root: Path, folder: Path) -> tuple[str, Path, list[str]]:
        return "make_pipeline.py", folder / "tiny", [str(folder / "tiny")]

    def start(self) -> WebUI:
        model = self.models / "Diffusers" / self.checkpoint.name
        if not model.is_dir():
            shutil.copytree(self.checkpoint, model)
        styles = self.models / "styles"
        styles.mkdir(exist_ok=True)
        style = {"name": "pencil", "description": "", "prompt": "drawn with a pencil", "negative": "", "extra": ""}
        (styles / "pencil.json").write_text(json.dumps({**style, "preview": ""}), encoding="utf-8")
        return super().start()

    def _config(self) -> dict[str, Any]:
        return {
            "sd_model_checkpoint": self.checkpoint.name,
            "offline_mode": True,
            "sdnq_dequantize_compile": False,
            "show_progress_type": "None",
            "samples_format": "png",
            "server_rate_limit": 0,  # scenes ask for the progress more often than a page does
        }

    def _command(self) -> list[str]:
        skipped = [f"--skip-{what}" for what in ("all", "git", "torch", "requirements", "env")]
        folders = ["--data-dir", str(self.data), "--models-dir", str(self.models), "--ckpt", self.checkpoint.name]
        command = [self.python, "launch.py", *skipped, *folders, "--port", str(self.port)]
        return [*command, *self.arguments]

    def folder_of(self, kind: str) -> str:
        return FOLDERS[kind]
