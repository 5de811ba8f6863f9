"""A page in Debian's Chromium, driven by Playwright: what it looks like, and what it does."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Root may not use the sandbox, and nothing is to be looked up in the network.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-quic",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def find_chromium() -> str | None:
    """The program that $CHROMIUM names, or one on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A browser with an empty profile, for as long as the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A file as a window of this size shows it; as on a phone below 600 pixels.

    requests: addresses that were asked for. complaints: errors, and whatever the page wrote to the console.
    """

    def __init__(self, browser: Browser, file: Path, **window: Any) -> None:
        width, height = window.get("width", 1200), window.get("height", 900)
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            is_mobile=width < 600,
            color_scheme="dark" if window.get("dark") else "light",
            java_script_enabled=window.get("script", True),
        )
        self.page: Page = self._context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.emulate_media(media=window.get("media", "screen"))
        self.page.goto(file.absolute().as_uri())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.page.evaluate(expression)

    def accessibility_tree(self) -> list[dict[str, Any]]:
        """The nodes that screen readers are told of."""
        session = self._context.new_cdp_session(self.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def close(self) -> None:
        self._context.close()
