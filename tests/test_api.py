"""The workbench from Python: the calls that a script makes, on a model that is a function; examples run as printed."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from doubles.repository import SUITE, call, make_repository, write

import workbench
from workbench.registry import ENGINES, SCORERS


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


@pytest.fixture(autouse=True)
def _own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in (ENGINES, SCORERS):
        monkeypatch.setattr(registry, "_own", dict(registry._own))


def test_a_run_in_one_call(project: Path) -> None:
    seen: list[int] = []
    result = workbench.run_suite("mood", project, watch=lambda progress: seen.append(progress.done))
    assert (result.status, result.problem, seen[-1]) == ("complete", "", 200)
    frame = result.trials()
    assert len(frame) == 200
    assert frame["score.exact"].mean() == 0.8
    assert {"variant", "model", "case", "repeat", "output", "failure", "cost"} <= set(frame.columns)
    (row,) = result.summary().to_dict("records")
    assert (row["scorer"], row["mean"], row["cases"]) == ("exact", 0.8, 200)
    assert row["low"] < 0.8 < row["high"]


def test_nothing_is_asked_twice(project: Path) -> None:
    first, again = (workbench.run_suite("mood", project) for _ in range(2))
    assert first.progress.requests == 200
    assert (again.progress.requests, again.progress.reused) == (0, 200)


def test_it_is_what_the_command_line_does(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(project, "run", "mood", "--quiet") == 0
    run = capsys.readouterr().out.strip()
    assert workbench.run_suite("mood", project).progress.reused == 200
    view = workbench.compare_runs(["latest", run], project)
    assert [v.label.partition(" @ ")[0] for v in view.variants] == ["mood", "mood"]
    (comparison,) = view.scorers[0].comparisons
    assert comparison.difference == 0


def test_bounds_of_a_stored_run(project: Path) -> None:
    write(project, "evals/mood.yaml", SUITE.partition("  - {scorer: exact, no_worse")[0])
    result = workbench.run_suite("mood", project)
    assert result.check_gates().answer == "pass"
    assert workbench.check_gates("latest", project).answer == "pass"


def test_functions_become_scorer_and_engine(project: Path) -> None:
    @workbench.engine("upper")
    def upper(messages, params, seed):
        return messages[-1]["content"].upper()

    @workbench.scorer("shouts", kind="pass")
    def shouts(text, inputs, expected):
        return text.isupper(), "as wanted"

    text = SUITE.partition("gates:")[0].replace("[house]", "['upper:any']").replace("[exact]", "[shouts]")
    write(project, "evals/mood.yaml", text)
    result = workbench.run_suite("mood", project, workbench.Overrides(limit=5))
    assert list(result.trials()["score.shouts"]) == [1.0] * 5
    assert workbench.run_suite("mood", project, workbench.Overrides(limit=5)).progress.reused == 5


REFUSED = [
    ("scorer", "exact", lambda text, inputs, expected: True, "scorer 'exact' is registered twice"),
    ("scorer", "mine", lambda text: True, "scorer 'mine' has to take (text, inputs, expected)"),
    ("engine", "echo", lambda messages, params, seed: "", "engine 'echo' is registered twice"),
    ("engine", "mine", lambda messages: "", "engine 'mine' has to take (messages, params, seed)"),
]


@pytest.mark.parametrize(("what", "name", "function", "problem"), REFUSED, ids=[" ".join(r[:2]) for r in REFUSED])
def test_what_can_not_be_registered(what: str, name: str, function: object, problem: str) -> None:
    with pytest.raises(workbench.WorkbenchError) as error:
        getattr(workbench, what)(name)(function)
    assert problem in str(error.value)


def test_a_run_that_is_not_whole_says_so(project: Path) -> None:
    write(project, "house.py", "def answer(messages, params, seed):\n    raise ValueError('no')\n")
    result = workbench.run_suite("mood", project, workbench.Overrides(limit=3))
    assert "3 of 3 trials have no answer, most often (3):" in result.problem


@pytest.mark.parametrize("module", sorted({*workbench._PUBLIC.values(), "workbench.define.shards"}))
def test_examples_run_as_printed(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0


def test_every_public_name_has_a_docstring() -> None:
    for name in workbench._PUBLIC:
        assert (getattr(workbench, name).__doc__ or "").strip(), name
