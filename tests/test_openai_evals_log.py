"""Records of OpenAI's evals as runs. Events have the keys that `evals/record.py`, `api.py` and `elsuite` write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.define.project import load_project
from workbench.errors import DataError
from workbench.interop.foreign import ForeignTrial
from workbench.interop.openai_evals_log import read_openai_log
from workbench.store import runs
from workbench.store.database import Database

SPEC = {"completion_fns": ["gpt-4o"], "eval_name": "test.s1.v0", "base_eval": "test", "split": "s1", "run_config": {}}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "France?"}]


def event(kind: str, data: object, sample: str = "test.s1.0", number: int = 0) -> dict:
    own = {"run_id": "2511", "event_id": number, "sample_id": sample, "type": kind, "data": data}
    return {**own, "created_by": "", "created_at": "2025-11-03 13:00:00+00:00"}


def sampling(sampled: object, prompt: object = ASKED, sample: str = "test.s1.0", **more: object) -> dict:
    return event("sampling", {"prompt": prompt, "sampled": sampled, **more}, sample)


def match(correct: bool, sampled: str = "Paris", sample: str = "test.s1.0", **more: object) -> dict:
    told = {"correct": correct, "expected": "Paris", "picked": sampled, "sampled": sampled, "options": ["Paris"]}
    return event("match", {**told, **more}, sample)


def metrics(sample: str = "test.s1.0", **values: object) -> dict:
    return event("metrics", values, sample)


def record(folder: Path, *lines: object, spec: object = SPEC, report: object = None) -> Path:
    path = folder / "record.jsonl"
    whole = [{"spec": spec}, *lines, *([{"final_report": report, "run_id": "2511"}] if report is not None else [])]
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in whole))
    return path


def only(folder: Path, *lines: object) -> ForeignTrial:
    (trial,) = read_openai_log(record(folder, *lines)).trials
    return trial


def test_a_sample_becomes_a_trial(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13, "prompt_tokens_details": None}
    log = record(tmp_path, sampling(["Paris"], model="gpt-4o-2024", usage=usage), match(True), report={"accuracy": 1.0})
    run = read_openai_log(log)
    assert (run.tool, run.task, run.model, run.notes) == ("openai-evals", "test.s1.v0", "gpt-4o", ())
    (trial,) = run.trials
    assert (trial.case, trial.expected, trial.inputs) == ("test.s1.0", "Paris", {"input": ASKED})
    assert [(m.role, m.text) for m in trial.messages] == [("system", "Be brief."), ("user", "France?")]
    assert (trial.output.text, trial.output.prompt_tokens, trial.output.output_tokens) == ("Paris", 12, 1)
    assert trial.scores == {"match": (1.0, "pass")}


@pytest.mark.parametrize(
    ("lines", "answer", "prompt"),
    [
        # the chain-of-thought completion function: what was matched is the second call
        ([sampling("I think: Paris", "cot"), sampling("Paris", "extract"), match(True)], "Paris", "extract"),
        # a grader's call comes after the answer that it grades
        ([sampling(["Lyon"], "asked"), sampling(["No"], "grade"), metrics(choice="No", score=0.0)], "Lyon", "asked"),
        ([sampling(["Paris", "Lyon"], "two at once")], "Paris", "two at once"),
        ([sampling([], "filtered")], "", "filtered"),
        ([match(True, "Paris")], "Paris", None),
        ([metrics(score=1)], "", None),
    ],
)
def test_which_call_is_the_answer(tmp_path: Path, lines: list, answer: str, prompt: str | None) -> None:
    trial = only(tmp_path, *lines)
    assert trial.output.text == answer
    assert [(m.role, m.text) for m in trial.messages] == ([("raw", prompt)] if prompt else [])


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([metrics("a", ok=True), metrics("b", ok=False)], {"ok": [(1.0, "pass"), (0.0, "pass")]}),
        ([metrics("a", f1=0.5), metrics("b", f1=1.0)], {"f1": [(0.5, "fraction"), (1.0, "fraction")]}),
        ([metrics("a", n=3), metrics("b", n=0)], {"n": [(3.0, "number"), (0.0, "number")]}),
        ([metrics("a", choice="A"), metrics("b", choice="B")], {"choice": [("A", "label"), ("B", "label")]}),
        ([metrics("a", score=None), metrics("b", score=1.0)], {"score": [(None, "pass"), (1.0, "pass")]}),
        ([metrics("a", x=[1, 2]), metrics("b", x={"y": 1})], {"x": [(None, "pass"), (None, "pass")]}),
        ([metrics("a", n=2), metrics("a", n=4), metrics("b", n=1)], {"n": [(3.0, "number"), (1.0, "number")]}),
        ([match(True, sample="a"), match(False, sample="a"), match(True, sample="b")],
         {"match": [(0.5, "fraction"), (1.0, "fraction")]}),
        (['{"sample_id": "a", "type": "metrics", "data": {"n": NaN}}', metrics("b", n=2)],
         {"n": [(None, "number"), (2.0, "number")]}),
    ],
)  # fmt: skip
def test_events_become_scores_of_one_kind(tmp_path: Path, found: list, wanted: dict) -> None:
    trials = read_openai_log(record(tmp_path, *found)).trials
    assert {name: [t.scores[name] for t in trials] for name in wanted} == wanted


def test_rows_errors_and_older_specs_are_read(tmp_path: Path) -> None:
    row = {"input": "2+2=", "ideal": "4"}
    old = {"model_name": "text-davinci-003", "model_names": {}, "eval_name": "t.d.v0", "run_config": {}}
    lines = [
        event("raw_sample", row, "t.d.10"),
        sampling("4", "2+2=", "t.d.10"),
        event("error", {"type": "Timeout", "message": "no answer"}, "t.d.9"),
        event("function_call", {"name": "f", "arguments": {}, "return_value": 1}, "t.d.10"),
    ]
    run = read_openai_log(record(tmp_path, *lines, spec=old, report={}))
    assert (run.model, [t.case for t in run.trials]) == ("text-davinci-003", ["t.d.9", "t.d.10"])
    failed, answered = run.trials
    assert failed.output.failure is not None
    assert (failed.output.finish_reason, failed.output.failure.message) == ("failed", "Timeout: no answer")
    assert (answered.inputs, answered.output.text) == (row, "4")
    assert [(m.role, m.text) for m in answered.messages] == [("raw", "2+2=")]


@pytest.mark.parametrize(
    ("lines", "report", "note"),
    [
        ([match(True)], None, "there is no final report: the run did not end"),
        ([match(True)], {"accuracy": 0.5}, "the final report says accuracy 0.5, its events make 1"),
        ([sampling("a"), sampling("b"), match(True, "a")], {}, "1 of 1 samples called models more than once"),
        ([match(True), match(False, sample="b")], {"accuracy": 0.5}, ""),
    ],
)
def test_what_a_reader_has_to_know_is_told(tmp_path: Path, lines: list, report: object, note: str) -> None:
    notes = read_openai_log(record(tmp_path, *lines, report=report)).notes
    assert (notes == ()) if not note else any(note in told for told in notes)


def test_the_report_may_stand_before_the_last_events(tmp_path: Path) -> None:
    run = read_openai_log(record(tmp_path, match(True), {"final_report": {"accuracy": 0.5}}, match(False, sample="b")))
    assert (len(run.trials), run.notes) == (2, ())


@pytest.mark.parametrize(
    ("lines", "spec", "problem"),
    [
        (["{"], SPEC, "record.jsonl:2: is no record of OpenAI's evals: JSONDecodeError"),
        ([{"spec": SPEC}], SPEC, "record.jsonl:2: is no record of OpenAI's evals: ValueError a second spec"),
        ([{"type": "match", "data": {}}], SPEC, "record.jsonl:2: is no record of OpenAI's evals: KeyError 'sample_id'"),
        ([[1]], SPEC, "record.jsonl:2"),
        ([], SPEC, "record.jsonl: holds no events of samples"),
        ([match(True)], {"eval_name": "x"}, "KeyError 'model_name'"),
        ([event("match", {"expected": 1})], SPEC, "KeyError 'correct'"),
        ([event("sampling", "text")], SPEC, "AttributeError"),
        ([match(True)], "x", "is no record"),
        ([metrics(score=10**400)], SPEC, "OverflowError"),
    ],
)
def test_what_is_no_record_is_told_in_a_line(tmp_path: Path, lines: list, spec: object, problem: str) -> None:
    with pytest.raises(DataError) as told:
        read_openai_log(record(tmp_path, *lines, spec=spec))
    assert problem in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("text", "problem"), [("", "holds no run"), ('{"doc_id": 1}\n', "the first line has no spec")])
def test_other_files_are_told_apart(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_openai_log(tmp_path / "x.jsonl")


@pytest.mark.parametrize("line", [sampling("\ud800"), sampling("x", "\ud800"), metrics(label="\ud800")])
def test_half_a_surrogate_pair_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: dict
) -> None:
    (tmp_path / "evals").mkdir()
    log = record(tmp_path, line)
    assert main(["--project", str(tmp_path), "import", "openai-evals-log", str(log)]) == 2
    assert "record.jsonl: is no record of OpenAI's evals: UnicodeEncodeError" in capsys.readouterr().err
    assert main(["--project", str(tmp_path), "runs", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_a_record_is_a_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        line for i in range(12) for line in (sampling("Paris", sample=f"t.{i}"), match(i % 3 > 0, sample=f"t.{i}"))
    ]
    log = record(tmp_path, *lines, report={"accuracy": 8 / 12, "boostrap_std": 0.1})
    root = tmp_path / "p"
    (root / "evals").mkdir(parents=True)
    assert main(["--project", str(root), "import", "openai-evals-log", str(log)]) == 0
    said = capsys.readouterr()
    assert "12 trials taken in; see them with: workbench show openai-evals-" in said.err
    assert main(["--project", str(root), "import", "openai-evals-log", str(log), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": said.out.strip(), "new": False}
    assert main(["--project", str(root), "show", "latest"]) == 0
    assert "67 %" in capsys.readouterr().out
    with Database.open(load_project(root).store_url).read() as connection:
        rows = list(runs.trial_rows(connection, said.out.strip()))
    assert [row.case_id for row in rows] == [f"t.{i}" for i in range(12)]
    assert main(["--project", str(root), "store", "verify"]) == 0
