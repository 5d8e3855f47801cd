"""A project with a big store: one run of 100,000 trials and 299 small ones, written by the store's own functions."""

from __future__ import annotations

import random
import sys
from itertools import product
from pathlib import Path
from typing import Any

from workbench.records import STAGES, Case, Message, Output, Request, Score, Suite, Trial, Variant
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.database import runs as runs_table
from workbench.store.summaries import keep_summary

BIG = {"cases": 2_000, "temperatures": (0.0, 0.3, 0.7, 1.0, 1.3), "repeats": 5}
SMALL = {"cases": 10, "temperatures": (0.0, 0.7), "repeats": 1}
RUNS = 300
SUITES = ("answers", "reviews", "tickets")
WORDS = [
    "the",
    "film",
    "was",
    "not",
    "as",
    "slow",
    "as",
    "they",
    "say",
    "and",
    "its",
    "second",
    "half",
    "is",
    "better",
    "than",
    "the",
    "first",
]


def make_project(root: Path, runs: int = RUNS, big: dict[str, Any] | None = None) -> Path:
    """Writes the project into an empty folder; gives it back. The newest run is the big one."""
    (root / "prompts").mkdir(parents=True)
    (root / "workbench.yaml").write_text("{}\n")
    random.seed(1)
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    for number in range(runs):
        last = number == runs - 1
        _run(database, number, (big or BIG) if last else SMALL)
    with database.write() as connection:
        connection.exec_driver_sql("ANALYZE")
    database.close()
    return root


def _run(database: Database, number: int, size: dict[str, Any]) -> None:
    suite_name = SUITES[number % len(SUITES)]
    variants = tuple(
        Variant(prompt, f"pr1-{prompt}{number // 30:028d}", "house", {"temperature": t}, label=f"{prompt} · t={t:g}")
        for prompt, t in product(("plain", "careful"), size["temperatures"])
    )
    cases = tuple(
        Case(f"case-{i}", {"text": " ".join(random.choices(WORDS, k=20))}, "yes", tags=("short" if i % 3 else "long",))
        for i in range(size["cases"])
    )
    suite = Suite(suite_name, STAGES[min(4, number * 5 // RUNS)], variants, cases, (), {}, {}, repeats=size["repeats"])
    trials = [Trial(v, c, r) for c, v, r in product(cases, variants, range(size["repeats"]))]
    asked = [
        (t, Request(f"rq1-{number}-{i}", "house", (Message.of("user", t.case.inputs["text"]),)))
        for i, t in enumerate(trials)
    ]
    run = f"{20260101 + number // 28 * 100 + number % 28}-120000-{number:04x}"
    header = {"scorers": ["contains", "length"], "reference": variants[0].id, "margin": 0.05, "repeats_exactly": False}
    with database.write() as connection:
        plan = recording.Plan(f"pl1-{number}", [(t, r.id) for t, r in asked])
        recording.start_run(connection, run, suite, plan, header)
        hardness = {c.id: random.random() for c in cases}
        outputs, scores = [], []
        for trial, request in asked:
            text = " ".join(random.choices(WORDS, k=12))
            outputs.append((request, "model-1", _output(request.id, text)))
            right = (
                random.random()
                < 0.9
                - 0.5 * hardness[trial.case.id]
                + 0.1 * (trial.variant.prompt == "careful")
                - 0.1 * trial.variant.params["temperature"]
            )
            scores.append(
                Score(
                    trial.id, "contains", "k", float(right), "pass", "'yes' is in it" if right else "'yes' is missing"
                )
            )
            scores.append(Score(trial.id, "length", "k", float(len(text)), "number", f"{len(text)} characters"))
        recording.keep(connection, run, outputs)
        recording.save_scores(connection, run, scores)
        recording.end_run(connection, run, "complete", {})
        keep_summary(connection, run)
        started = f"{run[:4]}-{run[4:6]}-{run[6:8]}T12:00:00.000+00:00"
        connection.execute(runs_table.update().where(runs_table.c.id == run).values(started=started))


def _output(request: str, text: str) -> Output:
    return Output(request, text, prompt_tokens=40, output_tokens=15, seconds=random.uniform(0.2, 2.0), cost=0.0001)


if __name__ == "__main__":
    print(make_project(Path(sys.argv[1])))
