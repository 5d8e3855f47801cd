"""After a run: what an edited prompt does beside the revision in its place in the run before, case by case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.store.database import Database
from workbench.store.runs import list_runs
from workbench.views.edits import MOST_LINES, edit_lines, edits
from workbench.views.model import load_view

CASES = [{"id": f"c{i:02}", "text": f"case {i:02}", "expected": "yes"} for i in range(40)]
SUITE = """
name: s
prompts: [a, b]
models: [m]
params: {temperature: [0, 1]}
cases: {file: data.jsonl}
scorers: [exact, {contains: es}]
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With `please` in a prompt the model is right on all but each tenth case, else on each second."""
    answers = {"please .*0$": "no", "please": "yes", ".*[02468]$": "no", "case": "yes"}
    write(tmp_path / "workbench.yaml", f"models: {{m: {{engine: echo, options: {{answers: {json.dumps(answers)}}}}}}}")
    for name in "ab":
        write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name} {{{{ text }}}}")
    write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, CASES)))
    write(tmp_path / "evals/s.yaml", SUITE)
    ran(tmp_path)
    return tmp_path


def ran(project: Path, *args: str) -> None:
    assert main(["--project", str(project), "run", "s", *args]) == 0


def polite(project: Path, name: str = "a") -> None:
    write(project / f"prompts/{name}.prompty", f"user:\n{name} please {{{{ text }}}}")


def found(project: Path) -> list:
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").read() as connection:
        return edits(connection, "latest")


def test_an_edit_is_told_at_the_end(project: Path, capsys) -> None:
    polite(project)
    capsys.readouterr()
    ran(project)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("edited, ")]
    assert len(lines) == 4, "two temperatures by two scorers; the prompt that was left as it was is not told"
    assert all(" points on 40 cases, better" in line for line in lines), lines
    assert "exact +40 [" in lines[0]
    ran(project)
    assert "edited" not in capsys.readouterr().out, "nothing was edited since"


def test_its_intervals_hold_together(project: Path) -> None:
    """Those of two temperatures, so each is at 97.5 %."""
    polite(project)
    ran(project, "--quiet")
    (zero, *_) = told = [edit for edit in found(project) if edit.scorer == "exact"]
    assert len(told) == 2
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").read() as connection:
        runs = [run.id for run in list_runs(connection)]
        view = load_view(connection, runs[::-1], f"{runs[1]}/{zero.before.id}")
    columns = next(s for s in view.scorers if s.name == "exact")
    plain = next(row for row in columns.comparisons if row.variant == f"{runs[0]}/{zero.now.id}")
    assert zero.comparison.difference == plain.difference
    one, other = zero.comparison.interval, plain.interval
    assert other[0] < one[0] < one[1] < other[1], "three comparisons there, two here"


def scorer_changed(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE.replace("{contains: es}", "{contains: s}"))


def label_changed(project: Path) -> None:
    rows = [{**row, "expected": "no" if row["id"] < "c10" else "yes"} for row in CASES]
    write(project / "data.jsonl", "\n".join(map(json.dumps, rows)))


def renamed(project: Path) -> None:
    (project / "prompts/a.prompty").rename(project / "prompts/c.prompty")
    write(project / "evals/s.yaml", SUITE.replace("[a, b]", "[c, b]"))


def hotter(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE.replace("[0, 1]", "[0, 0.5]"))


def quarantined(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE.replace("{file: data.jsonl}", "{file: data.jsonl, quarantine: [c01]}"))


def until(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE + "until: {smaller_than: 0.05, scorer: exact}\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda project: None, {("exact", 40): 2, ("contains", 40): 2}),
        (scorer_changed, {("exact", 40): 2}),
        (label_changed, {("exact", 30): 2, ("contains", 30): 2}),
        (renamed, {}),
        (hotter, {("exact", 40): 1, ("contains", 40): 1}),
        (quarantined, {("exact", 39): 2, ("contains", 39): 2}),
        (until, {}),
        (lambda project: polite(project, "b"), {("exact", 40): 4, ("contains", 40): 4}),
    ],
)
def test_what_is_the_same_beside_the_edit(project: Path, change, told) -> None:
    polite(project)
    change(project)
    ran(project, "--quiet")
    counts: dict[tuple[str, int], int] = {}
    for edit in found(project):
        counts[edit.scorer, edit.comparison.pairs] = counts.get((edit.scorer, edit.comparison.pairs), 0) + 1
    assert counts == told
    assert {edit.quarantined for edit in found(project)} <= {1 if change is quarantined else 0}


def test_the_newest_run_that_has_it(project: Path) -> None:
    """A run of another prompt alone in between hides nothing; a revision that comes back is an edit, too."""
    polite(project)
    ran(project, "--quiet", "--only", "prompt=b")
    ran(project, "--quiet")
    assert {edit.older.id for edit in found(project)} == {sorted_runs(project)[2]}
    write(project / "prompts/a.prompty", "user:\na {{ text }}")
    ran(project, "--quiet")
    assert [edit.comparison.verdict for edit in found(project)] == ["worse"] * 4


def sorted_runs(project: Path) -> list[str]:
    with Database.open(f"sqlite:///{project}/.workbench/runs.db").read() as connection:
        return [run.id for run in list_runs(connection)]


def test_many_are_cut(project: Path) -> None:
    polite(project)
    ran(project, "--quiet")
    several = found(project) * 4
    lines = edit_lines(several, "NEW")
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == f"… and 8 more: workbench compare {several[0].older.id} NEW"
    assert edit_lines([], "NEW") == []


def test_one_edit_alone_is_at_95_percent(project: Path) -> None:
    polite(project)
    ran(project, "--quiet", "--only", "temperature=0", "--only", "prompt=a")
    edit = found(project)[0]
    assert (edit.scorer, edit.comparison.pairs) == ("exact", 40)
    assert edit.comparison.difference == pytest.approx(0.9 - 0.5)
    assert edit.comparison.confidence == pytest.approx(0.95)
