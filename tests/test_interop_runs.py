"""Runs to and from other tools: frames, Parquet, logs of Inspect and of lm-evaluation-harness."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import workbench
from workbench.cli import main
from workbench.errors import DataError
from workbench.interop.inspect_log import read_inspect
from workbench.interop.lm_eval import read_lm_eval


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "prompts/hello.prompty": "user:\nHello {{ who }} {{ tone }}",
        "workbench.yaml": "models: {house: {engine: echo, price: {input: 1, output: 2}, options: {fail: {Cat: refused}}}}",
        "evals/s.yaml": "prompts: [hello]\nmodels: [house]\nparams: {temperature: [0, 1]}\nvars: {tone: [plain]}\nrepeats: 2\n"
        "allow_failed: 1\ncases:\n  - {id: a, who: Ann, expected: Ann, cluster: x}\n  - {id: c, who: Cat, expected: C, cluster: y}\n"
        "scorers: [contains, length]\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["--project", str(tmp_path), "run", "s", "--quiet"]) == 0
    return tmp_path


def test_a_frame_has_one_row_a_trial(project: Path) -> None:
    frame = workbench.load_runs(project)
    assert len(frame) == 2 * 2 * 2
    assert set(frame["params.temperature"]) == {0, 1}
    assert set(frame["vars.tone"]) == {"plain"}
    assert dict(zip(frame["case"], frame["cluster"], strict=True)) == {"a": "x", "c": "y"}
    answered = frame[frame["case"] == "a"]
    assert set(answered["output"]) == {"Hello Ann plain"}
    assert set(answered["score.contains"]) == {1.0}
    assert (answered["cost"] > 0).all()
    failed = frame[frame["case"] == "c"]
    assert failed["output"].isna().all()
    assert failed["score.length"].isna().all()
    assert set(failed["failure"]) == {"refused"}
    assert str(frame["started"].dt.tz) == "UTC"


def test_which_runs(project: Path) -> None:
    assert main(["--project", str(project), "run", "s", "--quiet", "--fresh"]) == 0
    assert workbench.load_runs(project)["run"].nunique() == 2
    assert workbench.load_runs(project, "latest")["run"].nunique() == 1
    assert len(workbench.load_runs(project, suite="other")) == 0
    with pytest.raises(workbench.WorkbenchError, match="unknown run"):
        workbench.load_runs(project, "nope")


def test_parquet_and_json_lines_bring_back_the_frame(project: Path, tmp_path: Path) -> None:
    frame = workbench.load_runs(project, "latest")
    for form in ("parquet", "jsonl"):
        assert (
            main(
                [
                    "--project",
                    str(project),
                    "export",
                    "run",
                    "latest",
                    "--to",
                    form,
                    "--out",
                    str(tmp_path / f"x.{form}"),
                ]
            )
            == 0
        )
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "x.parquet"), frame, check_dtype=False, check_index_type=False
    )
    back = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [row["trial"] for row in back] == list(frame["trial"])
    assert [row["score.contains"] for row in back] == [None if pd.isna(v) else v for v in frame["score.contains"]]


def test_a_prompt_as_messages(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    call = ["--project", str(project), "export", "prompt", "hello", "--to", "messages"]
    assert main([*call, "--var", "who=Ann", "--var", "tone=x=y"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"role": "user", "content": "Hello Ann x=y"}]
    assert main(call) == 2
    assert "has no value" in capsys.readouterr().err


HEAD = {"version": 2, "eval": {"task": "sums", "model": "openai/gpt-4o", "model_generate_config": {"temperature": 0.5}}}
SAMPLES = [
    {"id": i, "epoch": 1, "input": f"{i} + 1?", "target": str(i + 1), "scores": {"match": {"value": grade}},
     "output": {"choices": [{"message": {"role": "assistant", "content": f"{i + 1}"}, "stop_reason": "stop"}],
                "usage": {"input_tokens": 5, "output_tokens": 1}, "time": 0.5}}
    for i, grade in enumerate(["C", "I", True])
]  # fmt: skip


def inspect_json(folder: Path) -> Path:
    (folder / "log.json").write_text(json.dumps({**HEAD, "samples": SAMPLES}))
    return folder / "log.json"


def inspect_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(HEAD))
        for sample in SAMPLES:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    return folder / "log.eval"


@pytest.mark.parametrize("write", [inspect_json, inspect_zip])
def test_a_log_of_inspect_is_a_run(project: Path, tmp_path: Path, write, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--project", str(project), "import", "inspect", str(write(tmp_path))]
    capsys.readouterr()
    assert main(call) == 0
    run = capsys.readouterr().out.strip()
    assert run.startswith("inspect-")
    frame = workbench.load_runs(project, run)
    assert list(frame["output"]) == ["1", "2", "3"]
    assert list(frame["score.match"]) == [1.0, 0.0, 1.0]
    assert list(frame["prompt_tokens"]) == [5, 5, 5]
    assert set(frame["params.temperature"]) == {0.5}
    assert main(call) == 0
    assert "was here already" in capsys.readouterr().err
    assert main(["--project", str(project), "show", run]) == 0
    assert main(["--project", str(project), "store", "verify"]) == 0


CHOICES = [
    {"doc_id": i, "doc": {"q": f"q{i}"}, "target": 1, "arguments": [[f"q{i}", " no"], [f"q{i}", " yes"]],
     "resps": [], "filtered_resps": [[-2.0, False], [-1.0 - 2 * i, True]], "acc": 1.0 - i, "doc_hash": "x"}
    for i in range(2)
]  # fmt: skip
GENERATED = [
    {"doc_id": 0, "doc": {"q": "x"}, "target": "4", "arguments": {"gen_args_0": {"arg_0": "2 + 2 =", "arg_1": {}}},
     "filtered_resps": ["4"], "metrics": ["exact_match"], "exact_match": 1.0}
]  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "outputs", "scores"),
    [(CHOICES, ["yes", "no"], {"acc": [1, 0]}), (GENERATED, ["4"], {"exact_match": [1]})],
)
def test_samples_of_lm_eval_are_a_run(project: Path, tmp_path: Path, samples, outputs, scores, capsys) -> None:
    file = tmp_path / "tiny-model/samples_arc_easy_2024-01-02T03-04-05.678.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(s) + "\n" for s in samples))
    capsys.readouterr()
    assert main(["--project", str(project), "import", "lm-eval", str(file)]) == 0
    frame = workbench.load_runs(project, capsys.readouterr().out.strip())
    assert list(frame["output"]) == outputs
    assert {name: list(frame[f"score.{name}"]) for name in scores} == scores
    assert (set(frame["suite"]), set(frame["model"])) == ({"arc_easy"}, {"tiny-model"})


@pytest.mark.parametrize("read", [read_inspect, read_lm_eval])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"eval": 1}', '{"doc_id": 1, "doc": 2}', "x" * 10])
def test_what_is_no_log_is_told(tmp_path: Path, read, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(DataError, match="is no |holds no "):
        read(tmp_path / "x.jsonl")
