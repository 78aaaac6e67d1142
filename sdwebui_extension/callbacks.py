"""What the host calls back. Reload UI forgets it all and runs the door again, which registers it anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import script_callbacks

from . import api, gallery_tab, saving, settings, xyz
from .companion import ImageRewardCompanion
from .host import guarded, offer_on_every_tab
from .script import ImageRewardScript


def register() -> None:
    guarded("show the scripts on every tab")(_offer_scripts)()
    guarded("offer [image_reward] for file names")(saving.register_pattern)()
    add_axes = guarded("add the axes of the X/Y/Z plot")(xyz.register)
    add_axes()  # now as well: reForge with --nowebui lists the axes for its API before `on_before_ui`
    _register("on_before_ui", add_axes)
    _register("on_ui_settings", guarded("add the page of the settings")(settings.register))
    _register("on_ui_tabs", guarded("make the tab", list)(gallery_tab.tabs))
    _register("on_before_image_saved", guarded("write the score into a file")(saving.before_save))
    _register("on_image_saved", guarded("keep a rejected file out of its folder")(saving.after_save))
    _register("on_app_started", guarded("add the routes of the API")(api.add_routes))


def _offer_scripts() -> None:
    offer_on_every_tab(ImageRewardScript().title(), ImageRewardCompanion().title())


def _register(event: str, callback: Callable[..., Any]) -> None:
    """Hands a callback to the host, where it knows the event."""
    if hasattr(script_callbacks, event):
        getattr(script_callbacks, event)(callback)
