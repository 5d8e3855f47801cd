"""What a run with `until` or `race` tells while it goes: where its question stood at each look, and that it is no result."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from doubles.browser import chromium, served
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stopping import SUITE

from workbench.begin import RunOptions
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import Overrides, load_suite
from workbench.define.sweep import blocks
from workbench.evaluate import Progress, run_suite
from workbench.jobs import list_jobs, state
from workbench.loopback import Latency, Script, serve
from workbench.prepare import prepare_suite
from workbench.records import Case, Json, Request, Run, ScoreColumns, Suite, Variant
from workbench.registry import SCORERS
from workbench.run.plan import Planned
from workbench.stats.racing import race_levels
from workbench.stats.sequential import Look, compare_so_far, in_order, plan_levels
from workbench.stopping import Stopping, only_cases
from workbench.store import runs
from workbench.store.database import Database
from workbench.views.looks import look_line, run_looks

NOISE = "'^A .*[0-8]$': 'yes', '^B .*[0-2]$': 'yes', '^C .*[1-9]$': 'yes'"
"""b is worse than a; a and c fail where the other does not."""
CASES = 120
NO_RESULT = "a look is no result: incomplete"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ who }}}}")
    rows = [{"id": f"c{i:03}", "who": f"w{i:03}", "expected": "yes"} for i in range(CASES)]
    write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    house(tmp_path)
    return tmp_path


def house(root: Path, answers: str = NOISE, more: str = "") -> None:
    write(root / "workbench.yaml", f"models: {{house: {{engine: echo, options: {{answers: {{{answers}}}{more}}}}}}}")


def ready(root: Path, rule: str, **changed: str):
    text = SUITE + rule
    for name, value in changed.items():
        text = re.sub(rf"(?m)^{name}: .*$", f"{name}: {value}", text)
    write(root / "evals/s.yaml", text)
    found = load_project(root)
    suite = load_suite("s", found, Library(found.library_root), SCORERS.names())
    return prepare_suite(suite, root), Database.open(found.store_url)


def header(database: Database, run: str) -> Mapping[str, Json]:
    with database.read() as connection:
        return runs.run_header(connection, run)


def told(prepared, database: Database, options: RunOptions | None = None, **more) -> tuple[Progress, str, list[Json]]:
    """Runs it; with the reports in the run's header, one after another as another reader of the store finds them."""
    seen: list[Json] = []

    def watch(progress: Progress) -> None:
        report = header(database, progress.run)["stopping"] if progress.run else None
        if report and report not in seen[-1:]:
            assert report == json.loads(json.dumps(progress.stopping)), "what is shown is what is kept"
            seen.append(report)
        more["watch"](progress) if "watch" in more else None

    progress, status = run_suite(prepared, database, options, watch, more.get("stop"))
    return progress, status, seen


# What is kept


@pytest.mark.parametrize(
    ("rule", "answers", "verdicts"),
    [
        ("until: {smaller_than: 0.2}", NOISE, ("worse", "equivalent")),
        ("until: {smaller_than: 0.2}", NOISE.replace("^B .*[0-2]", "^B .*[0-8]"), ("equivalent", "equivalent")),
        ("until: {smaller_than: 0.2}", NOISE.replace("^A .*[0-8]", "^A .*[01]"), ("equivalent", "better")),
        ("until: {smaller_than: 0.01}", NOISE, ("worse", "not enough data")),
        ("race: {keep: 1}", NOISE, ("dropped", "not enough data")),
        ("race: {keep: 1}", NOISE.replace("^C .*[1-9]", "^C .*[12]"), ("dropped", "dropped")),
        ("race: {keep: 2}", NOISE, ("dropped",)),
    ],
)
def test_a_run_ends_with_the_first_look_that_says_settled(
    project: Path, rule: str, answers: str, verdicts: tuple[str, ...]
) -> None:
    house(project, answers)
    prepared, database = ready(project, rule)
    progress, status, seen = told(prepared, database)
    *before, last = seen
    assert status == "complete"
    assert [report["looks_made"] for report in seen] == list(range(len(seen)))
    assert not any(report["settled"] for report in before)
    assert last["settled"] == ("not enough data" not in verdicts)
    assert last["settled"] or last["looks_made"] == len(last["looks"])
    assert [report["cases_asked"] for report in seen] == [0, *last["looks"]][: len(seen)]
    assert [row["verdict"] for row in sorted(last["standings"], key=lambda r: place(prepared, r))] == list(verdicts)
    assert header(database, progress.run)["stopping"] == last
    with database.read() as connection:
        scores = runs.score_columns(connection, progress.run, "contains")
    assert len({scores.cases[case] for case in scores.case}) == last["cases_asked"], "no more was asked"


def place(prepared, row: Mapping[str, Json]) -> int:
    return [v.id for v in prepared.suite.variants].index(row["variant"])


def a_suite(cases: int, aside: set[int], block: int, **rule: Mapping[str, Json]) -> Suite:
    variants = tuple(Variant(name, name, "house", label=name) for name in "abc")
    made = tuple(Case(f"c{i}", {}, quarantined=i in aside) for i in range(cases))
    return Suite("s", "evaluate", variants, made, (), {}, {}, block=block, **rule)


def drive(suite: Suite, scores: np.ndarray, kind: str, told: int = 0) -> tuple[list[Json], list[str], ScoreColumns]:
    """The reports, the cases asked in their order, and all scores: also of cases that are not asked yet, which no
    report may look at. `scores` are by variant and counted case."""
    counted = [case.id for case in suite.cases if not case.quarantined]
    variant, case = np.indices(scores.shape).reshape(2, -1)
    names, nowhere = tuple(v.id for v in suite.variants), (None,) * len(counted)
    columns = ScoreColumns(
        "s", kind, names, tuple(counted), nowhere, variant.tolist(), case.tolist(), [0] * scores.size,
        scores.ravel().tolist(),
    )  # fmt: skip
    reports: list[Json] = []
    stopping = Stopping(suite, lambda _: columns, reports.append, told)
    plan = ([Planned(t, Request("r", "house", ())) for t in block] for block in blocks(suite))
    asked: dict[str, None] = {}
    for stretch in stopping.stretches(plan):
        for block in stretch:
            asked.update(dict.fromkeys(p.trial.case.id for p in block))
    return reports, list(asked), columns


@st.composite
def data(draw: st.DrawFn) -> tuple[int, set[int], int, str, np.ndarray]:
    cases, block = draw(st.integers(1, 90)), draw(st.integers(1, 20))
    aside = draw(st.sets(st.integers(0, cases - 1), max_size=cases - 1))
    kind = draw(st.sampled_from(["pass", "fraction"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    means = np.array(draw(st.tuples(*[st.floats(0.02, 0.98)] * 3)))[:, None]
    shape = (3, cases - len(aside))
    values = (
        (rng.random(shape) < means).astype(float) if kind == "pass" else np.clip(rng.normal(means, 0.2, shape), 0, 1)
    )
    return cases, aside, block, kind, values


@settings(max_examples=60)
@given(data())
def test_each_report_says_what_its_look_decides(drawn: tuple[int, set[int], int, str, np.ndarray]) -> None:
    """Of the cases in complete blocks that count, and of no others: the same as the decision, made anew."""
    cases, aside, block, kind, scores = drawn
    suite = a_suite(cases, aside, block, until={"scorer": "s", "smaller_than": 0.1, "confidence": 0.95})
    reports, asked, columns = drive(suite, scores, kind)
    counted = [name for name in asked if int(name[1:]) not in aside]
    looks = reports[-1]["looks"]
    assert looks[-1] == cases - len(aside), "cases in quarantine take no part in the plan"
    plan = in_order(looks, plan_levels(looks, (1 - 0.95) / 2))
    for report in reports[1:]:
        made = report["looks_made"]
        assert report["cases_asked"] == looks[made - 1]
        seen = only_cases(columns, set(counted[: looks[made - 1]]))
        rows = {r.variant: r for r in compare_so_far(seen, suite.variants[0].id, 0.1, 0.95, plan[made - 1])}
        assert report["level"] == plan[made - 1].level
        for row in (row for row in report["standings"] if row["cases"] == report["cases_asked"]):
            again = rows[row["variant"]]
            assert (row["interval"], row["verdict"], row["pairs"]) == (again.interval, again.verdict, again.pairs)
            assert (row["difference"], row["cases_needed"]) == (again.difference, again.cases_needed)
            settled = row["verdict"] != "not enough data"
            assert settled == (row["variant"] not in report["left"])
            assert settled or (row["cases_needed"] is None) == bool(row["why"]), "a number, or why there is none"
    assert [report["settled"] for report in reports[:-1]] == [False] * (len(reports) - 1)
    assert reports[-1]["settled"] or len(counted) == looks[-1]
    assert len(counted) == reports[-1]["cases_asked"]


@settings(max_examples=30)
@given(data(), st.sampled_from([1, 2]))
def test_a_race_keeps_account_of_every_variant(drawn: tuple[int, set[int], int, str, np.ndarray], keep: int) -> None:
    cases, aside, block, kind, scores = drawn
    suite = a_suite(cases, aside, block, race={"scorer": "s", "keep": keep, "confidence": 0.95})
    reports, _, _ = drive(suite, scores, kind)
    names = {v.id for v in suite.variants}
    for report in reports[1:]:
        out = {row["variant"] for row in report["standings"] if row["verdict"] == "dropped"}
        open_rows = {row["variant"] for row in report["standings"]} - out
        assert out | set(report["left"]) == names and not out & set(report["left"])
        assert len(report["best"]) == keep and open_rows | set(report["best"]) == set(report["left"])
        assert report["settled"] == (len(report["left"]) <= keep)
        assert report["level"] == race_levels(report["looks"], 3, keep, 0.95)[report["looks_made"] - 1]


@settings(max_examples=20)
@given(data(), st.integers(0, 12))
def test_what_a_resumed_run_only_repeats_is_not_told_again(
    drawn: tuple[int, set[int], int, str, np.ndarray], before: int
) -> None:
    cases, aside, block, kind, scores = drawn
    suite = a_suite(cases, aside, block, until={"scorer": "s", "smaller_than": 0.1, "confidence": 0.95})
    whole, resumed = (drive(suite, scores, kind, told)[0] for told in (0, before))
    assert resumed == (whole[before:] or whole[-1:])


def differences(values: list[float]) -> ScoreColumns:
    """Of two variants, case by case."""
    scores = np.stack([np.zeros(len(values)), np.array(values)])
    variant, case = np.indices(scores.shape).reshape(2, -1)
    nowhere = (None,) * len(values)
    return ScoreColumns(
        "s", "number", ("0", "1"), tuple(map(str, range(len(values)))), nowhere, variant, case, case * 0, scores.ravel()
    )


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(("margin", "needed"), [(0.9, 28), (0.7, 29), (0.6, 38), (0.4, 69), (0.2, 267)])
def test_cases_needed_go_by_the_variance_and_not_by_the_difference(shift: float, margin: float, needed: int) -> None:
    """By hand, s² = 20/19: (z(1−α/2) + z(0.8))²·s²/m² + z(1−α/2)²/2 at the level of the first look with so many."""
    values = [*(shift + x for x in (-1.0, 1.0) * 10)]
    ahead = ((40, 0.001), (80, 0.01), (160, 0.02))
    (row,) = compare_so_far(differences(values), "0", margin, 0.95, Look(1e-9, ahead))
    assert (row.verdict, row.cases_needed) == ("not enough data", needed)
    (row,) = compare_so_far(differences(values[:6]), "0", margin, 0.95, Look(1e-9, ahead))
    assert row.cases_needed is None, "of six cases the variance says nothing yet"


@pytest.mark.parametrize(
    ("aside", "counted"), [(0, [10] * 12), (10, [10] * 11), (15, [*[10] * 10, 5]), (111, [9]), (119, [1])]
)
def test_blocks_hold_cases_that_count(project: Path, aside: int, counted: list[int]) -> None:
    names = ", ".join(f"c{i:03}" for i in range(aside))
    prepared, _ = ready(project, "until: {smaller_than: 0.2}", cases=f"{{file: data.jsonl, quarantine: [{names}]}}")
    own = [list({p.trial.case.id: p.trial.case for p in block}.values()) for block in prepared.blocks(0)]
    assert sum(map(len, own)) == CASES, "those in quarantine are asked, too"
    assert [sum(not case.quarantined for case in block) for block in own] == counted


def test_a_sample_that_is_all_in_quarantine_ends_without_a_claim(project: Path) -> None:
    ready(project, "until: {smaller_than: 0.2}", cases="{file: data.jsonl, limit: 1}")
    found = load_project(project)
    suite = load_suite("s", found, Library(found.library_root), SCORERS.names(), Overrides(limit=1))
    suite = replace(suite, cases=tuple(replace(case, quarantined=True) for case in suite.cases))
    progress, status, seen = told(prepare_suite(suite, project), Database.open(found.store_url))
    assert (status, progress.done) == ("complete", 3)
    assert (seen[-1]["cases"], seen[-1]["cases_asked"], seen[-1]["settled"]) == (0, 0, False)


# Stopped, killed, taken up


def test_a_stopped_run_keeps_its_last_look(project: Path) -> None:
    prepared, database = ready(project, "until: {smaller_than: 0.01}")
    stop = Event()
    first, status, seen = told(
        prepared, database, watch=lambda p: stop.set() if p.stopping.get("looks_made", 0) >= 2 else None, stop=stop
    )
    kept = header(database, first.run)["stopping"]
    assert status == "stopped" and kept == seen[-1]
    assert (kept["looks_made"], kept["cases_asked"]) == (2, 20), "of the third block, begun, nothing is looked at"
    again, status, later = told(prepared, database, RunOptions(resume=first.run))
    assert status == "complete"
    assert [report["looks_made"] for report in later] == list(range(2, 13)) and later[0] == kept
    whole, _, expected = told(prepared, database, RunOptions(fresh=True, seed=0))
    assert later == expected[2:]


def test_killed_in_the_middle_it_goes_on_from_the_same_looks(tmp_path: Path) -> None:
    """By calls that a server counts: none is made twice but those under way at the kill."""
    answers = {f"^{name} .*[{digits}]$": "yes" for name, digits in (("A", "0-8"), ("B", "0-2"), ("C", "1-9"))}
    with serve(Script(answers={**answers, "": "no"}, latency=Latency(seconds=0.02))) as server:
        for name in "abc":
            write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ who }}}}")
        rows = [{"id": f"c{i:03}", "who": f"w{i:03}", "expected": "yes"} for i in range(CASES)]
        write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
        model = f"{{engine: openai, model: m, base_url: '{server.url}', limits: {{concurrency: 4}}}}"
        write(tmp_path / "workbench.yaml", f"models: {{house: {model}}}")
        prepared, database = ready(tmp_path, "until: {smaller_than: 0.01}")
        command = [sys.executable, "-m", "workbench", "--project", str(tmp_path), "run", "s", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        kept: Mapping[str, Json] = {}
        while kept.get("looks_made", 0) < 3:
            assert process.poll() is None, "it ended before its third look"
            time.sleep(0.01)
            with database.read() as connection:
                kept = next((run.header.get("stopping", {}) for run in runs.list_runs(connection, limit=1)), {})
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with database.read() as connection:
            run = runs.get_run(connection, "latest")
        at_kill = run.header["stopping"]
        assert run.status == "interrupted" and not at_kill["settled"]
        assert at_kill["cases_asked"] == at_kill["looks"][at_kill["looks_made"] - 1]
        again, status, seen = told(prepared, database, RunOptions(resume=run.id))
        assert status == "complete" and seen[0] == at_kill
        assert [report["looks_made"] for report in seen] == list(range(at_kill["looks_made"], 13))
        assert len(server.calls) == again.done, "each text that the questions took was asked"
        assert sum(count > 1 for count in server.calls.values()) <= 8, "four under way, four just answered"
        whole, _, expected = told(prepared, database, RunOptions(fresh=True, seed=0))
        assert seen == expected[at_kill["looks_made"] :]


# Said


def facts(**changed: Json) -> dict[str, Json]:
    row = {
        "variant": "vb", "cases": 96, "verdict": "not enough data", "against": "va", "difference": 0.042,
        "interval": [-0.03, 0.11], "pairs": 96, "cases_needed": 220, "why": "",
    }  # fmt: skip
    made: dict[str, Json] = {
        "rule": "until", "scorer": "s", "smaller_than": 0.03, "confidence": 0.95, "kind": "pass",
        "looks": list(range(16, 401, 16)), "looks_made": 6, "level": 0.001, "cases_asked": 96, "cases": 400,
        "block": 16, "standings": [row], "left": ["vb"], "settled": False,
    }  # fmt: skip
    own = {name: changed.pop(name) for name in changed.keys() & (row.keys() - made.keys())}
    return {**made, **changed, "standings": changed.get("standings", [row | own])}


LABELS = {"va": "plain", "vb": "few-shot", "vc": "role\x1b[31m\n"}
WAITING = "no look yet; the first of 25 after 16 of 400 cases"
SIZE = "few-shot +4 [−3, 11] points; "
OUT = {"verdict": "dropped", "variant": "vc", "cases": 32, "difference": -0.31, "interval": None, "cases_needed": None}
RACE: dict[str, Json] = {"rule": "race", "keep": 1, "margin": 0.05, "best": ["va"], "left": ["va", "vb"]}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (facts(looks_made=0, standings=[]), WAITING),
        (facts(), f"look 6 of 25, incomplete: {SIZE}about 220 of 400 cases would show a true difference of 3 points"),
        (
            facts(cases_needed=620),
            f"look 6 of 25, incomplete: {SIZE}all 400 cases are most likely too few to show a true difference of "
            "3 points, about 620 are needed",
        ),
        (
            facts(cases_needed=90),
            f"look 6 of 25, incomplete: {SIZE}a true difference of 3 points would most likely have shown by now",
        ),
        (facts(cases_needed=None, why="too few"), f"look 6 of 25, incomplete: {SIZE}too few"),
        (facts(difference=None, interval=None, cases_needed=None, why="no case has scores of both"),
         "look 6 of 25, incomplete: few-shot –; no case has scores of both"),
        (facts(standings=[]), "look 6 of 25, incomplete: nothing is scored yet"),
        (facts(kind="number", smaller_than=2), "look 6 of 25, incomplete: few-shot +0.042 [−0.030, 0.110]; about 220 of "
         "400 cases would show a true difference of 2"),
        (facts(verdict="better", left=[], settled=True), "look 6 of 25, incomplete: 1 settled"),
        (
            facts(**RACE, standings=[facts()["standings"][0], facts()["standings"][0] | OUT]),
            "look 6 of 25, incomplete: 2 of 3 variants still in · in front plain · out role␛[31m␊ (block 2)",
        ),
    ],
)  # fmt: skip
def test_a_look_in_one_line(told: Mapping[str, Json], line: str) -> None:
    assert look_line(told, LABELS) == line


SURE = "(95 % intervals that hold over all looks)"


@pytest.mark.parametrize(
    ("status", "told", "lines"),
    [
        ("running", {}, []),
        ("complete", {"rule": "until", "standings": [], "left": []}, []),
        ("running", facts(looks_made=0, standings=[]), [WAITING]),
        (
            "running",
            facts(),
            [
                f"look 6 of 25, after 96 of 400 cases, the next after 112 {SURE}; {NO_RESULT}, the run is running",
                "few-shot: +4 [−3, 11] points to plain; open: about 220 of 400 cases would show a true difference of "
                "3 points",
            ],
        ),
        (
            "complete",
            facts(verdict="better", left=[], settled=True),
            [
                f"ended at look 6 of 25, after 96 of 400 cases, settled {SURE}",
                "few-shot: +4 [−3, 11] points to plain; settled after 96 cases: better",
            ],
        ),
        (
            "complete",
            facts(verdict="equivalent", left=[], settled=True),
            [
                f"ended at look 6 of 25, after 96 of 400 cases, settled {SURE}",
                "few-shot: +4 [−3, 11] points to plain; settled after 96 cases: they differ by less than 3 points",
            ],
        ),
        (
            "interrupted",
            facts(**RACE, standings=[facts()["standings"][0] | OUT, facts(interval=None)["standings"][0]]),
            [
                f"look 6 of 25, after 96 of 400 cases, the next after 112; {NO_RESULT}, the run is interrupted",
                "few-shot: still in, +4 points to plain; about 220 of 400 cases would show a true difference of "
                "5 points",
                "role␛[31m␊: out since block 2, after 32 cases: proven worse, −31 points to plain",
            ],
        ),
    ],
)
def test_a_look_in_full(status: str, told: Mapping[str, Json], lines: list[str]) -> None:
    run = Run("r", "s", "evaluate", status, "", None, 1, 1, 0, {"stopping": told} if told else {})
    assert run_looks(run, LABELS) == lines


def test_of_many_variants_the_neediest_are_told(project: Path) -> None:
    rows = [facts()["standings"][0] | {"variant": f"v{i}", "cases_needed": 100 + i} for i in range(20)]
    many = facts(standings=rows, left=[row["variant"] for row in rows])
    lines = run_looks(Run("r", "s", "evaluate", "running", "", None, 1, 1, 0, {"stopping": many}), {})
    assert (len(lines), lines[1][:4], lines[-1]) == (14, "v19:", "… and 8 others")
    assert look_line(many, {}).endswith("of 3 points · 19 more open")


@pytest.mark.parametrize("rule", ["until: {smaller_than: 0.01}", "race: {keep: 1}"])
def test_everything_that_shows_a_stopped_run_says_how_far_it_was(
    project: Path, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    prepared, database = ready(project, rule)
    stop = Event()
    run_suite(
        prepared, database, watch=lambda p: stop.set() if p.stopping.get("looks_made", 0) >= 3 else None, stop=stop
    )
    called = ["--project", str(project)]
    for command in (["show", "latest"], *(["report", "latest", "--to", to, "--out", "-"] for to in ("md", "html"))):
        capsys.readouterr()
        assert main([*called, *command]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "look 3 of 12, after 30 of 120 cases, the next after 40" in said
        assert "a look is no result: incomplete, the run is stopped" in said
        assert ("out since block 2" in said) == rule.startswith("race")
    assert main([*called, "show", "latest", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row["incomplete"] is True
    assert row["stopping"]["looks_made"] == 3 and not row["stopping"]["settled"]
    assert main([*called, "run", "s", "--quiet", "--resume", "latest"]) == 0
    capsys.readouterr()
    assert main([*called, "show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["incomplete"] is False
    assert main([*called, "show", "latest"]) == 0
    assert "incomplete" not in capsys.readouterr().out


# In a terminal, in a browser

SLOW = ", delay: 0.1}, limits: {concurrency: 4"


@contextmanager
def terminal(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours: int, wanted: str) -> str:
    """What the terminal shows until these words were there."""
    said = ""
    while wanted not in " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).split()):
        try:
            part = os.read(ours, 65536)
        except OSError:  # so a terminal ends, on Linux
            part = b""
        assert part, f"it ended without '{wanted}': {said[-2000:]}"
        said += part.decode("utf-8", "replace")
    return said


def test_a_terminal_shows_each_look(project: Path) -> None:
    house(project, more=SLOW)
    ready(project, "until: {smaller_than: 0.01}")
    with terminal([sys.executable, "-m", "workbench", "--project", str(project), "run", "s"]) as (process, ours):
        read_until(ours, "no look yet; the first of 12 after 10 of 120 cases")
        read_until(ours, "look 2 of 12, incomplete: ")
        process.send_signal(signal.SIGINT)
        read_until(ours, f"{NO_RESULT}, the run is stopped")


@pytest.mark.slow
def test_the_app_shows_each_look(project: Path) -> None:
    house(project, more=SLOW.replace("0.1", "0.3"))
    ready(project, "until: {smaller_than: 0.01}")
    with chromium() as browser, served(project) as (address, _):
        try:
            page, journey = (browser.new_page(viewport={"width": 1280, "height": 1000}) for _ in range(2))
            for one in (page, journey):
                one.set_default_timeout(120_000)
            page.goto(f"{address}/sweep?suite=s")
            page.get_by_role("button", name="Start", exact=True).click()
            page.get_by_text("no look yet; the first of 12 after 10 of 120 cases").wait_for()
            page.get_by_text(re.compile(r"look \d of 12, after \d0 of 120 cases.*a look is no result")).wait_for()
            page.get_by_text(re.compile(r"c: .* points to a; open: ")).wait_for()
            journey.goto(address)
            journey.get_by_text(re.compile(r"look \d+ of 12, incomplete: ")).wait_for()
            page.get_by_role("button", name="Pause or stop", exact=True).click()
            page.get_by_text(re.compile("a look is no result: incomplete, the run is stopped")).wait_for()
        finally:
            for job in list_jobs(load_project(project)):
                if state(job) != "ended":
                    os.kill(job.pid, signal.SIGKILL)
