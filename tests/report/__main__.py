"""Pictures of a report for the docs: `python -m tests.report DIR` writes report-light.png and -dark.png there."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bohdi.report.writing import Writer
from bohdi.run_places import run_place
from tests.report.browser import chromium, opened

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_SECTIONS = {"light": "summary", "dark": "tree"}  # what is at the top of each picture


def main(folder: Path) -> None:
    """Draws the report of the run in `folder`."""
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside) / "report.html"
        writer = Writer(run_place(folder, None, None), file)
        writer.read_on()
        writer.write()
        with chromium() as browser:
            for scheme, section in _SECTIONS.items():
                with opened(browser, file, scheme) as shown:
                    shown.page.locator(f"#{section}").scroll_into_view_if_needed()
                    shown.page.evaluate(f"document.getElementById('{section}').scrollIntoView()")
                    shown.page.wait_for_timeout(1_000)  # what moves in a chart has come to rest
                    shown.page.screenshot(path=FOLDER / f"report-{scheme}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
