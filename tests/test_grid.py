"""The grid of answers, and the cases whose repeats disagree: what a cell says, how it fits, what it lets through."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from workbench.cli import main
from workbench.records import Failure, Kind, Output, Run, Score
from workbench.store.runs import TrialRow, VariantRow
from workbench.views import format as f
from workbench.views.grid import LINES, Grid, GridRow, _row, grid_tables

VARIANTS = [VariantRow(f"v{i}", i, f"prompt-{i} · temperature=0.{i}", "p", "pr1-0", "m", {}) for i in range(12)]
RUN = Run("20260101-000000-aaaa", "suite", "prompt", "complete", "2026-01-01", None, 0, 0, 0, {})


def trial(repeat: int, answer: str | Failure | None, value: float | str | None, kind: Kind = "pass") -> TrialRow:
    output = None if answer is None else Output("rq", answer) if isinstance(answer, str) else None
    if isinstance(answer, Failure):
        output = Output("rq", finish_reason="failed", failure=answer)
    scores = () if value is None else (Score("t", "s", "k", value, kind, ""),)
    return TrialRow(f"t{repeat}", "v0", "c", repeat, "rq", [], {"text": "a question"}, "yes", (), output, scores)


DOWN = Failure("timeout", "took too long")


@pytest.mark.parametrize(
    ("trials", "kind", "sign", "shade", "answer"),
    [
        ([trial(0, "yes", 1)], "pass", "✓", "yes", "yes"),
        ([trial(0, "no", 0)], "pass", "✗", "no", "no"),
        ([trial(i, "yes" if i else "no", float(i > 0)) for i in range(4)], "pass", "3/4 ✓", "part", "yes"),
        ([trial(i, "yes", 1) for i in range(4)], "pass", "4/4 ✓", "yes", "yes"),
        ([trial(i, "no", 0) for i in range(4)], "pass", "0/4 ✓", "no", "no"),
        ([trial(0, "b", 1), trial(1, "a", 0)], "pass", "1/2 ✓", "part", "b"),
        ([trial(0, DOWN, None), trial(1, "yes", 1), trial(2, "yes", 1)], "pass", "2/2 ✓", "yes", "yes"),
        ([trial(0, DOWN, None)], "pass", "!", "fail", None),
        ([trial(0, None, None)], "pass", "", "none", None),
        ([], "pass", "", "none", None),
        ([trial(0, "yes", None)], "pass", "", "none", "yes"),
        ([trial(0, "x", 0.25, "fraction"), trial(1, "x", 0.5, "fraction")], "fraction", "0.38", "part", "x"),
        ([trial(0, "x", 12.5, "number"), trial(1, "x", 13.5, "number")], "number", "13.00", "none", "x"),
        ([trial(i, "x", label, "label") for i, label in enumerate("aba")], "label", "a", "none", "x"),
    ],
)
def test_a_cell(trials, kind: Kind, sign: str, shade: str, answer: str | None) -> None:
    (cell,) = _row([*trials, trial(9, None, None)], VARIANTS[:1], "s", kind).cells
    assert (cell.sign, cell.shade, cell.answer) == (sign, shade, answer)


def drawn(rows: list[GridRow], variants: int, width: int, at_most: int | None = None, **how) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, **how)
    for table in grid_tables(Grid(RUN, "s", VARIANTS[:variants], iter(rows)), console, at_most):
        console.print(table)
    return stream.getvalue()


def row(text: str, variants: int, case: str = "c") -> GridRow:
    found = _row([trial(0, text, 1)], VARIANTS[:1], "s", "pass")
    cells = tuple(replace(found.cells[0], variant=v.label) for v in VARIANTS[:variants])
    return GridRow(case, {"text": text}, text, False, cells)


@given(
    st.text(st.characters(exclude_categories=[]), max_size=300), st.integers(1, 12), st.integers(24, 220)
)  # every character there is: controls, marks, wide ones, halves of pairs
def test_it_fits_the_terminal_whatever_stands_in_it(text: str, variants: int, width: int) -> None:
    lines = drawn([row(text, variants)], variants, width).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert not any(f.UNSAFE.search(line) for line in lines), "nothing that could steer a terminal"


@given(st.text(max_size=2000), st.integers(40, 200))
def test_a_cell_has_at_most_its_lines(text: str, width: int) -> None:
    lines = drawn([row(text, 1), row("short", 1)], 1, width).split("\n")
    own = [i for i, line in enumerate(lines) if line[:1] in "┡├└"]
    assert all(b - a - 1 <= LINES for a, b in itertools.pairwise(own))


@pytest.mark.parametrize(("width", "tables"), [(400, 1), (220, 2), (120, 3), (80, 4), (40, 12)])
def test_variants_that_do_not_fit_stand_below(width: int, tables: int) -> None:
    said = drawn([row("answer", 12)], 12, width)
    assert said.count("marked by s") == tables
    assert said.count("✓ answer") == 12


@pytest.mark.parametrize(("cases", "at_most", "shown", "tables"), [(3, None, 3, 1), (60, None, 60, 3), (60, 20, 20, 1)])
def test_the_heading_comes_again(cases: int, at_most: int | None, shown: int, tables: int) -> None:
    said = drawn([row("answer", 2, f"case{i:03}") for i in range(cases)], 2, 100, at_most)
    assert (len(set(re.findall("case[0-9]+", said))), said.count("marked by s")) == (shown, tables)


@pytest.mark.parametrize(("how", "coloured"), [({"force_terminal": True}, True), ({}, False)])
def test_colour_is_only_for_terminals(how: dict, coloured: bool, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    said = drawn([row("answer", 1)], 1, 80, **how)
    assert ("\x1b[32m" in said) == coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in drawn([row("answer", 1)], 1, 80, **how)


# A run

SUITE = """
name: s
prompts: [a, b]
models: [house]
params: {temperature: 1}
repeats: 4
cases: {file: data.jsonl, quarantine: [q01]}
scorers: [latency, exact, word_f1, {python: "evals/mine.py:said", as: said}, {python: "evals/mine.py:length", as: length}]
allow_failed: 0.5
"""
ANSWERS = "{'^A .*flaky': [yes, no], '^B .*wrong': no, '': yes}"
HOUSE = f"models: {{house: {{engine: echo, options: {{answers: {ANSWERS}, fail: {{'^B .*down': timeout}}}}}}}}"
MINE = """
def said(text, inputs, expected):
    return text

def length(text, inputs, expected):
    return len(text)
"""
WHAT = {"c01": "plain", "c02": "flaky one", "c03": "wrong \x1b[31mred", "c04": "down", "q01": "plain two"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name in "ab":
        write(root / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ what }}}}")
    rows = [{"id": name, "what": what, "expected": "yes"} for name, what in WHAT.items()]
    write(root / "data.jsonl", "\n".join(map(json.dumps, rows)))
    write(root / "workbench.yaml", HOUSE)
    write(root / "evals/s.yaml", SUITE)
    write(root / "evals/mine.py", MINE)
    assert main(["--project", str(root), "run", "s", "--quiet"]) == 0
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("options", "cases", "columns"),
    [
        ([], ["c01", "c02", "c03", "c04", "q01"], ["a", "b"]),
        (["--failures"], ["c04"], ["a", "b"]),
        (["--wrong", "exact"], ["c02", "c03"], ["a", "b"]),
        (["--case", "c01"], ["c01"], ["a", "b"]),
        (["--only", "prompt=b"], ["c01", "c02", "c03", "c04", "q01"], ["b"]),
        (["--only", "prompt=b", "--wrong", "exact"], ["c03"], ["b"]),
        (["--only", "prompt=a", "--failures"], [], []),
    ],
    ids=lambda value: " ".join(value) or "all" if isinstance(value, list) else None,
)
def test_what_the_grid_shows(project: Path, capsys, options: list[str], cases: list[str], columns: list[str]) -> None:
    assert main(["--project", str(project), "show", "latest", "--grid", "--json", *options]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["case"] for row in rows] == cases
    assert all([cell["variant"] for cell in row["cells"]] == columns for row in rows)
    assert main(["--project", str(project), "show", "latest", "--grid", *options]) == 0
    said = capsys.readouterr().out
    assert [name for name in WHAT if name in said] == cases
    assert "\x1b" not in said


def test_the_grid_of_a_run(project: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["--project", str(project), "show", "latest", "--grid"]) == 0
    said = capsys.readouterr().out
    flaky = next(line for line in said.splitlines() if "c02" in line)
    assert re.search(r"│ c02 → yes flaky one +│ [123]/4 ✓ (yes|no) +│ 4/4 ✓ yes +│", flaky)
    assert re.search(r"│ c03 → yes wrong ␛\[31mred +│ 4/4 ✓ yes +│ 0/4 ✓ no +│", said)
    assert re.search(r"│ c04 → yes down +│ 4/4 ✓ yes +│ ! timeout: ", said)
    assert "q01 quarantined" in said
    assert "marked by exact" in said, "the first of passes, not latency"


def test_a_run_ends_with_its_grid_where_that_is_asked_for(project: Path, capsys) -> None:
    assert main(["--project", str(project), "run", "s", "--grid"]) == 0
    said = capsys.readouterr().out
    assert said.index("cases can") < said.index("marked by exact") < said.index("q01 quarantined")
    assert "all of them with" not in said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--grid", "--trial", "tr1"], "--grid does not go with --trial; leave one of them out"),
        (["--grid", "--unsettled"], "--grid does not go with --unsettled; leave one of them out"),
        (["--unsettled", "--failures"], "--unsettled does not go with --failures; leave one of them out"),
        (["--grid", "--axes"], "--grid does not go with --axes; leave one of them out"),
        (["--axes", "--case", "c01"], "--axes does not go with --case; leave one of them out"),
        (["--grid", "--reference", "a"], "--grid does not go with --reference; leave one of them out"),
        (["--failures", "--reference", "a"], "--reference belongs to the table of all variants; leave it out"),
        (["--scorer", "exact"], "--scorer belongs to --grid or --unsettled; add one of them"),
        (["--only", "prompt=a"], "--only narrows --grid, --unsettled, --failures, --wrong or --case; add one of them"),
        (["--grid", "--only", "prompt=z"], "no variant has prompt=z; there are: a, b"),
        (["--grid", "--only", "promt=a"], "no variant has a 'promt'; did you mean 'prompt'?"),
        (["--grid", "--only", "a"], "Invalid value for '--only': 'a' is not of the form NAME=VALUE"),
        (["--grid", "--scorer", "exakt"], "scorer 'exakt'"),
        (["--grid", "--wrong", "latency"], "scorer 'latency' gives a number, and none of those is wrong"),
        (["--unsettled", "--scorer", "nope"], "scorer 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(project: Path, capsys, arguments: list[str], problem: str) -> None:
    assert main(["--project", str(project), "show", "latest", *arguments]) == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


@pytest.mark.parametrize("option", ["--json", "--quiet", "--batch"])
def test_a_run_whose_grid_nobody_would_read(project: Path, capsys, option: str) -> None:
    assert main(["--project", str(project), "run", "s", "--grid", option]) == 2
    assert "--grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("height", "paged"), [(1000, False), (10, True)], ids=["fits the screen", "longer than the screen"]
)
def test_a_terminal_gets_a_pager_for_what_is_long(project: Path, height: int, paged: bool, tmp_path: Path) -> None:
    """A real terminal, and a pager that says that it was there."""
    pager = tmp_path / "pager"
    write(pager, "#!/bin/sh\necho PAGED\ncat\n")
    pager.chmod(0o755)
    environment = {**os.environ, "PAGER": str(pager), "LINES": str(height), "COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-m", "workbench", "--project", str(project), "show", "latest", "--grid"]
    said = "".join(terminal(command, environment))
    assert ("PAGED" in said) == paged
    assert "q01" in said


def terminal(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, env=environment) as process:
        os.close(theirs)
        try:
            while part := os.read(ours, 65536):
                yield part.decode("utf-8", "replace")
        except OSError:  # so a terminal ends, on Linux
            pass
        finally:
            os.close(ours)
        assert process.wait() == 0


# Unsettled


def test_the_cases_that_are_not_settled(project: Path, capsys) -> None:
    assert main(["--project", str(project), "show", "latest", "--unsettled", "--scorer", "exact", "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["case"], row["variant"], row["repeats"], row["quarantined"]) == ("c02", "a", 4, False)
    assert row["passed"] == 4 * row["mean"]
    low, high = row["spread"]
    assert 0 <= low < row["mean"] < high <= 1
    assert main(["--project", str(project), "show", "latest", "--unsettled", "--scorer", "exact"]) == 0
    said = capsys.readouterr().out
    assert "1 of 5 cases unsettled, by exact" in said
    assert "in quarantine, though their repeats agree here: q01" in said
    assert "cases: {quarantine: [ID]} in evals/s.yaml" in said
    assert main(["--project", str(project), "show", "latest", "--unsettled", "--only", "prompt=b"]) == 0
    assert "0 of 4 cases unsettled, by exact" in capsys.readouterr().out, "of b all repeats to c04 failed"


@pytest.mark.parametrize(
    ("scorer", "row"),
    [
        ("word_f1", r"│ c02 +│ a +│ +4 │ (25|50|75) % +│ 0 % to 100 % +│"),
        ("length", r"│ c02 +│ a +│ +4 │ 2\.[257]5?0* +│ 2\.000 to 3\.000 +│"),
        ("said", r"│ c02 +│ a +│ +4 │ (yes|no) [23], (yes|no) [12] +│"),
    ],
)
def test_what_other_scores_come_to(project: Path, capsys, scorer: str, row: str) -> None:
    assert main(["--project", str(project), "show", "latest", "--unsettled", "--scorer", scorer]) == 0
    assert re.search(row, capsys.readouterr().out)


def test_without_repeats_nothing_can_disagree(project: Path, capsys, tmp_path: Path) -> None:
    other = ["--project", str(project), "--store", f"sqlite:///{tmp_path / 'other.db'}"]
    assert main([*other, "run", "s", "--repeats", "1", "--quiet"]) == 0
    assert main([*other, "show", "latest", "--unsettled"]) == 2
    assert "has no scored repeats, so none can disagree; run it with 'repeats: 2'" in capsys.readouterr().err
