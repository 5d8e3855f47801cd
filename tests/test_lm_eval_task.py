"""Tasks of lm-evaluation-harness as suites. Texts that prompts must have follow `lm_eval/api/task.py`; 185 documents of
six tasks were held against the harness itself, version 0.4.13, with no difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from test_interop import run_all

from workbench.cli import main
from workbench.interop.lm_eval_task import Options, import_lm_eval_task
from workbench.interop.report import Report, write_files
from workbench.loopback import Script, serve

DOCS = [{"q": f"Q{i}", "a": f"A{i}", "id": i, "options": ["no", "yes"], "label": i % 2} for i in range(4)]
TEXT = {"task": "t", "dataset_path": "json", "test_split": "test", "doc_to_text": "{{q}}?", "doc_to_target": "a"}
TEXT |= {"dataset_kwargs": {"data_files": {"test": "d.jsonl", "train": "d.jsonl"}}}
CHOICE = {**TEXT, "output_type": "multiple_choice", "doc_to_choice": "options", "doc_to_target": "label"}
FIRST = {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}


def task(folder: Path, base: dict, docs=DOCS, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "d.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (folder / "t.yaml").write_text(yaml.safe_dump({**base, **changes}, sort_keys=False))
    return folder / "t.yaml"


def project_of(report: Report, root: Path) -> Path:
    assert not report.refused
    (root / "evals").mkdir(parents=True)
    write_files(report.files, root)
    return root


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        ({}, "Q2?"),
        ({"doc_to_text": "q"}, "Q2"),
        ({"doc_to_text": "{{id}}\n"}, "2\n"),
        ({"description": "About {{a}}.\n\n"}, "About A2.\n\nQ2?"),
        ({"num_fewshot": 2, **FIRST}, "Q0? A0\n\nQ1? A1\n\nQ2?"),
        ({"num_fewshot": 1, **FIRST, "target_delimiter": "=", "fewshot_delimiter": "\n"}, "Q0?=A0\nQ2?"),
        ({"num_fewshot": 1, **FIRST, "doc_to_text": "{%- if q %}{{q}}{% endif %}"}, "Q0 A0\n\nQ2"),
        ({"num_fewshot": 1, "fewshot_config": {"sampler": "first_n", "samples": [{"q": "{{x}}", "a": "{%"}]}},
         "{{x}}? {%\n\nQ2?"),
        ({"num_fewshot": 1, "fewshot_config": {"sampler": "first_n", "split": "train", "doc_to_text": "{{a}}:"}},
         "A0: A0\n\nQ2?"),
        ({"num_fewshot": 3, "fewshot_config": {"sampler": "first_n", "split": "test"}},
         "Q0? A0\n\nQ1? A1\n\nQ3? A3\n\nQ2?"),
    ],
)  # fmt: skip
def test_a_prompt_is_composed_as_there(tmp_path: Path, changes: dict, prompt: str) -> None:
    report = import_lm_eval_task(task(tmp_path / "x", TEXT, **changes), Options())
    rows = run_all(project_of(report, tmp_path / "p"))
    (row,) = [row for row in rows if row.case_id == "2"]
    assert row.messages == [{"role": "raw", "content": prompt}]
    assert row.expected == "A2"


def test_random_shots_are_those_that_the_harness_draws(tmp_path: Path) -> None:
    path = task(tmp_path / "x", TEXT, num_fewshot=1, fewshot_split="train")
    rows = run_all(project_of(import_lm_eval_task(path, Options()), tmp_path / "p"))
    found = {row.case_id: row.messages[0]["content"] for row in rows}
    # random.Random(1234).sample of four documents, one for each in turn: positions 3, 0, 0, 0
    assert found == {str(i): f"Q{shot}? A{shot}\n\nQ{i}?" for i, shot in enumerate([3, 0, 0, 0])}


@pytest.mark.parametrize(
    ("changes", "answer", "values"),
    [
        ({}, "a2", {"exact_match": 0}),
        ({"metric_list": [{"metric": "exact_match", "ignore_case": True}]}, "a2", {"exact_match": 1}),
        ({"metric_list": [{"metric": "exact_match", "regexes_to_ignore": ["x"]}]}, "xA2x", {"exact_match": 1}),
        ({"filter_list": [
            {"name": "s", "filter": [{"function": "regex", "regex_pattern": "is (\\w+)"}, {"function": "take_first"}]},
            {"name": "w", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}]},
         "it is A2 ", {"exact_match-s": 1, "exact_match-w": 0}),
        ({"doc_to_target": "{{[a, 'b']}}"}, "b", {"exact_match": 1}),
    ],
)  # fmt: skip
def test_free_text_is_scored_as_there(tmp_path: Path, changes: dict, answer: str, values: dict) -> None:
    root = project_of(import_lm_eval_task(task(tmp_path / "x", TEXT, **changes), Options(model="m")), tmp_path / "p")
    model = {"engine": "echo", "options": {"answers": {".": answer}}}
    (root / "workbench.yaml").write_text(yaml.safe_dump({"models": {"m": model}}))
    (row,) = [row for row in run_all(root) if row.case_id == "2"]
    assert {s.scorer: s.value for s in row.scores} == values


@pytest.mark.parametrize(
    ("given", "params"),
    [
        (None, {"temperature": 0, "max_tokens": 256, "stop": ["\n\n"]}),
        ({"until": "\n", "max_gen_toks": 9}, {"temperature": 0, "max_tokens": 9, "stop": ["\n"]}),
        ({"until": ["", "x"], "do_sample": False, "temperature": 1.0}, {"temperature": 0, "max_tokens": 256, "stop": ["x"]}),
        ({"until": [], "do_sample": True, "temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9, "max_tokens": 256}),
    ],
)  # fmt: skip
def test_generation_settings(tmp_path: Path, given, params: dict) -> None:
    report = import_lm_eval_task(task(tmp_path, TEXT, **({"generation_kwargs": given} if given else {})), Options())
    assert yaml.safe_load(report.files["evals/t.yaml"])["params"] == params


FILTER = {"filter_list": [{"name": "f", "filter": [{"function": "majority_vote"}, {"function": "take_first"}]}]}


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (TEXT, {"process_docs": "x"}, "t.yaml:10: 'process_docs' has no counterpart"),
        (TEXT, {"gen_prefix": "x"}, "'gen_prefix' has no counterpart"),
        (TEXT, {"output_type": "loglikelihood"}, "the output_type 'loglikelihood'"),
        (TEXT, {"task": ["a", "b"]}, "a group of tasks"),
        (TEXT, {"test_split": None}, "neither a test_split nor a validation_split"),
        (TEXT, {"dataset_path": "openai/gsm8k"}, "t.yaml:2: the split 'test' of the data set openai/gsm8k lies elsewhere; "
         "download it and give its file with --data test=FILE"),
        (TEXT, {"dataset_kwargs": {"data_files": {"test": "../d.jsonl"}}}, "no file '../d.jsonl' in the folder"),
        (TEXT, {"dataset_kwargs": {"data_files": {"test": "https://x.org/d.jsonl"}}}, "no file 'https://x.org"),
        (TEXT, {"dataset_kwargs": {"field": "x"}}, "'field' of dataset_kwargs"),
        (TEXT, {"fewshot_split": "dev", "num_fewshot": 1}, "no file for the split 'dev'; give it with --data dev=FILE"),
        (TEXT, {"num_fewshot": 9, **FIRST}, "9 few shots of 4 documents"),
        (TEXT, {"num_fewshot": 1, "fewshot_config": {"sampler": "balanced"}}, "the sampler 'balanced'"),
        (TEXT, {"num_fewshot": 1, "fewshot_config": {"fewshot_indices": [1]}}, "'fewshot_indices' of fewshot_config"),
        (TEXT, {"doc_to_text": "{{nothing}}"}, "t.yaml:4: input 'nothing' has no value"),
        (TEXT, {"doc_to_text": "{{q | regex_replace('a', 'b')}}"}, "there is no filter 'regex_replace'"),
        (TEXT, {"metric_list": [{"metric": "bleu"}]}, "the metric 'bleu'"),
        (TEXT, {"metric_list": [{"metric": "exact_match", "aggregation": "median"}]}, "the aggregation 'median'"),
        (TEXT, FILTER, "the filter function 'majority_vote'"),
        (TEXT, {"filter_list": [{"name": "f", "filter": [{"function": "lowercase"}]}]}, "does not end in take_first"),
        (TEXT, {"generation_kwargs": {"num_beams": 2}}, "'num_beams' of generation_kwargs"),
        (CHOICE, {"doc_to_choice": None}, "multiple_choice without doc_to_choice"),
        (CHOICE, {"doc_to_choice": ["a", "a"]}, "two choices of a document are the same"),
        (CHOICE, {"doc_to_choice": "{{q}}"}, "d.jsonl row 1: doc_to_choice gives 'Q0', which is no list"),
        (CHOICE, {"doc_to_target": 2}, "which is none of the 2 choices"),
        (CHOICE, {"doc_to_text": "{{id}}"}, "a task with several inputs"),
        (CHOICE, {"metric_list": [{"metric": "f1"}]}, "the metric 'f1'"),
    ],
)  # fmt: skip
def test_what_can_not_be_carried_over_is_refused_with_its_place(tmp_path: Path, base, changes, reason: str) -> None:
    report = import_lm_eval_task(task(tmp_path, base, **changes), Options())
    assert reason in report.refused
    assert not report.files


def test_python_is_refused_and_a_base_in_the_folder_followed(tmp_path: Path) -> None:
    path = task(tmp_path, TEXT)
    path.rename(tmp_path / "_base")
    path.write_text("include: _base\ntask: other\n")
    assert "evals/other.yaml" in import_lm_eval_task(path, Options()).files
    path.write_text("include: _base\ndoc_to_text: !function utils.text\n")
    assert "t.yaml:2: doc_to_text: !function utils.text is Python" in import_lm_eval_task(path, Options()).refused
    path.write_text("include: ../base\n")
    assert "leaves the folder" in import_lm_eval_task(path, Options()).refused
    path.write_text("include: t.yaml\n")
    assert "includes itself" in import_lm_eval_task(path, Options()).refused


def test_the_command_line_takes_documents_and_shots(tmp_path: Path, capsys) -> None:
    path = task(tmp_path / "x", TEXT, dataset_path="hub/set", training_split="train", dataset_kwargs=None)
    root, data = tmp_path / "p", tmp_path / "x/d.jsonl"
    command = ["import", "lm-eval-task", str(path), "--out", str(root), "--num-fewshot", "1"]
    assert main([*command, "--data", str(data)]) == 2
    assert "give its file with --data train=FILE" in capsys.readouterr().err
    assert main([*command, "--data", "train=no.jsonl"]) == 2
    assert "there is no file 'no.jsonl'" in capsys.readouterr().err
    assert main([*command, "--data", str(data), "--data", f"train={data}"]) == 0
    assert len(run_all(root)) == 4


U, A = "user", "assistant"


@pytest.mark.parametrize(
    ("changes", "messages", "told"),
    [
        ({}, [(U, "Q2?")], ""),
        ({"description": "About {{a}}."}, [("system", "About A2."), (U, "Q2?")], ""),
        ({"description": "About.\n\n", "doc_to_text": "\n{{q}} \n"}, [("system", "About."), (U, "Q2 ")], "blank lines"),
        ({"num_fewshot": 2, **FIRST}, [(U, "Q0?"), (A, "A0"), (U, "Q1?"), (A, "A1"), (U, "Q2?")], ""),
        ({"num_fewshot": 1, **FIRST, "description": "D", "target_delimiter": "=", "fewshot_delimiter": "\n"},
         [("system", "D"), (U, "Q0?"), (A, "A0"), (U, "Q2?")], ""),
        ({"num_fewshot": 1, "fewshot_config": {"sampler": "first_n", "samples": [{"q": "user:\n{{x}}\n", "a": "{%\n\n"}]}},
         [(U, "user:\n{{x}}\n?"), (A, "{%\n\n"), (U, "Q2?")], ""),
        ({"num_fewshot": 1, "fewshot_config": {"sampler": "first_n", "samples": [{"q": "x", "a": ""}]}},
         [(U, "x?"), (U, "Q2?")], ""),
        ({"doc_to_text": "{{q}}\nAssistant:"}, [(U, "Q2\nAssistant:")], ""),
        ({"doc_to_text": "{%- if q %}{{q}}{% endif %}"}, [(U, "Q2")], ""),
        ({"num_fewshot": 3, "fewshot_config": {"sampler": "first_n", "split": "test"}},
         [(U, "Q0?"), (A, "A0"), (U, "Q1?"), (A, "A1"), (U, "Q3?"), (A, "A3"), (U, "Q2?")], ""),
    ],
)  # fmt: skip
def test_a_chat_is_composed_as_there(tmp_path: Path, changes: dict, messages: list, told: str) -> None:
    """As `fewshot_context` makes it with `--apply_chat_template --fewshot_as_multiturn`: delimiters are no part of it."""
    report = import_lm_eval_task(task(tmp_path / "x", TEXT, **changes), Options(chat=True))
    assert [line.what for line in report.lines if line.fate == "approximated"] == ([told] if told else [])
    rows = run_all(project_of(report, tmp_path / "p"))
    (row,) = [row for row in rows if row.case_id == "2"]
    assert row.messages == [{"role": role, "content": text} for role, text in messages]
    assert row.expected == "A2"


def test_a_chat_has_the_shots_that_the_harness_draws(tmp_path: Path) -> None:
    path = task(tmp_path / "x", TEXT, num_fewshot=1, fewshot_split="train")
    rows = run_all(project_of(import_lm_eval_task(path, Options(chat=True)), tmp_path / "p"))
    found = {row.case_id: [m["content"] for m in row.messages] for row in rows}
    assert found == {str(i): [f"Q{shot}?", f"A{shot}", f"Q{i}?"] for i, shot in enumerate([3, 0, 0, 0])}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"description": "{% if id %}D{% endif %}"}, "d.jsonl row 1: the prompt is not what the harness would compose"),
        ({"doc_to_text": "{% if q %}\nuser:\n{% endif %}{{q"}, "the template: "),
        ({"gen_prefix": "So:"}, "'gen_prefix' has no counterpart"),
    ],
)
def test_what_no_chat_can_be_is_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    report = import_lm_eval_task(task(tmp_path, TEXT, **changes), Options(chat=True))
    assert reason in report.refused
    assert not report.files


def test_a_hosted_chat_model_is_asked(tmp_path: Path) -> None:
    """Over HTTP: the messages as they are, and no more texts to stop at than the harness sends."""
    stops = {"generation_kwargs": {"until": list("abcdef"), "max_gen_toks": 9}}
    path = task(tmp_path / "x", TEXT, num_fewshot=1, **FIRST, **stops)
    root = tmp_path / "p"
    command = ["import", "lm-eval-task", str(path), "--out", str(root), "--chat", "--model", "hosted"]
    assert main(command) == 0
    suite = yaml.safe_load((root / "evals/t.yaml").read_text())
    assert suite["params"] == {"temperature": 0, "max_tokens": 9, "stop": list("abcd")}
    with serve(Script(answers={r"Q2\?": "A2"})) as server:
        model = {"engine": "openai", "model": "m", "base_url": server.url, "price": {"input": 0, "output": 0}}
        (root / "workbench.yaml").write_text(yaml.safe_dump({"models": {"hosted": model}}))
        rows = run_all(root)
        assert {call: server.count(call) for call in server.calls} == {f"Q{i}?": 1 for i in range(4)}
    (row,) = [row for row in rows if row.case_id == "2"]
    assert [s.value for s in row.scores] == [1.0]


@pytest.mark.model
def test_choices_are_read_behind_a_chat_template(tmp_path: Path) -> None:
    path = task(tmp_path / "x", CHOICE, num_fewshot=1, **FIRST)
    report = import_lm_eval_task(path, Options(model="smollm2", chat=True))
    assert "without the target_delimiter" in next(line.note for line in report.lines if line.what == "doc_to_choice")
    for row in run_all(project_of(report, tmp_path / "p")):
        told = row.output.extra["choices"]
        assert [choice["text"] for choice in told] == ["no", "yes"]
        assert [m["content"] for m in row.messages[:2]] == ["Q0?", "no"]
        best = max(told, key=lambda choice: choice["logprob"])["text"]
        assert {s.scorer: s.value for s in row.scores}["acc"] == float(best == row.expected)


@pytest.mark.model
def test_choices_run_on_a_model(tmp_path: Path) -> None:
    report = import_lm_eval_task(task(tmp_path / "x", CHOICE), Options(model="smollm2"))
    rows = run_all(project_of(report, tmp_path / "p"))
    for row in rows:
        told = row.output.extra["choices"]
        assert [choice["text"] for choice in told] == [" no", " yes"]
        rates = {"acc": [c["logprob"] for c in told], "acc_norm": [c["logprob"] / (len(c["text"]) - 1) for c in told]}
        right = ["no", "yes"].index(row.expected)
        for score in row.scores:
            assert score.value == float(rates[score.scorer].index(max(rates[score.scorer])) == right)
