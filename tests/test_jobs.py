"""Jobs: runs in processes of their own. Every process here is a real one, on echo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from workbench.cli import main
from workbench.define.project import Project, load_project
from workbench.errors import UseError
from workbench.jobs import Job, list_jobs, log_end, note_run, start_job, state, stop_job
from workbench.records import Run
from workbench.store.database import Database
from workbench.store.runs import get_run, list_runs
from workbench.store.standing import run_of_process, standing

SUITE = """
name: {name}
prompts: [hello]
models: [house]
params: {{temperature: [0, 1], max_tokens: 20}}
cases:
  - {{id: a, who: Ann, expected: Ann}}
  - {{id: b, who: Ben, expected: Ben}}
  - {{id: c, who: Cat, expected: "no"}}
scorers: [contains]
"""
SECONDS = 120.0
"""How long to wait at most; no test's outcome depends on how long it takes."""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def wait_for(what: Callable[[], object]) -> object:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("what was waited for did not come")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two suites on an echo that answers one question at a time, so that a run can be met half way."""
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    for name in ("one", "two"):
        write(tmp_path / f"evals/{name}.yaml", SUITE.format(name=name))
    slow = "models: {house: {engine: echo, options: {delay: 0.7}, limits: {concurrency: 1}}}\n"
    write(tmp_path / "workbench.yaml", slow)
    project = load_project(tmp_path)
    yield project
    for job in list_jobs(project):
        if state(job) != "ended":
            os.kill(job.pid, signal.SIGKILL)


def run_of(project: Project, job: Job) -> Run | None:
    with Database.open(project.store_url).read() as connection:
        run = job.run or run_of_process(connection, job.pid, job.queued)
        return get_run(connection, run) if run else None


def answered(project: Project, job: Job, count: int) -> Run | None:
    run = run_of(project, job)
    return run if run and run.answered >= count else None


def ended(job: Job) -> bool:
    return state(job) == "ended"


def test_a_job_runs_and_is_found_in_the_store(project: Project) -> None:
    job = start_job(project, "one", local=False)
    assert state(job) in ("waiting", "running") and list_jobs(project) == [job]
    run = wait_for(lambda: answered(project, job, 1))
    assert isinstance(run, Run) and run.suite == "one"
    with Database.open(project.store_url).read() as connection:
        wait_for(lambda: ended(job))
        how = standing(connection, run.id)
    assert how.cost is None and len(how.newest) == 3 and how.newest[0].text.startswith("Hello") and how.rate
    done = run_of(project, job)
    assert done is not None and (done.status, done.answered) == ("complete", 6)
    assert log_end(project, job).splitlines()[-1] == run.id


def test_a_job_is_stopped_and_taken_up(project: Project) -> None:
    job = start_job(project, "one", local=False)
    wait_for(lambda: answered(project, job, 1))
    stop_job(project, job)
    assert state(list_jobs(project)[0]) in ("stopping", "ended")
    wait_for(lambda: ended(job))
    run = run_of(project, job)
    assert run is not None and run.status == "stopped" and 1 <= run.answered < 6
    job = note_run(project, job, run.id)
    assert list_jobs(project) == [replace(job, stop_asked=True)]
    again = start_job(project, "one", local=False, resume=run.id)
    assert [j.id for j in list_jobs(project)] == [again.id], "the job that it goes on from is one with it"
    wait_for(lambda: ended(again))
    after = run_of(project, again)
    assert after is not None and (after.id, after.status, after.answered) == (run.id, "complete", 6)


def test_a_suite_runs_once_at_a_time(project: Project) -> None:
    job = start_job(project, "one", local=False)
    with pytest.raises(UseError, match=f"process {job.pid}"):
        start_job(project, "one", local=False)
    other = start_job(project, "two", local=False)
    wait_for(lambda: ended(job) and ended(other))
    runs = [run_of(project, j) for j in (job, other)]
    assert [r.status for r in runs if r] == ["complete"] * 2


def test_local_jobs_take_turns(project: Project) -> None:
    first, second = start_job(project, "one", local=True), start_job(project, "two", local=True)
    wait_for(lambda: answered(project, first, 1))
    assert (state(first), state(second)) == ("running", "waiting") and run_of(project, second) is None
    stop_job(project, first)
    wait_for(lambda: answered(project, second, 1))
    assert ended(first)
    stop_job(project, second)
    wait_for(lambda: ended(second))


def test_a_waiting_job_is_stopped_without_a_run(project: Project) -> None:
    first, second = start_job(project, "one", local=True), start_job(project, "two", local=True)
    wait_for(lambda: state(second) == "waiting" and answered(project, first, 1))
    stop_job(project, second)
    wait_for(lambda: ended(second))
    assert run_of(project, second) is None and state(first) == "running"


def test_a_killed_job_is_interrupted(project: Project) -> None:
    job = start_job(project, "one", local=False)
    wait_for(lambda: answered(project, job, 1))
    os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: ended(job))
    run = run_of(project, job)
    assert run is not None and run.status == "interrupted"


def test_a_job_outlives_the_process_that_started_it(project: Project) -> None:
    code = (
        "import sys; from pathlib import Path; from workbench.define.project import load_project\n"
        "from workbench.jobs import start_job; start_job(load_project(Path(sys.argv[1])), 'one', local=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(project.root)], check=True)
    (job,) = list_jobs(project)
    wait_for(lambda: ended(job))
    run = run_of(project, job)
    assert run is not None and run.status == "complete"


def test_another_process_of_the_same_id_is_not_hit(project: Project) -> None:
    """The test's own process stands for the one that was given the id anew: Ctrl-C would end the test."""
    own = psutil.Process()
    job = Job("j", "one", "x", False, time.time(), os.uname().nodename, own.pid, own.create_time() - 100)
    assert state(job) == "ended"
    with pytest.raises(UseError, match="has ended already"):
        stop_job(project, job)


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ("none", "unknown suite 'none'"),
        ("{outside}/other.yaml", "lies outside"),
        ("--help", "unknown suite"),
    ],
)
def test_what_can_not_be_started(project: Project, tmp_path_factory, suite: str, told: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "other.yaml", SUITE.format(name="other"))
    with pytest.raises(UseError, match=told):
        start_job(project, suite.format(outside=outside), local=False)
    assert list_jobs(project) == []


def test_the_folder_is_no_link(project: Project, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (project.root / ".workbench").symlink_to(outside)
    with pytest.raises(UseError, match="reached by a link"):
        start_job(project, "one", local=False)
    assert list(outside.iterdir()) == []


def test_what_goes_wrong_is_in_the_log(project: Project) -> None:
    write(project.root / "evals/one.yaml", SUITE.format(name="one") + "nonsense: 1\n")
    job = start_job(project, "one", local=False)
    wait_for(lambda: ended(job))
    assert "unknown key 'nonsense'" in log_end(project, job) and run_of(project, job) is None


def test_unreadable_jobs_are_left_out_and_the_command_lists_the_rest(project: Project, capsys) -> None:
    assert main(["--project", str(project.root), "jobs"]) == 0
    assert "no job yet" in capsys.readouterr().err
    job = start_job(project, "one", local=False)
    wait_for(lambda: ended(job))
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"id": 1}')):
        write(project.root / f".workbench/jobs/{name}.json", text)
    assert main(["--project", str(project.root), "jobs", "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    with Database.open(project.store_url).read() as connection:
        (run,) = list_runs(connection)
    assert (row["suite"], row["state"], row["run"], row["status"], row["answered"]) == (
        "one", "ended", run.id, "complete", 6,
    )  # fmt: skip
