"""Files of other tools that are not what they should be: refused with a reason, never an exception."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.errors import DataError, UseError
from workbench.interop import inspect_log
from workbench.interop.dotprompt import import_dotprompt
from workbench.interop.foreign import keep_foreign
from workbench.interop.github_models import import_github_models
from workbench.interop.inspect_log import read_inspect
from workbench.interop.langchain import import_langchain
from workbench.interop.lm_eval import read_lm_eval
from workbench.interop.lm_eval_task import Options as TaskOptions
from workbench.interop.lm_eval_task import import_lm_eval_task
from workbench.interop.openai_evals import Options, import_openai_evals
from workbench.interop.promptfoo import import_promptfoo
from workbench.store.database import Database

SAMPLE = {
    "id": 1, "epoch": 1, "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "target": "a",
    "metadata": {"k": 1},
    "output": {
        "choices": [{"message": {"role": "assistant", "content": "ans"}, "stop_reason": "stop"}],
        "usage": {"input_tokens": 3, "output_tokens": 4}, "time": 0.5,
    },
    "scores": {"match": {"value": "C"}, "n": {"value": 0.5}, "d": {"value": {"a": 1, "b": 2}}},
}  # fmt: skip
INSPECT = {"eval": {"task": "t", "model": "m", "model_generate_config": {"temperature": 0.5}}, "samples": [SAMPLE]}
LM_EVAL = {
    "doc_id": 1, "doc": {"q": "x"}, "target": "a", "arguments": [["ctx", " a"], ["ctx", " b"]],
    "filtered_resps": [[-1.0, True], [-2.0, False]], "acc": 1.0, "f1": 0.5,
}  # fmt: skip
GITHUB = {
    "name": "n", "model": "openai/gpt-4o", "modelParameters": {"temperature": 0.5},
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi {{x}}"}],
    "testData": [{"x": "1", "expected": "a"}], "evaluators": [{"name": "e", "string": {"contains": "{{expected}}"}}],
}  # fmt: skip
TEMPLATE = {"template": "hi {x}", "input_variables": ["x"], "template_format": "f-string"}
PROMPT = {"type": "constructor", "id": ["langchain", "PromptTemplate"], "kwargs": TEMPLATE}
MESSAGE = {"type": "constructor", "id": ["langchain", "HumanMessagePromptTemplate"], "kwargs": {"prompt": PROMPT}}
LANGCHAIN = {"type": "constructor", "id": ["langchain", "ChatPromptTemplate"], "kwargs": {"messages": [MESSAGE]}}
DOTPROMPT = {
    "model": "googleai/gemini", "config": {"temperature": 0.3},
    "input": {"schema": {"name": "string", "age?": "integer"}, "default": {"name": "x"}},
    "output": {"format": "json", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
}  # fmt: skip
EVALS = {
    "e": {"id": "e.v0", "metrics": ["accuracy"]},
    "e.v0": {"class": "evals.elsuite.basic.match:Match", "args": {"samples_jsonl": "s.jsonl"}},
}
TASK = {
    "task": "t", "dataset_path": "json", "test_split": "test", "doc_to_text": "{{q}}?", "doc_to_target": "label",
    "output_type": "multiple_choice", "doc_to_choice": "options", "num_fewshot": 0, "metric_list": [{"metric": "acc"}],
}  # fmt: skip
PROMPTFOO = {
    "prompts": ["Say {{w}}", "file://p.txt"],
    "providers": [{"id": "openai:gpt-4o", "config": {"temperature": 0.5, "apiBaseUrl": "http://h/v1"}}],
    "tests": [
        {"vars": {"w": "x"}, "assert": [{"type": "equals", "value": "x"}, {"type": "llm-rubric", "value": "ok"}]}
    ],
    "defaultTest": {"assert": [{"type": "is-json"}]},
    "scenarios": [{"config": [{"vars": {"a": 1}}], "tests": [{"vars": {"b": 1}}]}],
}


def as_json(data: Any) -> str:
    return json.dumps(data)


def as_yaml(data: Any) -> str:
    return yaml.safe_dump(data)


def keep(read: Callable) -> Callable[[Path], None]:
    def kept(path: Path) -> None:
        foreign = read(path)
        database = Database.open("sqlite://")
        try:
            keep_foreign(database, foreign)
        finally:
            database.close()

    return kept


KINDS: dict[str, tuple[Any, str, Callable[[Any], str], Callable[[Path], Any]]] = {
    "inspect": (INSPECT, "a.json", as_json, keep(read_inspect)),
    "lm-eval": (LM_EVAL, "samples_t.jsonl", as_json, keep(read_lm_eval)),
    "github-models": (GITHUB, "a.prompt.yml", as_yaml, import_github_models),
    "langchain": (LANGCHAIN, "a.json", as_json, import_langchain),
    "dotprompt": (DOTPROMPT, "a.prompt", lambda data: f"---\n{as_yaml(data)}---\n{{{{name}}}}", import_dotprompt),
    "openai-evals": (EVALS, "e.yaml", as_yaml, lambda path: import_openai_evals(path, Options())),
    "lm-eval-task": (
        TASK, "t.yaml", as_yaml,
        lambda path: import_lm_eval_task(path, TaskOptions({"": path.parent / "d.jsonl"}, None, "echo")),
    ),
    "promptfoo": (PROMPTFOO, "promptfooconfig.yaml", as_yaml, import_promptfoo),
}  # fmt: skip
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
HOSTILE = [
    None, True, 0, -1, 1e308, 10**30, 10**400, float("nan"), float("inf"), "", "\x00", "\ud83d", "a" * 5000, DEEP,
    "../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "{{ x.__class__ }}", "{%", "{{", "\n::error::x", "%s",
    [], {}, [[]], {"a": {}}, {"": ""}, {1: 2}, "(a+)+$", "a: b: c", "\r\n---\n", "system:\nuser:", "<<",
]  # fmt: skip


def places(data: Any, at: tuple = ()) -> Iterator[tuple]:
    yield at
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield from places(data[key], (*at, key))


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, Any]:
    """A kind of file, and a document of it with something else at some places."""
    kind = draw(st.sampled_from(list(KINDS)))
    data = copy.deepcopy(KINDS[kind][0])
    for _ in range(draw(st.integers(1, 2))):
        *at, last = draw(st.sampled_from([place for place in places(data) if place]))
        inside = data
        for key in at:
            inside = inside[key]
        if draw(st.booleans()) or not isinstance(inside, dict):
            inside[last] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
        else:
            del inside[last]
        if not any(place for place in places(data)):
            break
    return kind, data


@settings(max_examples=400, deadline=None)
@given(changed())
def test_whatever_stands_in_a_file_it_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, given_) -> None:
    kind, data = given_
    _, name, write, read = KINDS[kind]
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "s.jsonl").write_text('{"input": "q", "ideal": "a"}\n')
    (folder / "d.jsonl").write_text('{"q": "Q", "options": ["no", "yes"], "label": 1}\n')
    (folder / "p.txt").write_text("hi {{w}}")
    (folder / name).write_bytes(write(data).encode("utf-8", "surrogatepass"))
    try:
        read(folder / name)
    except UseError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_the_documents_are_right_as_they_are(tmp_path: Path, kind: str) -> None:
    """Else the test above would show nothing."""
    data, name, write, read = KINDS[kind]
    (tmp_path / "s.jsonl").write_text('{"input": "q", "ideal": "a"}\n')
    (tmp_path / "d.jsonl").write_text('{"q": "Q", "options": ["no", "yes"], "label": 1}\n')
    (tmp_path / "p.txt").write_text("hi {{w}}")
    if kind == "dotprompt":
        data = {**data, "output": {}}
    (tmp_path / name).write_text(write(data))
    made = read(tmp_path / name)
    assert made is None or not made.refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": [SAMPLE, SAMPLE]}, "sample '1' stands there twice"),
        ({"samples": [{**SAMPLE, "scores": {"n": {"value": 10**400}}}]}, "is no log of Inspect: OverflowError"),
        (
            {"samples": [{**SAMPLE, "scores": {"n": {"value": float("inf")}}}]},
            "a number of sample '1' is none, or beyond",
        ),
        ({"samples": [{**SAMPLE, "output": {"usage": {"input_tokens": 10**30}}}]}, "1e+30 is no count"),
        ({"samples": [{**SAMPLE, "epoch": -3}]}, "-4 is no count"),
        ({"samples": [{**SAMPLE, "target": "\ud83d"}]}, "is no log of Inspect: UnicodeEncodeError"),
    ],
)
def test_a_log_that_no_store_can_hold_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**INSPECT, **change}))
    with pytest.raises(DataError) as caught:
        read_inspect(tmp_path / "a.json")
    assert message in str(caught.value)


def test_a_file_in_a_log_that_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_log, "MAX_SAMPLE", 10_000)
    with zipfile.ZipFile(tmp_path / "a.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"eval": INSPECT["eval"]}))
        archive.writestr("samples/1.json", json.dumps(SAMPLE) + " " * 20_000)
    with pytest.raises(DataError, match="'samples/1.json' in it unpacks to more than 0 MiB"):
        read_inspect(tmp_path / "a.eval")


def test_a_nan_of_inspect_is_no_score(tmp_path: Path) -> None:
    sample = {**SAMPLE, "scores": {"n": {"value": float("nan")}}}
    (tmp_path / "a.json").write_text(json.dumps({**INSPECT, "samples": [sample]}))
    (trial,) = read_inspect(tmp_path / "a.json").trials
    assert trial.scores == {"n": (None, "number")}


@pytest.mark.parametrize(
    ("provider", "settings", "note"),
    [
        (
            "anthropic:m",
            {"apiBaseUrl": "http://evil.example/v1"},
            "it is asked at http://evil.example/v1: see that you",
        ),
        (
            "openai:m",
            {"apiBaseUrl": "http://evil.example/v1", "apiKeyEnvar": "SECRET"},
            "it is asked at http://evil.example/v1, with the key in $SECRET: see that you trust it",
        ),
        ("openai:m", {}, ""),
    ],
)
def test_an_address_that_a_config_names_gets_no_key_unseen(
    tmp_path: Path, capsys, provider: str, settings: dict, note: str
) -> None:
    config = {
        "prompts": ["Say {{w}}"],
        "providers": [{"id": provider, "config": settings}],
        "tests": [{"vars": {"w": "x"}}],
    }
    (tmp_path / "promptfooconfig.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "p").mkdir()
    (tmp_path / "p/workbench.yaml").write_text("models: {}\n")
    out = str(tmp_path / "made")
    source = str(tmp_path / "promptfooconfig.yaml")
    assert main(["--project", str(tmp_path / "p"), "import", "promptfoo", source, "--out", out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    notes = [line["note"] for line in told["lines"] if line["what"].startswith("address of")]
    assert [n.startswith(note) for n in notes] == ([True] if note else [])
    (model,) = yaml.safe_load((tmp_path / "made/workbench.yaml").read_text())["models"].values()
    assert model.get("api_key_env") == settings.get("apiKeyEnvar")
