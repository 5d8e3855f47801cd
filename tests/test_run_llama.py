"""Whole runs on a real local model: together, alone, timed, through the command line."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.records import Output
from workbench.store import runs
from workbench.store.database import Database

pytestmark = pytest.mark.model

SUITE = """
prompts: [short]
models: [smollm2]
params: {temperature: [0, 0.8], max_tokens: 4}
repeats: 3
scorers: [length, latency]
cases: {file: cases.jsonl}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("local")
    for folder in ("prompts", "evals"):
        (root / folder).mkdir()
    (root / "prompts/short.prompty").write_text("system:\nAnswer with one word.\n\nuser:\n{{ word }}?")
    words = ["cat", "dog", "sun", "moon", "tree", "river", "stone", "bread", "milk", "salt"]
    (root / "cases.jsonl").write_text("\n".join(json.dumps({"id": w, "word": w}) for w in words))
    (root / "evals/s.yaml").write_text(SUITE)
    (root / "evals/exact.yaml").write_text(SUITE.replace("[length, latency]", "[length]") + "exact: true\n")
    return root


def run(root: Path, *arguments: str) -> tuple[str, dict]:
    assert main(["--project", str(root), "run", *arguments, "--quiet"]) == 0
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    with database.read() as connection:
        found = runs.get_run(connection, "latest")
        texts = {(r.variant_id, r.case_id, r.repeat): r.output.text for r in runs.trial_rows(connection, found.id)}
        latency = runs.score_columns(connection, found.id, "latency")
    database.close()
    return found.id, {"header": found.header, "texts": texts, "latency": latency}


def test_a_run_counts_its_tokens_and_times_a_sample_alone(project: Path) -> None:
    _, first = run(project, "s")
    work = first["header"]["work"]["smollm2"]
    assert work["asked"] > 3 * work["evaluated"] > 0
    assert work["again"] == 0
    latency = first["latency"]
    assert (len(latency.value), latency.missing) == (16, (22, 22)), "8 answers of each of the two variants are timed"
    assert all(0 < seconds < 30 for seconds in latency.value)
    assert first["header"]["repeats_exactly"] is False


def test_the_same_plan_gives_the_same_texts(project: Path) -> None:
    _, first = run(project, "s", "--fresh", "--seed", "7")
    _, again = run(project, "s", "--fresh", "--seed", "7")
    _, other = run(project, "s", "--fresh")
    assert first["texts"] == again["texts"]
    assert first["texts"] != other["texts"], "a fresh run draws a seed"


def test_exact_mode_repeats_whatever_is_asked_beside(project: Path) -> None:
    _, all_cases = run(project, "exact")
    assert all_cases["header"]["repeats_exactly"] is True
    _, some = run(project, "exact", "--fresh", "--seed", "0", "--limit", "3")
    assert len(some["texts"]) == 18
    assert some["texts"].items() <= all_cases["texts"].items()


def test_a_text_is_read_and_its_perplexity_told(project: Path) -> None:
    """The same sum as that of the text as a choice among others, on the tokens of both once."""
    texts = {"plain": " The cat sat on the mat and fell asleep.", "mixed": " mat asleep the. fell on The and cat sat"}
    (project / "texts.jsonl").write_text(
        "\n".join(json.dumps({"id": i, "word": "A story", "text": t}) for i, t in texts.items())
    )
    suite = "prompts: [short]\nmodels: [smollm2]\ncases: {file: texts.jsonl}\nexact: true\n"
    (project / "evals/read.yaml").write_text(suite + "answer: {text: '{{ text }}'}\nscorers: [perplexity]\n")
    (project / "evals/among.yaml").write_text(
        suite + f"answer: {{choices: {json.dumps(list(texts.values()))}}}\nscorers: [length]\n"
    )
    read, among = (_outputs(project, name) for name in ("read", "among"))
    for case, text in texts.items():
        [one] = read[case].extra["choices"]
        assert (read[case].text, one["text"], read[case].output_tokens) == (text, text, 0)
        [same] = [choice for choice in among[case].extra["choices"] if choice["text"] == text]
        assert one["tokens"] == same["tokens"] > 5
        assert one["logprob"] == pytest.approx(same["logprob"], abs=1e-3)
    perplexity = {
        case: math.exp(-one.extra["choices"][0]["logprob"] / one.extra["choices"][0]["tokens"])
        for case, one in read.items()
    }
    assert perplexity["plain"] < perplexity["mixed"] / 3
    with closing(Database.open(f"sqlite:///{project}/.workbench/runs.db")) as database, database.read() as connection:
        suite_runs = {run.suite: run.id for run in runs.list_runs(connection)}
        told = runs.score_columns(connection, suite_runs["read"], "perplexity")
    assert dict(zip((told.cases[i] for i in told.case), told.value, strict=True)) == pytest.approx(perplexity)


def _outputs(project: Path, suite: str) -> dict[str, Output]:
    assert main(["--project", str(project), "run", suite, "--quiet"]) == 0
    with closing(Database.open(f"sqlite:///{project}/.workbench/runs.db")) as database, database.read() as connection:
        run = runs.get_run(connection, "latest")
        return {row.case_id: row.output for row in runs.trial_rows(connection, run.id) if row.output}


def test_a_text_is_not_read_by_what_only_writes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "evals/written.yaml").write_text(
        "prompts: [short]\nmodels: [echo]\ncases: {file: cases.jsonl}\nanswer: {text: '{{ word }}'}\nscorers: [perplexity]\n"
    )
    assert main(["--project", str(project), "run", "written"]) == 2
    assert "model 'echo' can't do answer: text" in capsys.readouterr().err
