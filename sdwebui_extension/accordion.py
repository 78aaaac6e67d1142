"""The accordion *ImageReward* of txt2img and img2img: scores and chooses beside any script of the dropdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import host
from .panel import Panel, is_of_accordion, is_of_script
from .request import TITLE, Request, read_request

API_TITLE = "ImageReward accordion"  # in `alwayson_scripts`; the script of the dropdown has the other name


class Accordion:
    def __init__(self, elem_id: Callable[[str], str]) -> None:
        with host.switchable_accordion(TITLE, elem_id("enabled")) as self.enabled:
            self.panel = Panel(elem_id, repeats=False)

    @property
    def inputs(self) -> list[Any]:
        return [self.enabled, *self.panel.inputs]

    def infotext_fields(self) -> list[tuple[Any, Any]]:
        """A picture without a score leaves the accordion as it is; one of *Script > ImageReward* switches it off."""

        def enabled(found: dict[str, Any]) -> bool | None:
            return True if is_of_accordion(found) else False if is_of_script(found) else None

        return [(self.enabled, enabled), *self.panel.infotext_fields(is_of_accordion)]


def read_accordion(enabled: Any = None, *settings: Any) -> Request | None:
    """None when it is switched off. Raises ImageRewardError for settings that cannot be."""
    return read_request(*settings[:6]) if enabled else None
