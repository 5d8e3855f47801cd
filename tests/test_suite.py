"""Suites read and resolved; what is wrong is told with file and line before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from workbench.define.gates import Gate
from workbench.define.project import Project, load_project
from workbench.define.prompt import parse_prompt
from workbench.define.suite import Overrides, find_suite, load_suite, suite_schema
from workbench.errors import UnknownName, UseError
from workbench.records import Prompt, ScorerSpec, Suite

SCORERS = ["choice", "contains", "exact", "json_schema", "latency", "length"]


class Shelf:
    """Prompts at hand."""

    def __init__(self, *prompts: Prompt) -> None:
        self.prompts = {p.name: p for p in prompts}

    def find(self, ref: str) -> Prompt:
        if ref not in self.prompts:
            raise UnknownName("prompt", ref, self.prompts)
        return self.prompts[ref]


LIBRARY = Shelf(
    parse_prompt("user:\n{{ text }}", "zero"),
    parse_prompt("user:\n{{ tone }} {{ text }}", "toned"),
    parse_prompt(
        "---\ninputs:\n  text: {type: string}\n  tone: {type: string, default: plain}\n"
        "  n: {type: integer, required: false}\n---\nuser:\n{{ text }}{{ tone }}{% if n %}{{ n }}{% endif %}",
        "declared",
    ),
    parse_prompt("---\ntemplate: {strict: false}\n---\nuser:\n{{ nowhere }}", "lenient"),
)
GOOD = "prompts: [zero]\nmodels: [echo]\ncases: [{text: a, label: x}]\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "evals").mkdir()
    (tmp_path / "data.jsonl").write_text('{"id": "r1", "text": "a", "label": "x"}\n{"id": "r2", "text": null}\n')
    (tmp_path / "form.json").write_text('{"type": "object"}')
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "word.gbnf").write_text('root ::= "a"')
    return load_project(tmp_path)


def load(project: Project, text: str, **overrides) -> Suite:
    (project.evals_root / "x.yaml").write_text(text)
    return load_suite("x", project, LIBRARY, SCORERS, Overrides(**overrides))


WHOLE = """\
# yaml-language-server: $schema=suite.schema.json
name: whole
stage: evaluate
description: Every key.
prompts: [zero, toned]
models: [smollm2+q4_0, {use: openai:gpt-5-mini, params: {max_tokens: 2000}, without: [temperature]}]
params: {temperature: [0, 0.7], max_tokens: 8, stop: ["\\n"]}
vars: {tone: [plain, warm]}
answer: [{choices: "{{ options }}"}, {schema: form.json}, {grammar: word.gbnf}]
logprobs: 5
axes: product
repeats: 2
cases:
  rows:
    - {text: a, options: [x, y], label: x}
    - {text: b, options: [x, y], label: y}
  expected: label
scorers:
  - latency
  - choice: {expected: "{{ label }}", choices: [x, y]}
  - contains: x
    as: has-x
  - json_schema: form.json
  - exact: {expected: 5}
reference: {prompt: zero, model: smollm2+q4_0, temperature: 0, tone: plain}
margin: 0.1
gates:
  - {scorer: choice, at_least: 0.8, confidence: 0.9}
  - {scorer: has-x, no_worse_than: baseline, margin: 0.05, variant: {prompt: zero}}
budget: {cost: 2, tokens: 100000, time: 30m}
reuse: {max_age: 7d}
seed: 3
block: 4
allow_failed: 0.02
exact: true
"""


def test_every_key(project):
    with pytest.raises(UseError, match="the reference must be one variant, but 3 variants are so"):
        load(project, WHOLE)
    suite = load(project, WHOLE.replace("answer: [", "#").replace("logprobs: 5", "answer: {schema: form.json}"))
    assert (suite.name, suite.stage, suite.repeats, suite.seed, suite.block) == ("whole", "evaluate", 2, 3, 4)
    assert suite.budget == {"cost": 2, "tokens": 100_000, "time": 1800}
    assert suite.reuse == {"max_age": "7d"}
    assert suite.models["smollm2+q4_0"].settings["exact"] is True
    assert len(suite.variants) == 2 * 2 * 2 + 2 * 2  # the hosted model has no temperature
    assert {json.dumps(dict(v.answer)) for v in suite.variants} == {'{"schema": {"type": "object"}}'}
    assert suite.reference == suite.variants[0].id
    absolute, paired = map(Gate.from_json, suite.gates)
    assert (absolute.name, absolute.confidence, absolute.variants) == ("choice at least 0.8", 0.9, None)
    assert (paired.name, paired.bound) == ("has-x no worse than baseline by 0.05", 0.05)
    assert paired.variants == tuple(v.id for v in suite.variants if v.prompt == "zero")
    assert [gate.to_json() for gate in (absolute, paired)] == list(suite.gates)
    assert suite.scorers == (
        ScorerSpec("latency", "latency"),
        ScorerSpec("choice", "choice", {"choices": ["x", "y"]}, "{{ label }}"),
        ScorerSpec("has-x", "contains", {"value": "x"}),
        ScorerSpec("json_schema", "json_schema", {"schema": {"type": "object"}}),
        ScorerSpec("exact", "exact", {}, "{{ 5 }}"),
    )
    assert set(suite.prompts) == {v.revision for v in suite.variants}
    assert (suite.path, suite.text.startswith("# yaml")) == ("evals/x.yaml", True)
    Draft202012Validator(suite_schema()).validate(yaml.safe_load(WHOLE))


def test_forms_of_the_answer_are_an_axis(project):
    suite = load(project, GOOD + "answer: [{choices: [a, b]}, {grammar: word.gbnf}, {grammar: 'root ::= x'}]")
    assert [dict(v.answer) for v in suite.variants] == [
        {"choices": ["a", "b"]},
        {"grammar": 'root ::= "a"'},
        {"grammar": "root ::= x"},
    ]


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ({}, ["zero · echo", "zero · openai:y", "declared · echo", "declared · openai:y"]),
        ({"only": {"prompt": "declared", "model": "echo"}}, ["declared · echo"]),
        (
            {"only": {"prompt": "zero", "model": "openai:y"}, "set_params": {"temperature": [0, 1]}},
            ["zero · openai:y · temperature=0", "zero · openai:y · temperature=1"],
        ),
    ],
)
def test_overrides(project, overrides, labels):
    text = GOOD.replace("[zero]", "[zero, declared]").replace(
        "[echo]", "[echo, {use: 'openai:y', params: {temperature: 0.5}}]"
    )
    suite = load(project, text + "params: {temperature: 0.5}", limit=1, repeats=3, seed=7, **overrides)
    assert [v.label for v in suite.variants] == labels
    assert (suite.repeats, suite.seed, len(suite.cases)) == (3, 7, 1)
    assert set(suite.models) == {v.model for v in suite.variants}


def test_forced_parameters_stand_above_a_variants_own(project):
    text = GOOD + "variants: [{params: {top_k: 1}, model: {use: echo, params: {top_k: 2}}}, {params: {top_p: 1}}]"
    suite = load(project, text, set_params={"top_k": 9})
    assert [dict(v.params) for v in suite.variants] == [{"top_k": 9}, {"top_k": 9, "top_p": 1}]


def test_only_may_leave_the_reference_out(project):
    text = GOOD.replace("[zero]", "[zero, declared]") + "reference: {prompt: declared}"
    assert load(project, text).reference == load(project, text).variants[1].id
    assert load(project, text, only={"prompt": "zero"}).reference is None


def test_defaults_of_the_project(project):
    (project.root / "workbench.yaml").write_text("defaults: {repeats: 4, params: {temperature: 0}}")
    suite = load(load_project(project.root), GOOD)
    assert (suite.name, suite.repeats, dict(suite.variants[0].params)) == ("x", 4, {"temperature": 0})


def test_suites_are_found_by_name_and_by_path(project, monkeypatch):
    path = project.evals_root / "deep" / "y.yml"
    path.parent.mkdir()
    path.write_text(GOOD)
    for ref in ("deep/y", "deep/y.yml", "evals/deep/y.yml", str(path)):
        assert find_suite(ref, project) == path
    monkeypatch.chdir(path.parent)
    assert find_suite("y.yml", project) == Path("y.yml")
    with pytest.raises(UnknownName, match="unknown suite 'deep/z'; did you mean 'deep/y'"):
        find_suite("deep/z", project)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("repeats: many", "evals/x.yaml:4: repeats must be a whole number, not 'many'"),
        ("repeats: 0", "evals/x.yaml:4: repeats must be greater than or equal to 1, not 0"),
        ("\nrepaets: 2", "evals/x.yaml:5: unknown key 'repaets'; did you mean 'repeats'?"),
        ("untill: {smaller_than: 1}", "evals/x.yaml:4: unknown key 'untill'; did you mean 'until'?"),
        ("stage: promt", "evals/x.yaml:4: stage must be 'select', 'prompt', 'evaluate', 'fine-tune' or 'ship', not"),
        ("budget: {time: soon}", "evals/x.yaml:4: budget.time must be a time such as 90s, 30m, 2h or 7d, not 'soon'"),
        ("reuse: {max_age: 1.5d}", "evals/x.yaml:4: reuse.max_age must be a time such as 12h or 7d, not '1.5d'"),
        ("margin: true", "evals/x.yaml:4: margin must be a number, not true"),
        ("scorers: [1]", "evals/x.yaml:4: scorers[0] must be a mapping (key: value), not 1"),
        ("seed: x\nblock: y", "evals/x.yaml:4: seed must be a whole number, not 'x' (and 1 more)"),
        ("scorers:\n - latency\n - exakt", "evals/x.yaml:6: unknown scorer 'exakt'; did you mean 'exact'?"),
        ("scorers:\n - {exact: 1, length: 2}", "evals/x.yaml:5: a scorer is NAME, {NAME: {settings}} or {NAME: value}"),
        ("scorers: [exact, exact]", "evals/x.yaml:4: two scorers are named 'exact'; give one another name with"),
        ("scorers: [{json_schema: no.json}]", "evals/x.yaml:4: there is no file 'no.json'"),
        ("scorers: [{json_schema: ../x.json}]", "evals/x.yaml:4: '../x.json' leaves the project folder"),
        ("scorers:\n - exact: {expected: '{{ labl }}'}", "evals/x.yaml:3: case 'ro1-"),
        ("scorers:\n - exact: {expected: '{{ label'}", "evals/x.yaml:4: "),
        ("gates: [{scorer: exact, at_least: 1}]", "evals/x.yaml:4: unknown scorer 'exact'; there is none"),
        ("gates: [{scorer: x}]", "evals/x.yaml:4: gates[0] needs exactly one of at_least, at_most, no_worse_than"),
        ("gates: [{scorer: x, at_most: 1, margin: 1}]", "evals/x.yaml:4: gates[0] gives a margin, which only"),
        ("gates: [{scorer: x, no_worse_than: best}]", "evals/x.yaml:4: gates[0] can be no worse than 'baseline'"),
        (
            "scorers: [exact]\ngates:\n - {scorer: exact, at_least: 1, variant: {model: x}}",
            "evals/x.yaml:6: no variant is so; there are: 'zero'",
        ),
        ("reference: {prompt: few}", "evals/x.yaml:4: the reference must be one variant, but no variant is so: 'zero'"),
        ("params: {a: []}", "evals/x.yaml:4: params.a is an empty list"),
        ("vars: {tone: warm}", "evals/x.yaml:4: no prompt has an input 'tone'; known: text"),
        ("answer: {}", "evals/x.yaml:4: answer needs exactly one of choices, text, schema, grammar"),
        ("answer: {schema: bad.json}", "evals/x.yaml:4: 'bad.json' is not JSON"),
        ("answer: {schema: list.json}", "evals/x.yaml:4: 'list.json' is not a JSON Schema"),
        ("answer: {grammar: no.gbnf}", "evals/x.yaml:4: there is no file 'no.gbnf'"),
        ("answer: {choices: '{{ labels }}'}", "evals/x.yaml:3: case 'ro1-"),
        ("answer: {choices: [yes, 1]}", "evals/x.yaml:4: answer.choices[1] must be text (put it in quotes), not 1"),
    ],
)
def test_bad_keys(project, more, error):
    with pytest.raises(UseError) as caught:
        load(project, GOOD + more)
    assert str(caught.value).startswith(error)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cases: [{text: a}]\n", "evals/x.yaml: names no prompt; add prompts: [NAME]"),
        ("prompts: zero\n", "evals/x.yaml: 'cases' is missing"),
        ("prompts:\n - zero\n - zeor\nmodels: echo\ncases: [{text: a}]", "evals/x.yaml:3: unknown prompt 'zeor'; did"),
        ("prompts: zero\ncases: [{text: a}]", "evals/x.yaml: neither the suite nor prompt 'zero' names a model"),
        ("prompts: zero\nmodels:\n - ehco\ncases: [{text: a}]", "evals/x.yaml:3: unknown model 'ehco'; did you mean"),
        (
            "prompts: zero\nmodels:\n - {use: echo, params: {a: [1]}}\ncases: []",
            "evals/x.yaml:3: models[0] gives a list for 'a': axes stand in the suite's params",
        ),
        (
            "variants:\n - {prompt: zero, model: nix}\ncases: [{text: a}]",
            "evals/x.yaml:2: unknown model 'nix'",
        ),
        (
            "prompts: declared\nmodels: echo\ncases: data.jsonl",
            "data.jsonl:2: case 'r2' has no value for 'text', which prompt 'declared' needs",
        ),
        (
            "prompts: zero\nmodels: echo\ncases: [{id: a, txt: b}]",
            "evals/x.yaml:3: case 'a' has no value for 'text', which prompt 'zero' needs; did you mean 'txt'?",
        ),
        (
            "prompts: declared\nmodels: echo\ncases: [{id: a, text: null}]",
            "evals/x.yaml:3: case 'a' has no value for 'text', which prompt 'declared' needs; it is null there",
        ),
        ("prompts: [declared]\nmodels: echo\ncases:\n - {txt: a}", "evals/x.yaml:4: case 'ro1-"),
        ("prompts: declared\nmodels: echo\ncases:\n - {id: 1, text: [a]}", "evals/x.yaml:4: case '1': 'text' is ['a']"),
        ("prompts: declared\nmodels: echo\ncases: [{text: a}]\nvars: {n: many}", "evals/x.yaml:4: vars.n is 'many', w"),
        ("prompts: zero\nmodels: echo\ncases: {file: no.jsonl}", "evals/x.yaml:3: there is no file 'no.jsonl'"),
        ("prompts: zero\nmodels: echo\ncases: []", "evals/x.yaml: holds no cases"),
        ("prompts: zero\nmodels: echo\ncases: {file: a, rows: []}", "evals/x.yaml:3: cases needs one of 'file' and"),
        ("prompts: zero\nmodels: echo\ncases: 5", "evals/x.yaml:3: cases must be a mapping (key: value), not 5"),
    ],
)
def test_bad_suites(project, text, error):
    with pytest.raises(UseError) as caught:
        load(project, text)
    assert str(caught.value).startswith(error)


def test_what_a_prompt_needs_may_come_from_vars_and_defaults(project):
    for name, more in (("toned", "vars: {tone: [plain, warm]}"), ("declared", ""), ("lenient", "")):
        assert load(project, GOOD.replace("zero", name) + more).cases[0].inputs["text"] == "a"


def test_only_must_leave_something(project):
    with pytest.raises(UseError, match=r"evals/x.yaml: no variant has model=x; there are: 'zero'"):
        load(project, GOOD, only={"model": "x"})
    with pytest.raises(UseError, match="no variant has a 'modle'; did you mean 'model'"):
        load(project, GOOD, only={"modle": "x"})


def test_the_schema_refuses_what_the_reader_refuses():
    check = Draft202012Validator(suite_schema())
    assert check.is_valid({"cases": "x.jsonl", "prompts": "a", "models": [{"use": "m"}, "n"]})
    for bad in ({}, {"cases": "x", "repaets": 1}, {"cases": "x", "models": [{"user": "m"}]}, {"cases": 5}):
        assert not check.is_valid(bad)
