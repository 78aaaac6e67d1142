"""A page in headless Chromium, by what a person sees: labels, buttons, texts."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60


class Browser:
    """profile: an empty folder. window: its width and height."""

    def __init__(self, url: str, profile: Path, window: tuple[int, int] = (1300, 1350)) -> None:
        webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium to drive the page")
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not chromium or not driver:
            pytest.skip("install chromium and chromedriver to drive the page")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--window-size={window[0]},{window[1]}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.url = url
        self.open()

    def open(self) -> None:
        self.driver.get(self.url)

    def close(self) -> None:
        self.driver.quit()

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        deadline = time.time() + seconds
        while time.time() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.2)
        if os.environ.get("IMAGEREWARD_SCREENSHOTS"):
            self.screenshot(Path(os.environ["IMAGEREWARD_SCREENSHOTS"]) / "failure.png")
        raise AssertionError(f"waited {seconds} s in vain for {what}")

    def find(self, selector: str) -> Any:
        return self.wait(lambda: self.driver.find_elements("css selector", selector), selector)[0]

    def visible(self, selector: str) -> Any:
        return next((e for e in self.driver.find_elements("css selector", selector) if e.is_displayed()), None)

    def text(self, selector: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def value(self, selector: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.value ?? ''", selector)

    def checked(self, selector: str) -> bool:
        return self.js("return document.querySelector(arguments[0]).checked", f"{selector} input[type=checkbox]")

    def click(self, selector: str) -> None:
        element = self.wait(lambda: self.visible(selector), f"{selector} to be visible")
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, selector: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        element = self.wait(lambda: self.visible(selector), f"{selector} to be visible")
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text)
        element.send_keys(Keys.TAB)

    def screenshot(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
