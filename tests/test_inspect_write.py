"""Runs as logs of Inspect: what is written is read back the same by the importer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.interop.inspect_log import GRADES, read_inspect
from workbench.interop.inspect_write import inspect_log
from workbench.records import Failure, Message, Output, Part, Run, Score
from workbench.store.runs import TrialRow, VariantRow

RUN = Run("r1", "s", "prompt", "complete", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", 1, 1, 0, {})
VARIANT = VariantRow("va1-00", 0, "s", "p", "pr1-00", "house", {"params": {"temperature": 0.5}, "vars": {}})
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNT = st.none() | st.integers(1, 99)
ANSWERS = st.builds(
    Output,
    st.just("rq1"),
    text=TEXT,
    finish_reason=st.sampled_from(["stop", "length", "content_filter"]),
    seconds=st.none() | st.floats(0.01, 9),
)
FAILURES = st.builds(lambda m: Output("rq1", finish_reason="failed", failure=Failure("server", m)), TEXT)
VALUES = st.floats(0, 1) | st.integers(2, 9).map(float) | TEXT.filter(lambda text: text not in GRADES)
SCORES = st.dictionaries(st.sampled_from(["exact", "length"]), st.none() | VALUES)
INPUTS = st.dictionaries(st.sampled_from(["a", "b"]), TEXT | st.integers() | st.booleans())


@st.composite
def rows(draw: st.DrawFn) -> TrialRow:
    messages = [
        {"role": role, "content": draw(TEXT)}
        for role in draw(st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=3))
    ]
    scores = [Score("tr1", name, "sk1", value, "number", "why") for name, value in draw(SCORES).items()]
    return TrialRow(
        "tr1",
        VARIANT.id,
        draw(TEXT),
        draw(st.integers(0, 3)),
        "rq1",
        messages,
        draw(INPUTS),
        draw(st.just("") | TEXT | st.lists(TEXT, max_size=2)),
        (),
        draw(ANSWERS | FAILURES),
        tuple(scores),
    )


@given(given_rows=st.lists(rows(), min_size=1, max_size=3, unique_by=lambda row: (row.case_id, row.repeat)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_what_is_written_is_read_back(tmp_path: Path, given_rows: list[TrialRow]) -> None:
    path = tmp_path / "log.json"
    path.write_text("".join(inspect_log(RUN, VARIANT, given_rows)))
    found = read_inspect(path)
    assert (found.task, found.model, found.params) == ("s", "house", {"temperature": 0.5})
    for row, trial in zip(given_rows, found.trials, strict=True):
        assert (trial.case, trial.repeat, trial.expected) == (row.case_id, row.repeat, row.expected)
        assert [m.to_json() for m in trial.messages] == row.messages
        assert {name: value for name, value in trial.inputs.items() if name != "input"} == row.inputs
        assert {name: score[0] for name, score in trial.scores.items()} == {
            score.scorer: score.value for score in row.scores if score.value is not None
        }
        if row.output.failure:
            assert trial.output.failure.message == f"server: {row.output.failure.message}"
        else:
            for name in ("text", "finish_reason", "seconds"):
                assert getattr(trial.output, name) == getattr(row.output, name)


def test_calls_and_images_have_inspects_form() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    output = Output("rq1", finish_reason="tool_calls", tool_calls=(call,), prompt_tokens=3, output_tokens=2)
    asked = Message("user", (Part("text", "see"), Part("image", "data:image/png;base64,AA=="))).to_json()
    row = TrialRow("tr1", VARIANT.id, "a", 0, "rq1", [asked], {}, None, (), output, ())
    (sample,) = json.loads("".join(inspect_log(RUN, VARIANT, [row])))["samples"]
    assert sample["input"][0]["content"][1] == {"type": "image", "image": "data:image/png;base64,AA=="}
    choice = sample["output"]["choices"][0]
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "function": "look", "type": "function", "arguments": {"at": 1}}
    ]
    assert choice["stop_reason"] == "tool_calls"
    assert sample["output"]["usage"] == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def test_a_run_goes_out_and_comes_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {
        "prompts/hello.prompty": "user:\nHello {{ who }}",
        "evals/s.yaml": "prompts: [hello]\nmodels: [echo]\nparams: {temperature: [0, 1]}\n"
        "cases: [{id: a, who: Ann, expected: Ann}]\nscorers: [contains]\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    base = ["--project", str(tmp_path)]
    assert main([*base, "run", "s", "--quiet"]) == 0
    out = str(tmp_path / "log.json")
    export = [*base, "export", "run", "latest", "--to", "inspect", "--out", out]
    capsys.readouterr()
    assert main(export) == 2
    told = capsys.readouterr().err
    assert "one model; say which with --variant" in told
    label = told.strip().rsplit(": ", 1)[1].split(", ")[0]
    assert main([*export, "--variant", "other"]) == 2
    assert main([*export, "--variant", label]) == 0
    capsys.readouterr()
    assert main([*export[:-1], "-", "--variant", label]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path(out).read_text())
    assert main([*base, "import", "inspect", out]) == 0
    run = capsys.readouterr().out.strip().splitlines()[-1]
    assert run.startswith("inspect-")
    assert main([*base, "show", run]) == 0
    assert main([*base, "export", "run", "latest", "--to", "jsonl", "--variant", label]) == 2
    assert main([*base, "export", "run", "latest", "--to", "parquet", "--out", "-"]) == 2
    assert not (Path.cwd() / "-").exists()
