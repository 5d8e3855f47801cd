"""Answers that exist already are scored as if they had just been given, and no model is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

import workbench
from workbench.cli import main
from workbench.define.suite_form import read_form, with_form

LOG = [
    {"id": "a", "q": "1+1", "expected": "2", "answer": "It is 2.", "model": "x"},
    {"id": "b", "q": "2+2", "expected": "4", "answer": "5", "model": "x"},
    {"id": "c", "q": "3+3", "expected": "6", "answer": {"sum": 6}, "model": "x"},
    {"id": "d", "q": "4+4", "expected": "8", "answer": 8, "model": "x"},
]
SUITE = (
    "name: s\nmodels: [{recorded: data/log.jsonl, field: answer}]\ncases: {file: data/log.jsonl}\nscorers: [contains]\n"
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(rows: list[dict]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "data/log.jsonl", lines(LOG))
    write(tmp_path / "evals/s.yaml", SUITE)
    write(tmp_path / "prompts/ask.prompty", "user:\n{{ q }}")
    write(tmp_path / "prompts/other.prompty", "user:\nOther {{ q }}")
    return tmp_path


def run(project: Path, *args: str) -> int:
    return main(["--project", str(project), *args])


def scores(project: Path) -> dict[tuple[str, str, int], float]:
    frame = workbench.load_runs(project, "latest")
    return {(r["variant"], r["case"], r["repeat"]): r["score.contains"] for _, r in frame.iterrows()}


def test_a_log_is_scored_without_prompt_or_model(project: Path, capsys) -> None:
    assert run(project, "run", "s") == 0
    assert scores(project) == {
        ("recorded", "a", 0): 1,
        ("recorded", "b", 0): 0,
        ("recorded", "c", 0): 1,
        ("recorded", "d", 0): 1,
    }
    frame = workbench.load_runs(project, "latest").set_index("case")
    assert frame.loc["c", "output"] == '{"sum":6}'
    assert frame["cost"].sum() == 0
    said = capsys.readouterr()
    assert "4 trials · 0 failed · 0 tokens · cost $0" in said.out
    assert "unknown price" not in said.err


def test_beside_a_model_that_is_asked(project: Path) -> None:
    """The log against what a model says now, in pairs, under one prompt."""
    write(project / "workbench.yaml", "models: {now: {engine: echo, options: {answers: {'1.1': '2', '2.2': '4'}}}}")
    write(
        project / "evals/s.yaml",
        SUITE.replace("models: [", "prompts: [ask]\nparams: {temperature: [0, 1]}\nmodels: [now, "),
    )
    assert run(project, "run", "s", "--quiet") == 0
    assert len({variant for variant, _, _ in scores(project)}) == 3, (
        "an axis of parameters makes no second copy of a log"
    )
    frame = workbench.load_runs(project, "latest")
    assert set(frame[frame["model"] == "log"]["output"]) == {"It is 2.", "5", '{"sum":6}', "8"}
    assert set(frame["model"]) == {"now", "log"}


def test_rows_of_one_id_are_repeats(project: Path, capsys) -> None:
    answers = [{"case": "a", "text": text} for text in ("2", "3", "2")] + [
        {"case": "b", "text": "4"},
        {"case": "c", "text": None},
    ]
    write(project / "data/answers.jsonl", lines(answers))
    suite = SUITE.replace(
        "{recorded: data/log.jsonl, field: answer}", "{recorded: data/answers.jsonl, id: case, as: house}"
    )
    write(project / "evals/s.yaml", suite)
    assert run(project, "run", "s", "--quiet") == 2
    assert (
        "data/answers.jsonl: has 3 answers to case 'a', more than the suite's repeats (1); write repeats: 3"
        in capsys.readouterr().err
    )
    write(project / "evals/s.yaml", suite + "repeats: 3\n")
    assert run(project, "run", "s", "--quiet") == 3, "what has no answer lacks"
    assert (
        "8 of 12 trials have no answer, most often (8): data/answers.jsonl has no answer to this case"
        in capsys.readouterr().err
    )
    given = {(case, repeat): value for (_, case, repeat), value in scores(project).items() if pd.notna(value)}
    assert given == {("a", 0): 1, ("a", 1): 0, ("a", 2): 1, ("b", 0): 1}


def test_an_edited_answer_is_read_anew(project: Path) -> None:
    assert run(project, "run", "s", "--quiet") == 0
    write(project / "data/log.jsonl", lines([{**row, "answer": "4"} if row["id"] == "b" else row for row in LOG]))
    assert run(project, "run", "s", "--quiet") == 0
    assert scores(project)["recorded", "b", 0] == 1
    frame = workbench.load_runs(project, "latest").set_index("case")
    assert frame.loc["b", "output"] == "4"


def test_rows_without_an_id_are_known_by_what_they_hold(project: Path) -> None:
    write(project / "data/log.jsonl", lines([{k: v for k, v in row.items() if k != "id"} for row in LOG]))
    assert run(project, "run", "s", "--quiet") == 0
    assert sorted(scores(project).values()) == [0, 1, 1, 1]


def test_it_keeps_within_a_budget_and_can_be_judged_by_gates(project: Path, capsys) -> None:
    write(
        project / "evals/s.yaml",
        SUITE + "budget: {cost: 0.01, tokens: 1}\ngates:\n  - {scorer: contains, at_least: 0.1}\n",
    )
    assert run(project, "run", "s", "--quiet", "--gate") == 0
    assert run(project, "run", "s", "--dry-run", "--fresh") == 0
    assert "at most 0" in capsys.readouterr().out


def test_a_judge_reads_a_log(project: Path) -> None:
    """The judge is asked, the log is not."""
    write(
        project / "workbench.yaml",
        "models: {j: {engine: echo, options: {answers: {'Answer: 5': '1', 'Answer': '2'}}}}",
    )
    scale = "[{value: 1, means: wrong}, {value: 2, means: right}]"
    rubric = f"---\ninputs:\n  output: {{type: string}}\n  scale: {{type: array, default: {scale}}}\n---\nuser:\nAnswer: {{{{ output }}}}"
    write(project / "prompts/judges/right.prompty", rubric)
    write(
        project / "evals/s.yaml",
        SUITE.replace("[contains]", "[{judge: {rubric: judges/right, model: j, at_least: 2}}]"),
    )
    assert run(project, "run", "s", "--quiet") == 0
    frame = workbench.load_runs(project, "latest").set_index("case")
    assert dict(frame["score.judge"]) == {"a": 1, "b": 0, "c": 1, "d": 1}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("data/log.jsonl, field", "data/none.jsonl, field", "evals/s.yaml:2: there is no file 'data/none.jsonl'"),
        ("data/log.jsonl, field", "../log.jsonl, field", "evals/s.yaml:2: '../log.jsonl' leaves the project folder"),
        ("field: answer", "field: anser", "data/log.jsonl:1: the row has no field 'anser'; did you mean 'answer'"),
        ("field: answer", "felt: answer", "evals/s.yaml:2: unknown key 'felt'"),
        ("field: answer", "field: answer, id: q", "evals/s.yaml:2: models: data/log.jsonl has no answer to any case: its first id is '1+1', the suite's 'a'"),
        ("models: [", "prompts: [ask, other]\nmodels: [", "recorded answers were given to one prompt; name one"),
        ("field: answer}", "field: answer}, {recorded: data/log.jsonl, field: q}", "evals/s.yaml:2: two models are called 'log'"),
        ("field: answer}", "field: answer, as: echo}, echo", "evals/s.yaml:3: two models are called 'echo'"),
        ("models: [", "models: [echo, ", "names no prompt; add prompts: [NAME]"),
    ],
)  # fmt: skip
def test_what_is_refused(project: Path, old: str, new: str, error: str, capsys) -> None:
    text = SUITE.replace(old, new, 1)
    if "as: echo" in new:
        text = text.replace("models:", "prompts: [ask]\nmodels:")
    write(project / "evals/s.yaml", text)
    assert run(project, "run", "s", "--quiet") == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("{", "data/log.jsonl:5: not JSON"),
        ('{"id": "e", "q": "", "expected": ""}', "data/log.jsonl:5: the row has no field 'answer'"),
    ],
)
def test_a_row_that_is_none(project: Path, row: str, error: str, capsys) -> None:
    write(project / "data/log.jsonl", lines(LOG) + row)
    write(project / "data/cases.jsonl", lines(LOG))
    write(project / "evals/s.yaml", SUITE.replace("cases: {file: data/log.jsonl}", "cases: {file: data/cases.jsonl}"))
    assert run(project, "run", "s", "--quiet") == 2
    assert error in capsys.readouterr().err


def test_each_prompt_has_its_own_log(project: Path) -> None:
    write(project / "data/old.jsonl", lines([{**row, "answer": row["expected"]} for row in LOG]))
    variants = (
        "variants:\n  - {prompt: ask, model: {recorded: data/old.jsonl, field: answer}}\n"
        "  - {prompt: other, model: {recorded: data/log.jsonl, field: answer}}\n"
    )
    write(project / "evals/s.yaml", SUITE.replace("models: [{recorded: data/log.jsonl, field: answer}]\n", variants))
    assert run(project, "run", "s", "--quiet") == 0
    by_variant: dict[str, list[float]] = {}
    for (variant, _, _), value in scores(project).items():
        by_variant.setdefault(variant, []).append(value)
    assert sorted(map(sorted, by_variant.values())) == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_the_form_of_the_app_keeps_it() -> None:
    data = yaml.safe_load(SUITE)
    form = read_form(data)
    assert with_form(data, form, replace(form, repeats=2)) == {**data, "repeats": 2}
    other = replace(form, models=(*form.models, "echo"))
    assert with_form(data, form, other)["models"] == [*data["models"], "echo"]
