"""ImageReward for Stable Diffusion WebUI and ComfyUI: the door of `pip` and of ComfyUI. It holds no logic.

`import sd_imagereward as RM` offers the names of the `image-reward` package; `comfy_entrypoint` is what ComfyUI calls.
"""

from __future__ import annotations

from typing import Any

from .core import __version__  # noqa: F401 - `sd_imagereward.__version__`
from .core.drop_in.names import PUBLIC, attribute, install_as_imagereward, register

WEB_DIRECTORY = "./web"  # help pages of the ComfyUI nodes, and what they add to the page

__all__ = [*PUBLIC, "install_as_imagereward"]

register(__name__)


def __getattr__(name: str) -> Any:
    """The drop-in names, imported when first used so that importing this package costs nothing."""
    return attribute(__name__, name)


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls at its start; imported here, because only ComfyUI has what the nodes import."""
    from .comfyui_nodes.extension import ImageRewardExtension

    return ImageRewardExtension()
