"""A script for a WebUI without a real model: paints the demo pictures in place of what its diffusion model made.

Copy it into `extensions/painter/scripts/`, start the WebUI with any checkpoint, then run `docs/pictures.py webui URL`.
"""

from __future__ import annotations

from typing import Any

from modules import scripts


class Painter(scripts.Script):
    def title(self) -> str:
        return "Painter"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> None:
        return None

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        from sd_imagereward.core.demo.pictures import demo_images  # mounted by the extension

        demos = demo_images(256)
        pp.image = demos[(p.iteration * p.batch_size + p.batch_index) % len(demos)].image
