"""The whole path on `echo`: planned, asked, kept, scored, shown; stopped, killed, resumed, reused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from workbench.begin import RunOptions
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import EngineError, SuiteError
from workbench.evaluate import run_suite
from workbench.prepare import plan_suite, prepare_suite
from workbench.registry import SCORERS
from workbench.store import runs
from workbench.store.database import Database

SUITE = """
name: greet
prompts: [hello, bye]
models: [house]
params: {temperature: [0, 1], max_tokens: 5}
repeats: 2
cases:
  - {id: a, who: Ann, expected: Ann}
  - {id: b, who: Ben, expected: Ben}
  - {id: c, who: Cat, expected: "no"}
scorers: [contains]
"""
MODEL = """
models:
  house:
    engine: echo
    price: {input: 1, output: 2}
    %s
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nGoodbye then, {{ who }}")
    write(tmp_path / "evals/greet.yaml", SUITE)
    write(tmp_path / "workbench.yaml", MODEL % "")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ready(root: Path):
    project = load_project(root)
    suite = load_suite("greet", project, Library(project.library_root), SCORERS.names())
    return prepare_suite(suite, root), Database.open(project.store_url)


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def test_a_run_keeps_every_answer_with_its_scores(project: Path) -> None:
    prepared, database = ready(project)
    progress, status = run_suite(prepared, database)
    assert (status, progress.done, progress.failed, progress.reused) == ("complete", 24, 0, 0)
    assert progress.requests == 18, "greedy repeats are one request: 2 prompts × 3 cases × (1 + 2)"
    with database.read() as connection:
        run = runs.get_run(connection, progress.run)
        rows = list(runs.trial_rows(connection, run.id))
        columns = runs.score_columns(connection, run.id, "contains")
    assert (run.status, run.answered, run.planned) == ("complete", 24, 24)
    assert len(rows) == len({r.trial_id for r in rows}) == 24
    assert all(r.output and r.inputs["who"] in r.output.text for r in rows)
    assert sum(columns.value) == 16
    assert columns.missing == (0, 0, 0, 0)
    assert progress.cost == pytest.approx(sum(r.output.cost for r in {x.request_id: x for x in rows}.values()))
    assert {"versions", "git", "machine", "seed", "suite", "models"} <= run.header.keys()


def test_a_second_run_asks_nothing_and_a_fresh_one_asks_again(project: Path) -> None:
    prepared, database = ready(project)
    first, _ = run_suite(prepared, database)
    second, _ = run_suite(prepared, database)
    assert (second.reused, second.requests) == (24, 0)
    fresh, _ = run_suite(prepared, database, RunOptions(fresh=True))
    assert (fresh.reused, fresh.requests) == (0, 18)
    with database.read() as connection:
        seeds = [runs.get_run(connection, p.run).header["seed"] for p in (first, second, fresh)]
    assert seeds[0] == seeds[1] == 0 != seeds[2]


def test_cases_of_other_blocks_that_ask_the_same_share_the_answer(project: Path) -> None:
    rows = "\n".join(f"  - {{id: c{i}, who: Ann, expected: Ann}}" for i in range(40))
    start = SUITE.index("  - {id: a")
    write(project / "evals/greet.yaml", SUITE[:start] + rows + "\nscorers: [contains]\nblock: 8\n")
    write(project / "workbench.yaml", MODEL % "options: {delay: 0.1}")
    prepared, database = ready(project)
    progress, _ = run_suite(prepared, database)
    assert (progress.done, progress.requests) == (320, 6)
    with database.read() as connection:
        assert sum(runs.score_columns(connection, progress.run, "contains").value) == 320


def test_editing_one_prompt_asks_only_for_it(project: Path) -> None:
    prepared, database = ready(project)
    run_suite(prepared, database)
    write(project / "prompts/bye.prompty", "user:\nSee you, {{ who }}")
    prepared, database = ready(project)
    progress, _ = run_suite(prepared, database)
    assert (progress.reused, progress.requests) == (12, 9)


def test_a_dry_run_says_what_a_run_then_does(project: Path) -> None:
    prepared, database = ready(project)
    plan = plan_suite(prepared, database)
    assert (plan.trials, plan.requests, plan.answered) == (24, 18, 0)
    assert plan.output_tokens == 90
    assert plan.cost == pytest.approx((plan.prompt_tokens * 1 + 90 * 2) / 1e6)
    progress, _ = run_suite(prepared, database)
    assert (progress.planned, progress.requests) == (plan.trials, plan.requests)
    assert progress.cost <= plan.cost


def test_a_stopped_run_is_resumed_under_its_own_id(project: Path) -> None:
    write(project / "workbench.yaml", MODEL % "options: {delay: 0.05}\n    limits: {concurrency: 2}")
    prepared, database = ready(project)
    stop = Event()
    progress, status = run_suite(prepared, database, None, lambda p: stop.set() if p.done >= 4 else None, stop)
    assert status == "stopped"
    assert 4 <= progress.done < 24
    with database.read() as connection:
        assert runs.get_run(connection, progress.run).status == "stopped"
        kept = runs.get_run(connection, progress.run).answered
    resumed, status = run_suite(prepared, database, RunOptions(resume=progress.run))
    assert (resumed.run, status, resumed.done, resumed.reused) == (progress.run, "complete", 24, kept)


def test_a_failure_is_a_record_and_is_asked_again(project: Path) -> None:
    write(
        project / "workbench.yaml",
        MODEL % 'options: {fail: {"Ben": {kind: server, message: "out of order", retry: false}}}',
    )
    prepared, database = ready(project)
    progress, status = run_suite(prepared, database)
    assert (status, progress.done, progress.failed) == ("complete", 24, 8)
    assert progress.failures == {"out of order": 8}
    with database.read() as connection:
        assert {r.case_id for r in runs.trial_rows(connection, progress.run, runs.TrialFilter(failures=True))} == {"b"}
        assert runs.score_columns(connection, progress.run, "contains").missing == (2, 2, 2, 2)
    again, _ = run_suite(prepared, database)
    assert (again.reused, again.requests) == (16, 6)


CRASH = "def score(text, inputs, expected):\n    assert inputs['who'] != 'Cat', 'no cats'\n    return True\n"


def test_a_scorer_that_crashes_loses_no_answer(project: Path) -> None:
    write(project / "evals/own.py", CRASH)
    write(project / "evals/greet.yaml", SUITE.replace("[contains]", '[{python: "evals/own.py:score"}]'))
    prepared, database = ready(project)
    progress, status = run_suite(prepared, database)
    assert (status, progress.done, progress.unscored.total()) == ("complete", 24, 8)
    assert "own.py:2" in next(iter(progress.unscored))
    assert "no cats" in next(iter(progress.unscored))
    with database.read() as connection:
        assert runs.score_columns(connection, progress.run, "python").missing == (2, 2, 2, 2)
    write(project / "evals/own.py", CRASH.replace("!= 'Cat'", "!= 'Dog'"))
    prepared, database = ready(project)
    mended, _ = run_suite(prepared, database)
    assert (mended.requests, mended.unscored.total()) == (0, 0)


class Broken:
    """An engine that answers three requests and then can't go on."""

    def __init__(self, engine):
        self.inner = engine

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def generate(self, requests):
        for count, output in enumerate(self.inner.generate(requests)):
            if count == 3:
                raise EngineError("the model fell over")
            yield output


def test_an_engine_that_breaks_ends_the_run_and_keeps_what_was_done(project: Path) -> None:
    prepared, database = ready(project)
    broken = {alias: Broken(engine) for alias, engine in prepared.engines.items()}
    with pytest.raises(EngineError, match="fell over"):
        run_suite(type(prepared)(prepared.suite, broken, prepared.scorers, prepared.root), database)
    with database.read() as connection:
        run = runs.list_runs(connection)[0]
        kept = connection.exec_driver_sql("SELECT count(*) FROM outputs").scalar()
    assert run.status == "failed"
    assert run.answered >= kept >= 3
    progress, status = run_suite(prepared, database, RunOptions(resume=run.id))
    assert (status, progress.done, progress.requests) == ("complete", 24, 18 - kept)


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (
            ("models: [house]", "models: [house]\nanswer: {grammar: evals/g.gbnf}"),
            SuiteError,
            "can't do answer: grammar",
        ),
        (("models: [house]", "models: [house]\nlogprobs: 3"), SuiteError, r"can't do logprobs: 3 \(at most 0\)"),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_asked(project: Path, change, expected, message: str) -> None:
    write(project / "evals/g.gbnf", 'root ::= "a"')
    write(project / "evals/greet.yaml", SUITE.replace(*change))
    with pytest.raises(expected, match=message):
        ready(project)


# The same through the command line, in processes of their own.


def start(root: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "greet", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(root: Path) -> int:
    if not (root / ".workbench/runs.db").exists():
        return 0
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    with database.read() as connection:
        found = runs.list_runs(connection)
    database.close()
    return found[0].answered if found else 0


def wait_for(root: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while answered(root) < count:
        assert time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.05)


SLOW = MODEL % "options: {delay: 0.1}\n    limits: {concurrency: 2}"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_in_the_middle_only_what_is_missing_is_asked(project: Path, how: signal.Signals, capsys) -> None:
    write(project / "workbench.yaml", SLOW)
    process = start(project)
    wait_for(project, 5)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    kept = answered(project)
    assert 5 <= kept < 24
    run = json.loads(output(capsys, call(project, "runs", "--json"), 0).splitlines()[0])
    if how is signal.SIGKILL:
        assert run["status"] == "interrupted"
    else:
        assert process.returncode == 130
        assert run["status"] == "stopped"
        assert f"--resume {run['run']}" in errors
    assert output(capsys, call(project, "run", "greet", "--quiet", "--resume", run["run"]), 0).strip() == run["run"]
    rows = [
        json.loads(line)
        for line in output(capsys, call(project, "show", "latest", "--case", "a", "--json"), 0).splitlines()
    ]
    assert len(rows) == 8
    prepared, database = ready(project)
    with database.read() as connection:
        assert runs.get_run(connection, run["run"]).answered == 24
        trials = list(runs.trial_rows(connection, run["run"]))
        assert len({t.trial_id for t in trials}) == 24
        asked = connection.exec_driver_sql("SELECT count(*), count(DISTINCT request) FROM outputs").one()
    assert asked == (18, 18), "no request was answered twice"


@pytest.mark.slow
def test_a_second_process_on_the_same_suite_is_refused(project: Path, capsys) -> None:
    write(project / "workbench.yaml", SLOW)
    process = start(project)
    wait_for(project, 1)
    code = call(project, "run", "greet")
    errors = capsys.readouterr().err
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert code == 3
    assert f"process {process.pid}" in errors


def output(capsys, code: int, expected: int) -> str:
    captured = capsys.readouterr()
    assert code == expected, captured.err
    return captured.out


def test_the_commands_read_what_a_run_wrote(project: Path, capsys, tmp_path_factory) -> None:
    run = output(capsys, call(project, "run", "greet", "--quiet"), 0).strip()
    assert run in output(capsys, call(project, "runs"), 0)
    shown = output(capsys, call(project, "show", run), 0)
    assert "67" in shown
    assert "contains" in shown
    scorers = [json.loads(line) for line in output(capsys, call(project, "show", run, "--json"), 0).splitlines()]
    assert [s["name"] for s in scorers] == ["contains"]
    for form in ("md", "html", "json", "csv"):
        path = tmp_path_factory.mktemp("reports") / f"r.{form}"
        assert output(capsys, call(project, "report", run, "--to", form, "--out", str(path)), 0).strip() == str(path)
        assert path.stat().st_size > 500
    json.loads(output(capsys, call(project, "report", run, "--to", "json", "--out", "-"), 0))
    other = output(capsys, call(project, "run", "greet", "--fresh", "--quiet"), 0).strip()
    compared = output(capsys, call(project, "compare", run, other), 0)
    assert "contains" in compared
    assert os.environ["NO_COLOR"] and "\x1b" not in compared + shown


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--wrong", "contains"], 0, "case c"),
        (["--wrong", "contians"], 2, "unknown scorer 'contians'; did you mean 'contains'?"),
        (["--wrong", "length"], 2, "gives a number"),
        (["--wrong", "contains", "--case", "a"], 0, "no trial is all that was asked for"),
        (["--failures"], 0, "every trial has an answer; '--wrong SCORER'"),
        (["--case", "z"], 2, "unknown case 'z'; known: a, b, c"),
        (["--trial", "tr1-zz"], 2, "has no trial 'tr1-zz'"),
    ],
)
def test_some_trials_of_a_run_are_shown(project: Path, capsys, options: list[str], code: int, told: str) -> None:
    write(project / "evals/greet.yaml", SUITE.replace("[contains]", "[contains, length]"))
    assert call(project, "run", "greet", "--quiet") == 0
    capsys.readouterr()
    assert call(project, "show", "latest", *options) == code
    printed = capsys.readouterr()
    assert told in printed.out + printed.err
    assert "case a" not in printed.out


def test_a_trial_is_found_by_the_id_that_is_shown(project: Path, capsys) -> None:
    assert call(project, "run", "greet", "--quiet") == 0
    capsys.readouterr()
    shown = output(capsys, call(project, "show", "latest", "--case", "b"), 0)
    trial = next(word for word in shown.split() if word.startswith("tr"))
    assert output(capsys, call(project, "show", "latest", "--trial", trial), 0).count("case b") == 1


def test_scorers_are_added_later_without_asking_a_model(project: Path, capsys) -> None:
    run = output(capsys, call(project, "run", "greet", "--quiet"), 0).strip()
    write(project / "workbench.yaml", "models: {house: {engine: openai, model: gone}}")
    shown = output(
        capsys, call(project, "score", run, "--with", "length: {unit: words}", "--json", "--with", "exact"), 0
    )
    assert {json.loads(line)["name"] for line in shown.splitlines()} == {"contains", "length", "exact"}
    assert call(project, "score", run, "--with", "length: {unit: words}") == 0
    assert "0 scores made, 24 kept" in capsys.readouterr().err
    write(project / "evals/greet.yaml", SUITE.replace("[contains]", "[{contains: {ignore_case: true}}, similarity]"))
    assert call(project, "score", run) == 0
    assert "48 scores made, 0 kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("length: {unit: words}", None),
        ("{length: {unit: words}, as: words}", None),
        ("exact", None),
        ("{", "--with '{': not valid YAML: a '[' or '{' is not closed"),
        ("length: [80", "--with 'length: [80': not valid YAML: a '[' or '{' is not closed"),
        ('regex: "a', """--with 'regex: "a': not valid YAML: a quotation mark is not closed"""),
        ("lenght", "--with 'lenght': unknown scorer 'lenght'; did you mean 'length'?"),
        ("length: 1, exact: 2", "--with 'length: 1, exact: 2': not valid YAML: mapping values are not allowed here"),
        ("length: {unit: lines}", "scorer 'length': the setting 'unit' should be 'chars', 'words' or 'tokens'"),
        ("3", "--with '3': scorers[0] must be"),
    ],
)
def test_a_scorer_of_the_command_line_is_shown_as_it_was_written(
    project: Path, capsys, text: str, told: str | None
) -> None:
    assert call(project, "run", "greet", "--quiet") == 0
    assert call(project, "score", "latest", "--with", text) == (0 if told is None else 2)
    errors = capsys.readouterr().err
    assert "scores made" in errors if told is None else errors.strip().startswith(f"workbench: {told}")


@pytest.mark.parametrize("text", ["[", "{a: 1", "'a"])
def test_a_value_of_the_command_line_is_shown_as_it_was_written(project: Path, capsys, text: str) -> None:
    assert call(project, "run", "greet", "--set", f"top_k={text}") == 2
    assert capsys.readouterr().err.startswith(f"workbench: --set top_k '{text}': not valid YAML: ")


@pytest.mark.parametrize(
    ("options", "trials"),
    [
        (["--only", "prompt=hello"], 12),
        (["--only", "prompt=hello", "--only", "temperature=0"], 6),
        (["--set", "temperature=0.3"], 12),
        (["--limit", "1"], 8),
        (["--repeats", "1"], 12),
    ],
)
def test_a_run_can_be_narrowed(project: Path, capsys, options: list[str], trials: int) -> None:
    plan = json.loads(output(capsys, call(project, "run", "greet", "--dry-run", "--json", *options), 0))
    assert plan["trials"] == trials
