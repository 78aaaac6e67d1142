"""A WebUI's page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hosts.browser import Browser


class Page(Browser):
    def __init__(self, url: str, profile: Path, window: tuple[int, int] = (1300, 2400)) -> None:
        super().__init__(url, profile, window)  # so high since Forge's own panels come before the script's

    def open(self) -> None:
        """Again if the style did not arrive: a WebUI that has just started again may be late with it."""
        for _ in range(3):
            super().open()
            self.wait(lambda: self.visible("#txt2img_prompt textarea"), "the page to appear")
            time.sleep(2)  # gradio attaches its listeners after it has drawn
            if not self.visible("#txt2img_interrupt"):
                return
        raise AssertionError("the page came three times without its style")

    def click(self, selector: str) -> None:
        self.js("window.closeModal?.()")  # the host's full-screen view of an image that was clicked
        super().click(selector)

    def tab(self, name: str) -> None:
        """Its name in lower case or not, as hosts write it."""
        self.js(
            "[...document.querySelectorAll('#tabs > .tab-nav > button')]"
            ".find(b => b.innerText.trim().toLowerCase() == arguments[0]).click()",
            name.lower(),
        )

    def requests(self, seconds: float = 3) -> list[str]:
        """What the page asks the server for while nobody touches it."""
        self.js("performance.clearResourceTimings()")
        time.sleep(seconds)
        return self.js("return performance.getEntriesByType('resource').map(entry => entry.name)")

    def choose(self, selector: str, option: str) -> None:
        self.click(f"{selector} input")
        items = f"{selector} ul li, ul.options li"

        def wanted() -> Any:
            """The option, once it can be read: the list fades in. Hosts differ in capitals."""
            found = self.driver.find_elements("css selector", items)
            return next((item for item in found if _title(item) == option.casefold()), None)

        self.wait(wanted, f"{selector} to offer {option!r}").click()

    def set_checkbox(self, selector: str, on: bool) -> None:
        if self.checked(selector) != on:
            self.click(f"{selector} input[type=checkbox]")

    def generate(self, tab: str = "txt2img", button: str = "generate") -> str:
        """Clicks Generate (or another button that generates), waits for the end, returns the text below the gallery."""
        self.click(f"#{tab}_{button}")
        # Interrupt lies over Generate for as long as the page knows of a run.
        self.wait(lambda: self.visible(f"#{tab}_interrupt"), "the generation to begin")
        self.wait(lambda: not self.visible(f"#{tab}_interrupt"), "the generation to end", 120)
        time.sleep(1)
        return self.text(f"#html_info_{tab}")


def _title(item: Any) -> str:
    text: str = item.text
    return text.replace("✓", "").strip().casefold()
