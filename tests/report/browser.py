"""A headless Chromium without a network, and pages opened in it of which nothing is missed that they say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = Path(__file__).parents[2] / ".chromium" / "chromium"
WAIT_MS = 400_000.0  # of a machine with a load of thirty


@contextmanager
def chromium() -> Iterator[Browser]:
    """As root it runs without its sandbox, which it refuses to have there."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments, timeout=WAIT_MS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page, what it said on the console or by dialogs, and all that it asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """What is written in an element, shown or not."""
        return self.page.locator(selector).text_content() or ""

    def rows(self, table: str) -> list[list[str]]:
        """The cells of the body of a table, row by row."""
        found: list[list[str]] = self.page.eval_on_selector_all(
            f"#{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return found

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)


@contextmanager
def opened(
    browser: Browser, file: Path, scheme: Any = "light", width: int = 1100, address: str = ""
) -> Iterator[Opened]:
    """The page in `file`, drawn, with the network off. `address`: what follows the file's in the address bar."""
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    found = Opened(page)

    def on_console(message: ConsoleMessage) -> None:
        found.said.append(f"{message.type}: {message.text}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: found.said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (found.said.append(f"dialog: {dialog.message}"), dialog.dismiss())[1])
    page.on("request", lambda request: found.asked.append(request.url))
    try:
        page.goto(file.absolute().as_uri() + address)
        page.wait_for_selector("html[data-drawn]", state="attached")
        yield found
    finally:
        context.close()
