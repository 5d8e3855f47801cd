"""Makes docs/screens/*.png: each screen of the app on a project's real runs, as Chromium shows it.

    python docs/make_screens.py [PROJECT] [--to FOLDER] [--widths 1280,390] [--dark] [--only compare-cases]

Needs Playwright and a Chromium; nothing else is reached than the app that this script starts.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SCREENS = {
    "journey": "/",
    "prompts": "/prompts",
    "playground": "/playground",
    "sweep": "/sweep",
    "compare": "/compare",
    "compare-axes": "/compare?view=axes",
    "compare-parallel": "/compare?view=parallel",
    "compare-price": "/compare?view=price",
    "compare-cases": "/compare?view=cases&order=spread",
    "compare-outputs": "/compare?view=outputs&diff=1",
    "compare-notes": "/compare?view=notes",
    "judge": "/judge",
    "models": "/models",
    "runs": "/runs",
}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
TALLEST = 1_600


def main() -> None:
    options = _options()
    options.to.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no Chromium here")
    with served(options.project) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        for width in map(int, options.widths.split(",")):
            page = browser.new_page(
                viewport={"width": width, "height": 800}, color_scheme="dark" if options.dark else "light"
            )
            for name, path in SCREENS.items():
                if options.only and name not in options.only.split(","):
                    continue
                page.goto(address + path)
                settle(page)
                _whole_page(page, width)
                suffix = ("" if width == 1280 else f"-{width}") + ("-dark" if options.dark else "")
                target = options.to / f"{name}{suffix}.png"
                page.screenshot(path=target)
                page.set_viewport_size({"width": width, "height": 800})
                print(target)
        browser.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Screenshots of the app")
    parser.add_argument("project", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "screens")
    parser.add_argument("--widths", default="1280")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--only", default="")
    return parser.parse_args()


@contextmanager
def served(project: Path) -> Iterator[str]:
    """The app on the project, at a free port; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "workbench", "--project", str(project), "ui", "--headless", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_up(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_up(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the app does not start")


def settle(page: Page) -> None:
    """Until the page has its title and the script has run."""
    page.wait_for_selector("[data-testid=stHeading], [data-testid=stAlert]", timeout=60_000)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(1_200)  # charts draw themselves


def _whole_page(page: Page, width: int) -> None:
    """Streamlit scrolls inside; the window is made as tall as the content."""
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": width, "height": max(500, min(int(height) + 20, TALLEST))})
    page.wait_for_timeout(700)


if __name__ == "__main__":
    main()
