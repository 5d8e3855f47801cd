"""In a real browser: a sweep watched, the app killed in its middle, stopped and resumed; two browsers; blind keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from doubles.browser import chromium, free_port, served

from workbench.define.project import Project, load_project
from workbench.jobs import list_jobs, state
from workbench.records import Run
from workbench.store.database import Database
from workbench.store.runs import list_runs
from workbench.store.votes import list_votes

pytestmark = pytest.mark.slow
MILLISECONDS = 120_000
SUITE = """\
prompts: [hello, bye]
models: [{model}]
params: {{max_tokens: 8}}
cases: data/people.jsonl
scorers: [contains]
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nBye {{ who }}")
    write(
        tmp_path / "data/people.jsonl",
        "".join(f'{{"id": "p{i}", "who": "P{i}", "expected": "P{i}"}}\n' for i in range(12)),
    )
    write(tmp_path / "evals/greet.yaml", SUITE.format(model="house"))
    slow = "models: {house: {engine: echo, options: {delay: 2}, limits: {concurrency: 1}}}\n"
    write(tmp_path / "workbench.yaml", slow)
    project = load_project(tmp_path)
    yield project
    for job in list_jobs(project):
        if state(job) != "ended":
            os.kill(job.pid, signal.SIGKILL)


@contextmanager
def app(project: Project, port: int) -> Iterator[str]:
    with served(project.root, port=port) as (address, server):
        try:
            yield address
        finally:
            server.kill()  # as a crash would


def wait_for(what: Callable[[], object]) -> object:
    end = time.monotonic() + MILLISECONDS / 1000
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("what was waited for did not come")


@pytest.fixture
def port() -> int:
    return free_port()


def opened(browser, address: str):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(MILLISECONDS)
    page.goto(address)
    return page


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def newest(project: Project) -> Run | None:
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        return next(iter(list_runs(connection, limit=1)), None)


def answered(project: Project, count: int) -> bool:
    run = newest(project)
    return run is not None and run.answered >= count


def ended(project: Project) -> bool:
    return all(state(job) == "ended" for job in list_jobs(project))


def test_a_sweep_outlives_the_app_and_is_stopped_and_resumed(browser, project: Project, port: int) -> None:
    with app(project, port) as address:
        page, other = (opened(browser, f"{address}/sweep?suite=greet") for _ in range(2))
        button(other, "Start").wait_for()
        button(page, "Check").click()
        page.get_by_text("distinct requests: 24").wait_for()
        button(page, "Start").click()
        page.get_by_text("so far, incomplete").or_(page.get_by_text("a second")).first.wait_for()
        wait_for(lambda: answered(project, 2))
        button(other, "Pause or stop").wait_for()  # by itself, though it had no job to watch
        page.close()
        other.close()
    (job,) = list_jobs(project)
    before = newest(project)
    assert before is not None and before.status == "running" and state(job) == "running"
    wait_for(lambda: answered(project, before.answered + 2))
    with app(project, port) as address:
        first, second = (opened(browser, f"{address}/sweep?suite=greet") for _ in range(2))
        button(second, "Pause or stop").wait_for()
        button(first, "Pause or stop").click()
        button(second, "Resume").wait_for()  # the other browser sees it by itself
        stopped = newest(project)
        assert stopped is not None and stopped.status == "stopped" and stopped.answered < 24
        button(second, "Resume").click()
        first.get_by_text("greet · running").wait_for()
        wait_for(lambda: ended(project))
        first.get_by_text("greet · complete").wait_for()
    run = newest(project)
    assert run is not None and (run.id, run.status, run.answered) == (before.id, "complete", 24)


def test_judging_blind_with_keys(browser, project: Project, port: int) -> None:
    write(project.root / "workbench.yaml", "models: {house: {engine: echo}}\n")
    command = [sys.executable, "-m", "workbench", "--project", str(project.root), "run", "greet", "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    with app(project, port) as address:
        page = opened(browser, f"{address}/judge?rater=Eva")
        for key, told in (
            ("1", "1."), ("2", "2."), ("0", "3."), ("Space", "3 and skipped 1."), ("1", "4 and skipped 1."),
            ("u", "3 and skipped 1."),
        ):  # fmt: skip
            page.get_by_role("button", name="Skip").wait_for()  # its name tells its key, too
            assert not [name for name in ("hello", "bye", "house") if name in page.inner_text("[data-testid=stMain]")]
            page.keyboard.press(key)
            page.get_by_text(f"You have judged {told}", exact=True).wait_for()
    run = newest(project)
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        votes = list_votes(connection, run.id if run else "", "pair")
    assert [(v.rater, v.said) for v in votes] == [("Eva", "first"), ("Eva", "second"), ("Eva", "tie")]


@pytest.mark.model
def test_a_sweep_on_smollm2(browser, project: Project, port: int) -> None:
    write(project.root / "evals/greet.yaml", SUITE.format(model="smollm2"))
    with app(project, port) as address:
        page = opened(browser, f"{address}/sweep?suite=greet")
        button(page, "Check").click()
        page.get_by_text("A local model computes on this machine").wait_for()
        button(page, "Start").click()
        page.get_by_text("greet · complete").wait_for()
    run = newest(project)
    assert run is not None and run.answered == 24
