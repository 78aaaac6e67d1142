"""What the host calls back. Reload UI forgets it all and runs the door again, which registers it anew."""

from __future__ import annotations

from modules import script_callbacks

from . import api, gallery_tab, saving, settings, xyz


def register() -> None:
    saving.register_pattern()
    xyz.register()  # now as well: reForge with --nowebui lists the axes for its API before `on_before_ui`
    script_callbacks.on_ui_settings(settings.register)
    script_callbacks.on_before_ui(xyz.register)
    script_callbacks.on_ui_tabs(gallery_tab.tabs)
    script_callbacks.on_before_image_saved(saving.before_save)
    script_callbacks.on_image_saved(saving.after_save)
    script_callbacks.on_app_started(api.add_routes)
