"""What an answer took: means with intervals and paired differences, on screens and in reports."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from workbench.cli import main
from workbench.records import CaseScores
from workbench.store.database import Database
from workbench.store.measures import spent_scores
from workbench.store.runs import find_run, run_variants, trial_rows
from workbench.views.model import RunView, load_whole
from workbench.views.screens.compare_scores import score_rows
from workbench.views.took import Took, mean_text, spent_text, took
from workbench.views.write import write_report

SUITE = """
name: s
prompts: [short, long]
models: [house]
repeats: 2
cases: {file: cases.jsonl, quarantine: [c3]}
scorers: [{contains: word}]
"""
CASES = [{"id": f"c{i}", "text": "word " * (1 + i * i % 11)} for i in range(20)]


def scores(*variants: list[float | None], name: str = "seconds") -> CaseScores:
    """One value a case and variant; None: not known."""
    there = [(v, c, x) for v, row in enumerate(variants) for c, x in enumerate(row) if x is not None]
    cases = len(variants[0])
    names = tuple(f"v{i}" for i in range(len(variants)))
    places = ([v for v, _, _ in there], [c for _, c, _ in there], [1] * len(there), [x for *_, x in there])
    return CaseScores(name, "number", names, tuple(map(str, range(cases))), (None,) * cases, *places)


NEAR = [1.0, 1.5, 2.0, 1.25, 1.75, 1.5, 1.0, 2.0]
TWICE = [2 * x for x in NEAR]


@pytest.mark.parametrize(
    ("measure", "variants", "mean", "other"),
    [
        ("seconds", (NEAR, TWICE), "1.50 s [1.16, 1.84]", "3.00 s [2.33, 3.67] · +1.50 [1.16, 1.84]"),
        ("seconds", (TWICE, NEAR), "3.00 s [2.33, 3.67]", "1.50 s [1.16, 1.84] · −1.50 [−1.84, −1.16]"),
        ("seconds", ([x / 10 for x in NEAR], [x / 5 for x in NEAR]), "150 ms [116, 184]", "300 ms [233, 367] · +150 [116, 184]"),
        ("seconds", (NEAR[:7], TWICE[:7]), "1.429 s [?]", "2.857 s [?] · +1.429 [?]"),
        ("seconds", ([3.0] * 9, [2.0] * 9), "3.000 s [?]", "2.000 s [?] · −1.000 [?]"),
        ("seconds", (NEAR, [None] * 8), "1.50 s [1.16, 1.84]", "–"),
        ("cost", ([x / 1e5 for x in NEAR], [x / 1e5 for x in TWICE]), "$0.0000150 [0.0000116, 0.0000184]", "$0.0000300 [0.0000233, 0.0000367] · +0.0000150 [0.0000116, 0.0000184]"),
        ("cost", ([0.0] * 9, [0.0] * 9), "$0", "$0"),
        ("tokens", ([0.0] * 8 + [90.0], [1.0] * 9), "10 [0, 33]", "1.000 [?] · −9 [−32, 14]"),
    ],
)  # fmt: skip
def test_told(measure: str, variants, mean: str, other: str) -> None:
    found = took({measure: scores(*variants, name=measure)}, "v0")
    assert spent_text(getattr(found["v0"], measure), measure) == mean
    assert spent_text(getattr(found["v1"], measure), measure) == other
    assert mean_text(getattr(found["v1"], measure), measure) == other.partition(" · ")[0]


def test_without_a_reference_nothing_is_compared() -> None:
    assert took({"seconds": scores(NEAR)}, None)["v0"].seconds.against is None
    assert took({}, None) == {} and Took().cost is None


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "evals").mkdir()
    (tmp_path / "workbench.yaml").write_text("models: {house: {engine: echo, price: {input: 3.0, output: 15.0}}}\n")
    (tmp_path / "prompts/short.prompty").write_text("---\nname: short\ninputs: {text: {}}\n---\nuser:\n{{ text }}\n")
    (tmp_path / "prompts/long.prompty").write_text(
        "---\nname: long\ninputs: {text: {}}\n---\nuser:\nSay this for me: {{ text }} {{ text }}\n"
    )
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in CASES))
    (tmp_path / "evals/s.yaml").write_text(SUITE)
    assert main(["run", "evals/s.yaml"]) == 0
    return tmp_path


def store(project: Path) -> Database:
    return Database.open(f"sqlite:///{project}/.workbench/runs.db")


def read(project: Path) -> tuple[RunView, list, dict[str, CaseScores]]:
    database = store(project)
    with database.read() as connection:
        run = find_run(connection, "latest")
        found = load_whole(connection, run), list(trial_rows(connection, run)), spent_scores(connection, run)
        assert [v.id for v in run_variants(connection, run)] == list(found[2]["cost"].variants)
    database.close()
    return found


def test_the_figures_are_those_of_the_answers(project: Path) -> None:
    """Repeats are averaged first, quarantined cases are left out, differences are paired by case: by scipy's t."""
    view, rows, _ = read(project)
    by_case = {v.id: {} for v in view.variants}
    for row in rows:
        if not row.quarantined:
            by_case[row.variant_id].setdefault(row.case_id, []).append(
                row.output.prompt_tokens + row.output.output_tokens
            )
    means = {v: np.array([np.mean(by_case[v][c]) for c in sorted(by_case[v])]) for v in by_case}
    first, second = (means[v.id] for v in view.variants)
    assert len(first) == 19
    base, other = (view.took[v.id].tokens for v in view.variants)
    own = scipy.stats.ttest_1samp(first, 0).confidence_interval()
    paired = scipy.stats.ttest_rel(second, first).confidence_interval()
    assert base.found.mean == pytest.approx(first.mean())
    assert base.found.interval == pytest.approx((max(0, own.low), own.high))
    assert base.against is None and other.against.interval == pytest.approx((paired.low, paired.high))


def test_reports_and_compare_tell_them(project: Path) -> None:
    view, rows, _ = read(project)
    spent = view.took[view.variants[1].id]
    tokens, cost = spent_text(spent.tokens, "tokens"), spent_text(spent.cost, "cost")
    assert "[" in tokens and " · +" in tokens and cost.startswith("$0.00") and " · +" in cost
    told = {}
    for form in ("md", "html", "json"):
        stream = io.StringIO()
        write_report(view, iter(rows), form, stream)
        told[form] = stream.getvalue()
    assert f"an answer {tokens}" in told["html"] and f"an answer {cost}" in told["html"]
    assert f"an answer {tokens}".replace("[", "\\[").replace("]", "\\]") in told["md"]
    found = json.loads(told["json"])["variants"][1]["took"]
    assert found["cost"]["against"]["verdict"] == "higher" and len(found["tokens"]["found"]["interval"]) == 2
    shown = score_rows(view.scorers[0], view.labels, view.took)[1]
    assert shown["cost an answer"] == cost
    assert score_rows(view.scorers[0], view.labels)[1]["time an answer"] == "–"


def test_the_terminal_tells_them(project: Path, capsys) -> None:
    view, _, _ = read(project)
    spent = view.took[view.variants[1].id]
    capsys.readouterr()
    assert main(["compare", "latest"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    cost, tokens = spent_text(spent.cost, "cost"), spent_text(spent.tokens, "tokens")
    assert f"an answer of long took {cost}, {tokens} tokens" in told


def test_a_price_that_is_not_known_of_all_answers_is_not_known(project: Path) -> None:
    """As where a price was written down between two runs."""
    with store(project).write() as connection:
        connection.exec_driver_sql("UPDATE outputs SET cost = NULL WHERE number = (SELECT min(number) FROM outputs)")
    view, _, found = read(project)
    known = {view.variants[i].label for i in set(found["cost"].variant)}
    assert len(known) == 1 and [view.took[v.id].cost is None for v in view.variants].count(True) == 1
