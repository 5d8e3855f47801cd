"""Shards: every case in exactly one, whatever others there are; their runs joined are the run of the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.repository import BETTER, GOOD, SUITE, WORSE, call, make_repository, write
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.shards import Shard, parse_shard
from workbench.errors import UseError
from workbench.store.database import Database
from workbench.store.runs import get_run, run_cases, score_columns


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_repository(tmp_path / "repo"))
    return tmp_path / "repo"


@given(st.text(), st.integers(1, 50))
def test_a_case_is_in_exactly_one_shard(name: str, of: int) -> None:
    assert sum(Shard(number, of).holds(name) for number in range(1, of + 1)) == 1


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/99999", "¹/²", "1 / 2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UseError, match="is no shard; write NUMBER/COUNT"):
        parse_shard(text)


def shards(project: Path, capsys: pytest.CaptureFixture[str], count: int = 3) -> list[str]:
    found = []
    for number in range(1, count + 1):
        capsys.readouterr()
        assert call(project, "run", "mood", "--shard", f"{number}/{count}", "--quiet") == 0
        found.append(capsys.readouterr().out.strip())
    return found


def table(project: Path, run: str) -> dict[str, float]:
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").read() as connection:
        columns = score_columns(connection, run, "exact")
    return {columns.cases[case]: value for case, value in zip(columns.case, columns.value, strict=True)}


def test_joined_shards_are_the_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = shards(project, capsys)
    assert call(project, "runs", "join", *reversed(parts)) == 0
    joined = capsys.readouterr().out.strip()
    assert call(project, "run", "mood", "--quiet") == 0
    whole = capsys.readouterr().out.strip()
    assert table(project, joined) == table(project, whole)
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").read() as connection:
        run = get_run(connection, joined)
        assert (run.planned, run.answered, run.status) == (200, 200, "complete")
        assert run.header["joined"] == parts
        assert run.header["cases"] == 200
        assert sorted(run_cases(connection, joined)) == sorted(run_cases(connection, whole))
    assert call(project, "runs", "join", *parts) == 0
    assert capsys.readouterr().out.strip() == joined  # the same again
    assert call(project, "show", joined) == 0
    assert call(project, "gate", joined) == 2  # it needs a baseline, as the whole does


def test_shards_of_two_machines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ["--store", f"sqlite:///{project}/other.db"]
    assert call(project, *other, "run", "mood", "--shard", "2/2", "--quiet") == 0
    assert call(project, *other, "store", "export", "other.gz") == 0
    assert call(project, "store", "import", "other.gz") == 0
    assert call(project, "run", "mood", "--shard", "1/2", "--quiet") == 0
    capsys.readouterr()
    assert call(project, "runs", "--json") == 0
    runs = [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()]
    assert call(project, "runs", "join", *runs) == 0
    assert len(table(project, capsys.readouterr().out.strip())) == 200


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ((0, 1), "shards are missing: 3/3"),
        ((0, 0), "shards are missing: 2/3, 3/3"),
        ((0, 1, 2, 3), "is no shard; only runs made with --shard are joined"),
        ((0, 1, 2, 4), "are not shards of one suite, split alike"),
        ((0, 1, 2, 5), "shard 1/3 is given twice"),
    ],
)
def test_what_is_not_joined(
    project: Path, capsys: pytest.CaptureFixture[str], chosen: tuple[int, ...], problem: str
) -> None:
    runs = shards(project, capsys)
    for how in ((), ("--shard", "1/2"), ("--shard", "1/3")):
        assert call(project, "run", "mood", "--quiet", *how) == 0
        runs.append(capsys.readouterr().out.strip())
    assert call(project, "runs", "join", *(runs[i] for i in chosen)) == 2
    assert problem in capsys.readouterr().err


def test_shards_of_different_states_are_not_joined(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(project, "run", "mood", "--shard", "1/2", "--quiet") == 0
    first = capsys.readouterr().out.strip()
    write(project, "prompts/mood.prompty", WORSE)
    assert call(project, "run", "mood", "--shard", "2/2", "--quiet") == 0
    second = capsys.readouterr().out.strip()
    assert call(project, "runs", "join", first, second) == 2
    assert "their variants are not the same" in capsys.readouterr().err


REFUSED: list[tuple[list[str], str]] = [
    (["run", "mood", "--shard", "1/2", "--gate"], "gates need all cases"),
    (["run", "mood", "--shard", "9"], "'9' is no shard"),
    (["run", "one", "--shard", "1/9"], "shard 1/9 holds none of the 1 cases; take fewer shards"),
    (["run", "early", "--shard", "1/2"], "can't go with --shard"),
    (["run"], "name a SUITE"),
    (["run", "mood", "--changed-since", "main"], "git knows no 'main'"),
    (["run", "mood", "--changed-since", "--help"], "git knows no '--help'"),
    (["run", "mood", "--watch", "--changed-since", "main"], "leave --changed-since out"),
]


@pytest.mark.parametrize(("arguments", "problem"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_what_is_refused(project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    plain = SUITE.partition("gates:")[0]
    write(project, "evals/one.yaml", plain.replace("data/mood.jsonl", "[{text: case 1, expected: yes}]"))
    write(project, "evals/early.yaml", plain + "params: {temperature: [0, 1]}\nuntil: {smaller_than: 0.1}\n")
    assert call(project, *arguments) == 2
    assert problem in capsys.readouterr().err


EDITS: list[tuple[str, str, str, list[str]]] = [
    # what, file, its new text, which suites changed
    ("nothing", "prompts/other.prompty", BETTER, []),
    ("a prompt", "prompts/mood.prompty", BETTER, ["mood", "scored"]),
    ("its description", "prompts/mood.prompty", GOOD.replace("---\n", "---\ndescription: of a mood\n", 1), []),
    ("a comment", "evals/mood.yaml", "# a word\n" + SUITE, []),
    ("a gate", "evals/mood.yaml", SUITE.replace("0.6", "0.7"), ["mood"]),
    ("a case", "data/mood.jsonl", '{"id": "c1", "text": "case 1", "expected": "yes"}\n', ["mood", "scored"]),
    (
        "another model",
        "workbench.yaml",
        "models:\n  house: {engine: python, path: 'house.py:answer'}\n  new: {engine: echo}\n",
        [],
    ),
    (
        "its model",
        "workbench.yaml",
        "models:\n  house: {engine: python, path: 'house.py:answer', options: {version: 2}}\n",
        ["mood", "scored"],
    ),
    ("the model's code", "house.py", "def answer(messages, params, seed):\n    return 'yes'\n", ["mood", "scored"]),
    ("a scorer's code", "mine.py", "def polite(text, inputs, expected):\n    return False\n", ["scored"]),
    ("a broken suite", "evals/mood.yaml", "scorer: [", ["mood"]),
    ("a new suite", "evals/new.yaml", SUITE.replace("name: mood", "name: new"), ["new"]),
]


@pytest.mark.parametrize(("file", "text", "changed"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS])
def test_what_changed_since(project: Path, file: str, text: str, changed: list[str]) -> None:
    from test_pytest_plugin import git

    import workbench

    write(project, "mine.py", "def polite(text, inputs, expected):\n    return True\n")
    write(project, "evals/scored.yaml", SUITE.partition("scorers:")[0] + "scorers: [{python: 'mine.py:polite'}]\n")
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "first")
    write(project, file, text)
    assert workbench.changed_since("HEAD", project) == changed


def test_the_command_runs_what_changed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_pytest_plugin import git

    write(project, ".gitignore", ".workbench\n")
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "first")
    assert call(project, "run", "--changed-since", "HEAD", "--quiet") == 0
    assert "not run: mood" in capsys.readouterr().err
    write(project, "prompts/mood.prompty", BETTER)
    assert call(project, "run", "--changed-since", "HEAD", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run"]
