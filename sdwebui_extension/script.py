"""The entry *ImageReward* of the Script dropdown."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import scripts

from . import host, rounds
from .panel import Panel, is_of_script
from .request import TITLE, read_request


class ImageRewardScript(scripts.Script):
    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return True

    @host.guarded("make the panel", list)
    def ui(self, is_img2img: bool) -> list[gr.components.Component]:
        panel = Panel(self.elem_id, repeats=True)
        self.infotext_fields = host.pasted(panel.infotext_fields(is_of_script))
        host.after_component(self, panel.refresh_after_generation, "generation_info_{tab}")
        return panel.inputs

    def run(self, p: Any, *args: Any) -> Any:
        return rounds.run(p, read_request(*args[:8]))
