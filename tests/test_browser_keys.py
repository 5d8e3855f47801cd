"""In a real browser, with the keyboard alone: a prompt edited, a suite started, its run compared."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.browser import chromium, served, settled

from workbench.define.project import Project, load_project
from workbench.jobs import list_jobs, state

pytestmark = pytest.mark.slow
MILLISECONDS = 90_000
MOST_TABS = 16
"""From a screen's link among the screens, or from a button that was pressed, to what one wants there."""
SUITE = """\
prompts: [hello, bye]
models: [house]
params: {max_tokens: 8}
cases: data/people.jsonl
scorers: [contains, length]
gates: [{scorer: contains, at_least: 0.1}]
"""
FOCUS = """() => {
    const one = document.activeElement
    const label = one.labels?.[0]?.innerText ?? ''
    return one.tagName + ' ' + (one.getAttribute('aria-label') || label || one.innerText || '').trim().split('\\n')[0]
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    for name, text in (
        ("prompts/hello.prompty", "user:\nHello {{ who }}"),
        ("prompts/bye.prompty", "user:\nBye {{ who }}"),
        ("data/people.jsonl", "".join(f'{{"id": "p{i}", "who": "P{i}", "expected": "P{i}"}}\n' for i in range(9))),
        ("evals/greet.yaml", SUITE),
        ("workbench.yaml", "models: {house: {engine: echo}}\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    project = load_project(tmp_path)
    yield project
    for job in list_jobs(project):
        if state(job) != "ended":
            os.kill(job.pid, signal.SIGKILL)


@pytest.fixture
def page(browser, project: Project):
    with served(project.root) as (address, _):
        found = browser.new_page(viewport={"width": 1280, "height": 1000})
        found.set_default_timeout(MILLISECONDS)
        found.goto(address)
        settled(found)
        yield found
        found.close()


def focus(page) -> str:
    return str(page.evaluate(FOCUS))


def go(page, *wanted: str, key: str = "Tab", most: int = MOST_TABS) -> int:
    """Presses a key until one of these has the focus; how often that took."""
    for presses in range(1, most + 1):
        page.keyboard.press(key)
        if focus(page) in wanted:
            return presses
    raise AssertionError(f"{wanted} is not within {most} presses of {key}; at last: {focus(page)}")


def open_screen(page, title: str, key: str = "Tab") -> int:
    presses = go(page, f"A {title}", key=key, most=40)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=title, exact=True).wait_for()
    settled(page)
    return presses


def test_the_whole_path_with_the_keyboard_alone(page, project: Project) -> None:
    counts = {"to Prompts": open_screen(page, "Prompts")}
    counts["to the text"] = go(page, "TEXTAREA Text of bye")
    page.keyboard.press("Control+End")
    page.keyboard.type(" and farewell")
    counts["to Save"] = go(page, "BUTTON Save")
    page.keyboard.press("Enter")
    page.get_by_text("saved as revision").wait_for()
    settled(page)
    assert focus(page) == "BUTTON Save", "the place on the page is kept"
    assert (project.root / "prompts/bye.prompty").read_text() == "user:\nBye {{ who }} and farewell"

    counts["to Sweep"] = open_screen(page, "Sweep", key="Shift+Tab")
    counts["to Start"] = go(page, "BUTTON Start")
    page.keyboard.press("Enter")
    page.get_by_text("greet · complete").wait_for()
    settled(page)
    assert focus(page) == "BUTTON Start"

    counts["to the run"] = go(page, "BUTTON Compare", key="Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    settled(page)
    counts["to Reference"] = go(page, "INPUT Reference", most=40)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('ref=')")
    settled(page)
    assert focus(page) == "INPUT Reference"
    assert sum(counts.values()) < 60, counts


def test_a_field_that_is_left_for_save_is_saved(page, project: Project) -> None:
    """The press comes before the app has answered to what was typed."""
    open_screen(page, "Sweep")
    page.get_by_label("Budget of time").fill("7m")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("evals/greet.yaml is saved").wait_for()
    assert "time: 7m" in (project.root / "evals/greet.yaml").read_text()


def test_saving_a_suite_keeps_the_place(page, project: Project) -> None:
    open_screen(page, "Sweep")
    page.get_by_label("Budget of time").press_sequentially("7m")
    page.get_by_text("kept as a draft").wait_for()
    settled(page)
    page.get_by_role("button", name="Save", exact=True).focus()
    for said in ("is saved", "says the same already"):
        page.keyboard.press("Enter")
        page.get_by_text(said).wait_for()
        settled(page)
        assert focus(page) == "BUTTON Save"
