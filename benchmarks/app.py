"""How fast the app is on a big store: one run of 100,000 trials, 300 runs.

For each screen, in Chromium: how long until its title, and until everything stands (cold: a fresh server; warm: the
same server again), beside an empty Streamlit page in the same run; how long an interaction takes; the server's memory.
Every figure is the median of ROUNDS; the cold ones of COLD fresh servers.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from _big_store import make_project
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from make_screens import QUIET, free_port, wait_until_up  # noqa: E402

COLD, ROUNDS = 3, 5
SCREENS = {
    "Journey": "/",
    "Prompts": "/prompts",
    "Playground": "/playground",
    "Sweep": "/sweep",
    "Compare": "/compare",
    "Judge by eye": "/judge",
    "Models": "/models",
    "Runs": "/runs",
}
PARTS = {
    "Axes": "/compare?view=axes",
    "Quality and price": "/compare?view=price",
    "Cases": "/compare?view=cases&order=spread",
    "Outputs": "/compare?view=outputs",
}
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
TITLE = "[data-testid=stMain] [data-testid=stHeading]"
EMPTY = "import streamlit as st\nst.title('Empty')\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        project = Path(sys.argv[1]) if len(sys.argv) > 1 else make_project(Path(folder) / "project")
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        _cold(browser, project, empty)
        with _served(_workbench(project)) as (address, server):
            _warm(browser, address)
            _interactions(browser, address)
            print(f"memory of the app after all of this: {_memory(server):,.0f} MiB")
        browser.close()


def _cold(browser: Browser, project: Path, empty: Path) -> None:
    """The first page that a fresh server shows: its title, and all of it."""
    streamlit = [sys.executable, "-m", "streamlit", "run", str(empty), "--browser.gatherUsageStats=false"]
    print(f"{'fresh server':<24}{'title':>10}{'whole page':>14}{'memory':>14}")
    for name, path in {"empty page": "/", **SCREENS}.items():
        found = []
        for _ in range(COLD):
            command = streamlit if name == "empty page" else _workbench(project)
            with _served(command) as (address, server):
                found.append((*_load(browser, address + path), _memory(server)))
        title, whole, memory = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:<24}{title:>8.2f} s{whole:>12.2f} s{memory:>10,.0f} MiB")


def _warm(browser: Browser, address: str) -> None:
    print(f"\n{'same server':<24}{'title':>10}{'whole page':>14}")
    for name, path in {**SCREENS, **PARTS}.items():
        _load(browser, address + path)
        found = [_load(browser, address + path) for _ in range(ROUNDS)]
        title, whole = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:<24}{title:>8.2f} s{whole:>12.2f} s")


def _interactions(browser: Browser, address: str) -> None:
    """From a click to the page at rest."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    print(f"\n{'interaction':<44}{'median':>10}{'first':>10}")
    page.goto(address + "/compare?view=scores")
    _rest(page)
    for name, part in (
        ("another part: Axes", "Axes"),
        ("another part: Cases", "Cases"),
        ("another part: Outputs", "Outputs"),
    ):
        _timed(page, name, lambda part=part: page.get_by_role("radio", name=part).or_(
            page.get_by_role("button", name=part, exact=True)).first.click())  # fmt: skip
    _timed(page, "next case", lambda: page.get_by_test_id("stNumberInputStepUp").click())
    page.goto(address + "/compare?view=cases&order=spread")
    _rest(page)
    _timed(page, "next page of cases", lambda: page.get_by_role("button", name="Next").click())
    for label, screen in (("another scorer, Compare", "/compare?view=scores"), ("another scorer, Journey", "/")):
        page.goto(address + screen)
        _rest(page)
        _timed(page, label, lambda: _other_scorer(page))
    page.close()


def _other_scorer(page: Page) -> None:
    box = page.get_by_role("combobox", name="Scorer").first
    box.click()
    page.locator("[role=option][aria-selected=false]").first.click()


def _timed(page: Page, name: str, act: Callable[[], None]) -> None:
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        page.wait_for_timeout(60)  # until the script has begun
        page.wait_for_selector(READY)
        taken.append(time.perf_counter() - start)
    print(f"{name:<44}{statistics.median(taken):>8.2f} s{taken[0]:>8.2f} s")


def _load(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds from asking to the title, and to the page at rest."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(TITLE, timeout=60_000)
    title = time.perf_counter() - start
    _rest(page)
    whole = time.perf_counter() - start
    page.close()
    return title, whole


def _rest(page: Page) -> None:
    page.wait_for_selector(TITLE, timeout=60_000)
    page.wait_for_selector(READY, timeout=60_000)


def _workbench(project: Path) -> list[str]:
    return [sys.executable, "-m", "workbench", "--project", str(project), "ui"]


@contextmanager
def _served(command: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    own = "--headless" if command[2] == "workbench" else "--server.headless=true"
    at = ["--port", str(port)] if command[2] == "workbench" else [f"--server.port={port}", "--server.address=127.0.0.1"]
    server = subprocess.Popen([*command, own, *at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(address)
        yield address, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(20)


def _memory(server: psutil.Process) -> float:
    return float(server.memory_info().rss) / 2**20


if __name__ == "__main__":
    main()
