"""Suites in pytest, on `echo`: what is collected, what fails and how it says so, shards, suites that changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas  # noqa: F401 - pytester forgets what was imported inside, and numpy can't be imported twice
import pytest
import scipy.stats  # noqa: F401
import statsmodels.api  # noqa: F401
from doubles.repository import BETTER, make_repository, write

import workbench.api  # noqa: F401

pytest_plugins = ["pytester"]
There = Callable[..., tuple[int, str]]


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    make_repository(pytester.path / "repo")
    return pytester.path / "repo"


@pytest.fixture
def pytest_there(repository: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> There:
    """pytest in the repository, as a user calls it: exit code and all that it prints."""
    monkeypatch.chdir(repository)

    def call(*arguments: str) -> tuple[int, str]:
        done = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "--rootdir", str(repository), *arguments)
        return int(done.ret), done.stdout.str() + done.stderr.str()

    return call


SUITES: list[tuple[str, str, list[str], int, list[str]]] = [
    # name, the suite's gates (None: no `--workbench`), arguments, exit code, what is printed
    ("passes", "gates: [{scorer: exact, at_least: 0.6}]", ["--workbench"], 0, ["1 passed"]),
    (
        "fails",
        "gates: [{scorer: exact, at_least: 0.95}]",
        ["--workbench"],
        1,
        ["FAIL: exact at least 0.95 · mood: 80.0 % on 200 cases", "gates: fail (1 fail)", "1 failed"],
    ),
    ("in doubt", "gates: [{scorer: exact, at_least: 0.8}]", ["--workbench"], 1, ["nothing is shown", "1 failed"]),
    (
        "in doubt, skipped",
        "gates: [{scorer: exact, at_least: 0.8}]",
        ["--workbench", "-o", "workbench_not_enough_data=skip"],
        0,
        ["1 skipped"],
    ),
    (
        "in doubt, passed",
        "gates: [{scorer: exact, at_least: 0.8}]",
        ["--workbench", "-o", "workbench_not_enough_data=pass"],
        0,
        ["1 passed"],
    ),
    ("not asked for", "", [], 5, ["no tests ran"]),
    ("a broken file", "scorer: 1", ["--workbench"], 1, ["evals/mood.yaml:6: ", "did you mean 'scorers'?", "1 failed"]),
    (
        "a shard's gates wait",
        "gates: [{scorer: exact, at_least: 0.95}]",
        ["--workbench", "--shard", "1/2"],
        0,
        ["1 passed"],
    ),
    ("no shard", "", ["--workbench", "--shard", "3/2"], 4, ["'3/2' is no shard; write NUMBER/COUNT, such as 2/5"]),
    ("no such ref", "", ["--workbench", "--changed-since", "v9"], 4, ["git knows no 'v9'"]),
    (
        "no such answer to doubt",
        "",
        ["--workbench", "-o", "workbench_not_enough_data=maybe"],
        4,
        ["is one of fail, skip, pass, not 'maybe'"],
    ),
]


@pytest.mark.parametrize(
    ("end", "arguments", "code", "printed"), [row[1:] for row in SUITES], ids=[r[0] for r in SUITES]
)
def test_a_suite_is_an_item(
    repository: Path, pytest_there: There, end: str, arguments: list[str], code: int, printed: list[str]
) -> None:
    text = (repository / "evals/mood.yaml").read_text().partition("gates:")[0]
    write(repository, "evals/mood.yaml", text + end + "\n")
    ended, said = pytest_there(*arguments)
    assert ended == code, said
    for line in printed:
        assert line in said
    assert "Traceback" not in said


IN_PYTHON: list[tuple[str, str, bool, str]] = [
    # the call, whether it passes, what is said
    ('assert_eval("mood", at_least=0.7).run', True, ""),
    ('assert_eval("mood", scorer="exact", at_least=0.7, confidence=0.99)', True, ""),
    ('assert_eval("mood", at_least=0.95)', False, "FAIL: exact at least 0.95 · mood: 80.0 %"),
    ('assert_eval("mood", at_most=0.5)', False, "FAIL: exact at most 0.5"),
    ('assert_eval("mood", at_least=0.8)', False, "nothing is shown"),
    ('assert_eval("mood", scorer="exect", at_least=0.8)', False, "has no scorer 'exect'; it has: exact"),
    ('assert_eval("mod", at_least=0.8)', False, "unknown suite 'mod'; did you mean 'mood'?"),
    ('assert_eval("mood", no_worse_than="last")', False, "no_worse_than is 'baseline' or 'reference', not 'last'"),
    ('assert_eval("mood", no_worse_than="baseline")', False, "there is no baseline evals/baselines/mood.json"),
    ('assert len(workbench.run("mood").trials()) == 200', True, ""),
    ('assert workbench.load("mood").name == "mood"', True, ""),
]


def test_bounds_in_python(repository: Path, pytest_there: There) -> None:
    """One session for the whole table."""
    tests = [f"def test_{i:02}(assert_eval, workbench):\n    {line}\n" for i, (line, *_) in enumerate(IN_PYTHON)]
    write(repository, "tests/test_mood.py", "\n\n".join(tests))
    _, printed = pytest_there("-rA", "--tb=short")
    for i, (line, passes, said) in enumerate(IN_PYTHON):
        assert f"{'PASSED' if passes else 'FAILED'} tests/test_mood.py::test_{i:02}" in printed, line
        assert said in printed


def test_in_several_shards_a_test_in_python_runs_once(repository: Path, pytest_there: There) -> None:
    tests = [f"def test_{i}(workbench):\n    pass\n" for i in range(6)] + ["def test_plain():\n    pass\n"]
    write(repository, "tests/test_mood.py", "\n\n".join(tests))
    ran: list[str] = []
    for number in (1, 2, 3):
        _, said = pytest_there("--shard", f"{number}/3", "-rA")
        ran += [line.split("::")[1] for line in said.splitlines() if line.startswith("PASSED")]
    assert sorted(ran) == ["test_0", "test_1", "test_2", "test_3", "test_4", "test_5", *["test_plain"] * 3]


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_only_changed_suites_run(repository: Path, pytest_there: There) -> None:
    git(repository, "init")
    write(repository, ".gitignore", ".workbench\n__pycache__\n")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    assert "1 deselected" in pytest_there("--workbench", "--changed-since", "HEAD")[1]
    write(repository, "prompts/mood.prompty", BETTER)
    write(repository, "evals/mood.yaml", (repository / "evals/mood.yaml").read_text().partition("gates:")[0])
    assert "1 passed" in pytest_there("--workbench", "--changed-since", "HEAD")[1]


def test_it_loads_nothing_until_it_is_asked() -> None:
    heavy = ["yaml", "pydantic", "sqlalchemy", "numpy", "jinja2", "workbench.api"]
    code = f"import sys, workbench.pytest_plugin; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_workers_of_xdist_share_a_store(repository: Path) -> None:
    for name in ("first", "second", "third"):
        text = (repository / "evals/mood.yaml").read_text().partition("gates:")[0]
        write(repository, f"evals/{name}.yaml", text.replace("name: mood", f"name: {name}"))
    (repository / "evals/mood.yaml").unlink()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--workbench", "-n", "2", "evals"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
