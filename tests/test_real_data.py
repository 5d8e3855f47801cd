"""Real data through SmolLM2, a model of 135 million parameters: multiple choice, arithmetic, code. The figures are weak,
and the reports say so; they are printed (`pytest -s`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_scorers_code import needs_sandbox

from workbench.cli import main
from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.runs import list_runs
from workbench.views.model import load_view

pytestmark = [pytest.mark.model, pytest.mark.slow]
SUITES = {
    "gsm8k": (
        "user:\n{{ question }}\nThink step by step. End with: The answer is NUMBER.",
        "params: {temperature: 0, max_tokens: 160}\ncases: {file: gsm8k.jsonl, limit: 24, expected: final}\n"
        "scorers: [number]\n",
        0.4,
    ),
    "humaneval": (
        "user:\nWrite this Python function whole, in one code block.\n```python\n{{ prompt }}```",
        "params: {temperature: 0, max_tokens: 220}\ncases: {file: humaneval.jsonl, limit: 16}\n"
        "scorers: [{code: {tests: '{{ test }}', entry_point: '{{ entry_point }}', prompt: '{{ prompt }}'}}]\n",
        0.6,
    ),
    "mmlu": (
        "user:\n{{ question }}\n{% for c in choices %}{{ 'ABCD'[loop.index0] }}. {{ c }}\n{% endfor %}Answer:",
        "answer: {choices: [A, B, C, D]}\ncases: {file: mmlu.jsonl, limit: 60, expected: answer}\n"
        "scorers: [{choice: {choices: [A, B, C, D]}}]\n",
        0.55,
    ),
}
"""Name → prompt, suite, and what the interval of the share that is right stays below: far better models would not."""


@pytest.mark.parametrize("name", ["gsm8k", pytest.param("humaneval", marks=needs_sandbox), "mmlu"])
def test_a_small_model_is_told_as_weak_as_it_is(shared: Path, tmp_path: Path, capsys, name: str) -> None:
    prompt, suite, below = SUITES[name]
    (tmp_path / "prompts").mkdir()
    (tmp_path / "evals").mkdir()
    (tmp_path / f"prompts/{name}.prompty").write_text(prompt)
    (tmp_path / f"evals/{name}.yaml").write_text(f"prompts: [{name}]\nmodels: [smollm2]\n{suite}")
    shutil.copy(shared / f"{name}.jsonl", tmp_path)
    assert main(["--project", str(tmp_path), "run", name, "--quiet"]) == 0
    told = capsys.readouterr().out
    database = Database.open(load_project(tmp_path).store_url)
    with database.read() as connection:
        run = list_runs(connection)[0]
        (scorer,) = load_view(connection, run.id).scorers
    database.close()
    (summary,) = scorer.summaries
    assert summary.cases == run.planned
    assert summary.missing == 0
    assert summary.mean is not None and summary.interval is not None
    low, high = summary.interval
    assert low <= summary.mean <= high < below
    assert high - low > 0.1, "so few cases say little"
    assert run.id in told
    with capsys.disabled():
        print(f"\n  SmolLM2 on {name}: {summary.mean:.0%} [{low:.0%}, {high:.0%}] of {summary.cases} cases")  # noqa: T201
