"""ImageReward for Stable Diffusion WebUI and ComfyUI: the door of `pip` and of ComfyUI. It holds no logic.

`import sd_imagereward as RM` offers the names of the `image-reward` package; `comfy_entrypoint` is what ComfyUI calls.
"""

from __future__ import annotations

from typing import Any

from .core import __version__  # noqa: F401 - `sd_imagereward.__version__`

WEB_DIRECTORY = "./web"  # help pages of the ComfyUI nodes

_DROP_IN = ("ImageReward", "available_models", "load", "load_score")


def __getattr__(name: str) -> Any:
    """The drop-in names, imported when first used so that importing this package costs nothing."""
    if name in _DROP_IN:
        from .core.drop_in import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls at its start; imported here, because only ComfyUI has what the nodes import."""
    from .comfyui_nodes.extension import ImageRewardExtension

    return ImageRewardExtension()
