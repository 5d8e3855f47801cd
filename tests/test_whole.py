"""A gate passes over nothing that lacks: answers, and scores that could not be made."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

import workbench
from workbench.cli import main
from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.runs import get_run
from workbench.store.whole import lacking

CASES, BAD = 60, 4
"""Of the cases, the last few have an answer on which a pattern takes too long."""
ANSWERS = f"{{'bad': {'a' * 40}!, 'mute': '', '': ok}}"
SLOW = "'^((a|aa)+$|ok)'"
OWN = """
from workbench.records import Judgement

def silent(text, inputs, expected):
    return None if "a" in text else True

def raises(text, inputs, expected):
    return True if "a" not in text else 1 / 0

def lost(text, inputs, expected):
    return True if "a" not in text else Judgement(None, "pass", "the ruler broke", failed=True)
"""
SUITE = """
name: s
prompts: [p]
models: [house]
cases: {file: data.jsonl%s}
scorers: [%s]
gates: [{scorer: it, at_least: 0.9}]
%s
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern without end is given up soon."""
    monkeypatch.setattr("workbench.scorers.text.PATTERN_SECONDS", 0.05)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "prompts/p.prompty", "user:\n{{ what }}")
    write(tmp_path / "workbench.yaml", f"models: {{house: {{engine: echo, options: {{answers: {ANSWERS}}}}}}}")
    write(tmp_path / "own.py", OWN)
    kinds = ["bad" if i >= CASES - BAD else "good" for i in range(CASES)]
    rows = [{"id": f"c{i:02}", "what": f"{kind} {i}", "expected": "ok"} for i, kind in enumerate(kinds)]
    write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    return tmp_path


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


ALL_BAD = ", ".join(f"c{i:02}" for i in range(CASES - BAD, CASES))
TOLD = f"{BAD} scores lack or could not be made, by 'it', most often ({BAD}): it: "
NOTE = f"note: scorer 'it': {BAD} of {CASES} trials of p have no value, and count for nothing"


@pytest.mark.parametrize(
    ("scorer", "more", "code", "told"),
    [
        (f"{{regex: {SLOW}, as: it}}", "", 3, TOLD + "unscored: the pattern took over"),
        (f"{{all: [{{regex: {SLOW}}}], as: it}}", "", 3, TOLD + "regex: unscored"),
        ("{python: 'own.py:raises', as: it}", "", 3, TOLD),
        ("{python: 'own.py:lost', as: it}", "", 3, TOLD + "the ruler broke"),
        ("{python: 'own.py:silent', as: it}", "", 0, NOTE),
        ("{only_if: {when: {contains: ok}, then: exact}, as: it}", "", 0, NOTE),
        (f"{{regex: {SLOW}, as: it}}", f"allow_failed: {BAD / CASES}", 0, NOTE),
        (f"{{regex: {SLOW}, as: it}}", f"allow_failed: {(BAD - 1) / CASES}", 3, TOLD),
        (f"{{regex: {SLOW}, as: it}}", "quarantine", 0, f"{BAD} quarantined cases left out"),
        ("{exact: {}, as: it}", "", 4, "nothing is shown"),
    ],
)
def test_scores_that_lack(project: Path, capsys, scorer: str, more: str, code: int, told: str) -> None:
    aside = more == "quarantine"
    write(
        project / "evals/s.yaml", SUITE % (f", quarantine: [{ALL_BAD}]" if aside else "", scorer, "" if aside else more)
    )
    assert call(project, "run", "s", "--gate") == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert call(project, "gate", "s") == call(project, "gate", "latest") == code
    assert ("; the run is not whole" in capsys.readouterr().out) == (code == 3)
    if code == 3:
        assert call(project, "baseline", "bless", "latest", "-m", "x") == 2
        assert "are not whole: " in capsys.readouterr().err


def test_every_report_says_so(project: Path, capsys) -> None:
    write(project / "evals/s.yaml", SUITE % ("", f"{{regex: {SLOW}, as: it}}", ""))
    assert call(project, "run", "s", "--quiet") == 3
    reports = {}
    for form in ("json", "junit", "comment", "github", "annotations", "gitlab", "md", "html"):
        capsys.readouterr()
        assert call(project, "report", "latest", "--to", form, "--out", "-") == 0
        reports[form] = capsys.readouterr().out
        assert f"{BAD} scores lack or could not be made" in reports[form], form
    gates = json.loads(reports["json"])["gates"]
    assert (gates["answer"], gates["problem"][: len(TOLD)]) == ("not enough data", TOLD)
    suite = Xml.fromstring(reports["junit"]).find("testsuite")
    assert suite is not None
    assert suite.get("errors") == "1"
    assert "the run is not whole" in reports["comment"].splitlines()[1]
    assert "::error" in reports["annotations"]
    assert "gates passed" not in reports["github"]
    result = workbench.run_suite("s", project)
    assert result.problem.startswith(TOLD)
    assert result.check_gates().answer == "not enough data"


def test_scores_that_were_never_made_lack_too(project: Path, capsys) -> None:
    """As after a `score` that was killed: a gate on its scorer would judge the part that was scored."""
    write(project / "evals/s.yaml", SUITE % ("", "{contains: o, as: it}", "allow_failed: 0.1"))
    call(project, "run", "s", "--quiet")
    database = Database.open(load_project(project).store_url)
    with database.read() as connection:
        run = get_run(connection, "latest")
        assert lacking(connection, run).problem == ""
        other = lacking(connection, run, ["later"])
    assert (other.unscored, other.failed, other.trials) == ({"later": CASES}, 0, CASES)
    assert other.problem == f"{CASES} scores lack or could not be made, by 'later'"
    database.close()


def test_failures_of_quarantined_cases_hold_up_no_gate(project: Path, capsys) -> None:
    write(project / "house.py", "def answer(messages, params, seed):\n"
          "    if 'bad' in messages[-1]['content']: raise ValueError('no')\n    return 'ok'\n")  # fmt: skip
    write(project / "workbench.yaml", "models: {house: {engine: python, path: 'house.py:answer'}}")
    for listed, code in (("", 3), (f", quarantine: [{ALL_BAD}]", 0)):
        write(project / "evals/s.yaml", SUITE % (listed, "{contains: o, as: it}", ""))
        assert call(project, "run", "s", "--gate") == code
        assert (f"{BAD} of {CASES} trials have no answer" in capsys.readouterr().err) == (code == 3)
