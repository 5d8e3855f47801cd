"""OpenAI's evals: a registry becomes suites that ask and compare the same, a suite becomes a registry, and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_interop import run_all

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.prompt import render_prompt
from workbench.define.suite import load_suite
from workbench.errors import UnknownName
from workbench.interop.openai_evals import Options, import_openai_evals
from workbench.interop.openai_evals_write import evals_registry
from workbench.interop.report import Left, Report, write_files
from workbench.records import Suite

BASIC = "evals.elsuite.basic"
MATCH, INCLUDES = f"{BASIC}.match:Match", f"{BASIC}.includes:Includes"
FUZZY, JSON = f"{BASIC}.fuzzy_match:FuzzyMatch", f"{BASIC}.json_match:JsonMatch"
GRADED = "evals.elsuite.modelgraded.classify:ModelBasedClassify"
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say {hi}"}]


def registry(root: Path, kind: str = MATCH, samples=({"input": ASK, "ideal": "Say"},), specs=None, **args) -> Path:
    """A registry with the eval `e`."""
    entry = {"class": kind, "args": {"samples_jsonl": "e/s.jsonl", **args}}
    evals = {"e": {"id": "e.dev.v0", "description": "About e", "metrics": ["accuracy"]}, "e.dev.v0": entry}
    files = {
        "evals/e.yaml": yaml.safe_dump(evals, sort_keys=False),
        "data/e/s.jsonl": "".join(s if isinstance(s, str) else json.dumps(s) + "\n" for s in samples),
        "modelgraded/m.yaml": yaml.safe_dump(specs or {}),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "evals/e.yaml"


def project_of(report: Report, root: Path) -> Path:
    assert not report.refused
    (root / "evals").mkdir(parents=True)
    write_files(report.files, root)
    return root


def suite_of(root: Path, name: str) -> Suite:
    project = load_project(root)
    return load_suite(name, project, Library(project.library_root, project.references))


@pytest.mark.parametrize(
    ("kind", "args", "ideal", "values"),
    [
        (MATCH, {}, "Say {hi", {"starts_with": 1}),
        (MATCH, {}, ["x", "say"], {"starts_with": 0}),
        (MATCH, {"max_tokens": 9}, "{hi}", {"starts_with": 0}),
        (INCLUDES, {}, ["HI", "hi"], {"contains": 1}),
        (INCLUDES, {}, "HI", {"contains": 0}),
        (INCLUDES, {"ignore_case": True}, "HI", {"contains": 1}),
        (FUZZY, {}, "hi", {"fuzzy": 1, "word_f1": pytest.approx(2 / 3)}),
        (FUZZY, {"max_tokens": 5}, ["no"], {"fuzzy": 0, "word_f1": 0}),
        (JSON, {}, '{"a": 1}', {"json_match": 0}),
    ],
)
def test_a_class_asks_and_compares_as_there(tmp_path: Path, kind: str, args, ideal, values) -> None:
    report = import_openai_evals(registry(tmp_path / "r", kind, [{"input": ASK, "ideal": ideal}], **args))
    root = project_of(report, tmp_path / "p")
    (row,) = run_all(root)
    assert row.messages == ASK
    assert row.case_id == "e.dev.0"
    assert {s.scorer: s.value for s in row.scores} == values
    params = dict(suite_of(root, "e").variants[0].params)
    assert params.pop("temperature", None) == (None if kind == INCLUDES else 0)
    most = {FUZZY: args.get("max_tokens", 100), JSON: 512}.get(kind)
    assert params == ({"max_tokens": most} if most else {})


def test_few_shots_go_before_the_last_message(tmp_path: Path) -> None:
    path = registry(tmp_path / "r", few_shot_jsonl="e/few.jsonl", num_few_shot=1)
    example = [
        {"role": "system", "content": "Say ho", "name": "example_user"},
        {"role": "system", "content": "ho", "name": "example_assistant"},
    ]
    lines = [json.dumps({"sample": example}), json.dumps({"sample": ASK})]
    (tmp_path / "r/data/e/few.jsonl").write_text("\n".join(lines))
    report = import_openai_evals(path)
    (row,) = run_all(project_of(report, tmp_path / "p"))
    shown = [{"role": "user", "content": "Say ho"}, {"role": "assistant", "content": "ho"}]
    assert row.messages == [ASK[0], *shown, ASK[1]]
    assert report.count("approximated") == 1


FUN = {
    "prompt": "Is this funny? {completion}\n{input}\nFor: {who}, {note} {{x}} {",
    "choice_strings": ["Yes", "No"],
    "choice_scores": {"Yes": 1.0, "No": 0.0},
    "input_outputs": {"input": "completion"},
}


def test_a_graded_spec_shows_the_judge_what_evals_shows(tmp_path: Path) -> None:
    spec = {**FUN, "prompt": FUN["prompt"].removesuffix(" {")}
    sample = {"input": ASK, "ideal": "", "note": ["a", 1]}
    args = {"modelgraded_spec": "fun", "eval_type": "classify", "modelgraded_spec_args": {"who": "me {{ a }}"}}
    path = registry(tmp_path / "r", GRADED, [sample], {"fun": spec}, **args)
    report = import_openai_evals(path, Options(judge="judge"))
    root = project_of(report, tmp_path / "p")
    judge = {"engine": "echo", "options": {"answers": {"Is this": "Yes, it is."}}}
    (root / "workbench.yaml").write_text(yaml.safe_dump({"models": {"judge": judge}}))
    (row,) = run_all(root)
    assert {s.scorer: s.value for s in row.scores} == {"score": 1, "choice": "Yes"}
    rubric = Library(root / "prompts").get("judges/e")
    given = {**row.inputs, "output": "an {answer}"}
    (message,) = render_prompt(rubric, given)
    assert message.role == "user"
    assert message.text == (
        "Is this funny? an {answer}\nBe brief.\nUser: Say {{hi}}\n\nFor: me {{ a }}, ['a', 1] {x}\n\n"
        'Reply with nothing but the right one of "Yes" or "No", without quotes or punctuation.'
    )
    told = [line.note for line in report.lines if line.fate == "approximated"]
    assert "eval_type classify asks for a choice in words of the workbench's own" in told


@pytest.mark.parametrize(
    ("changes", "args", "score", "choice"),
    [
        ({}, {}, 1, "Yes"),
        ({"choice_scores": {"Yes": 3, "No": -1}}, {}, 3, "Yes"),
        ({"choice_scores": None}, {}, None, "Yes"),
        ({"choice_strings": "12345", "choice_scores": "from_strings"}, {}, 1, "__invalid__"),
        ({}, {"match_fn": "exact"}, 0, "__invalid__"),
        ({}, {"eval_type": "cot_classify"}, 0, "No"),
        ({"eval_type": "cot_classify"}, {}, 0, "No"),
        ({}, {"eval_kwargs": {"max_tokens": 7}, "sample_kwargs": {"max_tokens": 6}}, 1, "Yes"),
    ],
)
def test_a_verdict_is_read_as_there(tmp_path: Path, changes: dict, args: dict, score, choice: str) -> None:
    spec = {**FUN, "prompt": "Funny? {completion}", **changes}
    told = {"modelgraded_spec": "fun", "eval_type": "classify", **args}
    path = registry(tmp_path / "r", GRADED, [{"input": "Say hi"}], {"fun": spec}, **told)
    root = project_of(import_openai_evals(path, Options(judge="judge")), tmp_path / "p")
    judge = {"engine": "echo", "options": {"answers": {"Funny": "Yes it is\nso it is No"}}}
    (root / "workbench.yaml").write_text(yaml.safe_dump({"models": {"judge": judge}}))
    (row,) = run_all(root)
    assert row.messages == [{"role": "system", "content": "Say hi"}]
    wanted = {"choice": choice} if score is None else {"choice": choice, "score": score}
    assert {s.scorer: s.value for s in row.scores} == wanted


OK = {"input": ASK, "ideal": "x"}


@pytest.mark.parametrize(
    ("kind", "samples", "args", "reason"),
    [
        ("evals.elsuite.multiple_choice:MultipleChoice", [OK], {}, "e.yaml:6: the class evals.elsuite.multiple_choice"),
        (MATCH, [OK], {"foo": 1}, "e.yaml:6: 'foo' of the args"),
        (MATCH, [OK], {"samples_jsonl": "no.jsonl"}, "there is no file 'no.jsonl'"),
        (MATCH, [OK], {"samples_jsonl": "../../x.jsonl"}, "leaves the folder"),
        (MATCH, [OK], {"samples_jsonl": "s.csv"}, "no JSONL file"),
        (MATCH, [OK, "{\n"], {}, "s.jsonl:2: it is not JSON"),
        (MATCH, [OK, "[]\n"], {}, "s.jsonl:2: a sample is"),
        (MATCH, ["version https://git-lfs.github.com/spec/v1\n"], {}, "git lfs pull"),
        (MATCH, ["\n"], {}, "it holds no samples"),
        (MATCH, [{"ideal": "x"}], {}, "s.jsonl:1: the sample has no 'input'"),
        (MATCH, [{"input": ASK}], {}, "s.jsonl:1: the sample has no 'ideal'"),
        (MATCH, [{"input": ASK, "ideal": 3}], {}, "neither a text nor a list"),
        (INCLUDES, [{"input": ASK, "ideal": ""}], {}, "'ideal' is empty"),
        (JSON, [{"input": ASK, "ideal": "{"}], {}, "'ideal' is not JSON"),
        (MATCH, [{**OK, "input": 3}], {}, "neither text nor messages"),
        (MATCH, [{**OK, "input": [{"role": "user", "content": [{}]}]}], {}, "a message without text"),
        (MATCH, [{**OK, "input": [{"role": "boss", "content": ""}]}], {}, "the role 'boss'"),
        (MATCH, [{**OK, "input": [{"role": "user", "content": "", "name": "Ann"}]}], {}, "the name 'Ann'"),
        (MATCH, [{**OK, "messages": []}], {}, "'messages', which has a meaning"),
        (MATCH, [{**OK, "input": "x"}], {"num_few_shot": 1, "few_shot_jsonl": "e/s.jsonl"}, "without a list 'sample'"),
        (INCLUDES, [OK], {"ignore_case": "yes"}, "ignore_case"),
        (FUZZY, [OK], {"max_tokens": "9"}, "max_tokens"),
        (GRADED, [OK], {"modelgraded_spec": "no"}, "no modelgraded_spec 'no'"),
        (GRADED, [OK], {"metaeval": True}, "metaeval"),
        (GRADED, [OK], {"multicomp_n": 2}, "several answers"),
        (GRADED, [OK], {"modelgraded_spec": "fun"}, "no eval_type"),
        (GRADED, [OK], {"modelgraded_spec": "fun", "eval_type": "guess"}, "the eval_type 'guess'"),
        (GRADED, [OK], {"modelgraded_spec": "odd", "eval_type": "classify"}, "'{nobody}' in a graded spec"),
        (GRADED, [OK], {"modelgraded_spec": "two", "eval_type": "classify"}, "several answers (input_outputs)"),
        (GRADED, [OK], {"modelgraded_spec": "n", "eval_type": "classify"}, "choice_strings 'from_n'"),
        (GRADED, [{**OK, "completion": "x"}], {"modelgraded_spec": "fun"}, "an answer of its own"),
        (GRADED, [OK], {"modelgraded_spec": "fun", "eval_type": "classify", "sample_kwargs": {"n": 2}}, "'n' of the sampling"),
    ],
)  # fmt: skip
def test_what_can_not_be_carried_over_is_refused_with_its_place(tmp_path, kind, samples, args, reason) -> None:
    plain = {**FUN, "prompt": "{completion}"}
    specs = {
        "fun": plain,
        "odd": {**plain, "prompt": "{completion} {nobody}"},
        "two": {**plain, "input_outputs": {"input1": "completion1", "input2": "completion2"}},
        "n": {**plain, "choice_strings": "from_n"},
    }
    report = import_openai_evals(registry(tmp_path, kind, samples, specs, **args))
    assert reason in report.refused
    assert not report.files


def test_one_eval_of_several_and_a_name_that_is_none(tmp_path: Path) -> None:
    path = registry(tmp_path)
    path.write_text(path.read_text() + "other.s.v0: {class: 'x:Y'}\n")
    assert "the class x:Y of other.s.v0" in import_openai_evals(path).refused
    assert not import_openai_evals(path, Options(eval="e")).refused
    assert not import_openai_evals(path, Options(eval="e.dev.v0")).refused
    with pytest.raises(UnknownName, match="did you mean 'other.s.v0'"):
        import_openai_evals(path, Options(eval="other.s.v1"))


@pytest.mark.parametrize(
    ("match", "value"), [([], 0), (["--match", "includes"], 1), (["--match", "fuzzy"], 1), (["--match", "json"], None)]
)
def test_samples_alone_on_the_command_line(tmp_path: Path, match: list[str], value, capsys) -> None:
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps({"input": ASK[1:], "ideal": "hi", "id": "one"}))
    root = tmp_path / "p"
    done = main(["import", "openai-evals", str(samples), "--out", str(root), *match])
    assert done == (2 if value is None else 0)
    if value is None:
        assert "samples.jsonl:1: 'ideal' is not JSON" in capsys.readouterr().err
        assert not root.exists()
    else:
        (row,) = run_all(root)
        assert (row.case_id, row.scores[0].value) == ("one", value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FILLED = TEXT.filter(bool)
MESSAGE = st.builds(lambda r, t: {"role": r, "content": t}, st.sampled_from(["system", "user", "assistant"]), FILLED)
CASES = st.lists(
    st.fixed_dictionaries(
        {"talk": st.lists(MESSAGE, min_size=1, max_size=3), "ideal": FILLED | st.lists(FILLED, min_size=1, max_size=2)}
    ),
    min_size=1,
    max_size=3,
)
SCORERS = st.sampled_from(
    [
        ["starts_with"],
        [{"contains": {"match": "any"}}],
        [{"contains": {"match": "any", "ignore_case": True}}],
        ["fuzzy", "word_f1"],
        ["starts_with", {"contains": {"match": "any"}}],
    ]
)


@given(cases=CASES, scorers=SCORERS, lead=FILLED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
def test_what_is_exported_is_imported_the_same(tmp_path: Path, cases, scorers, lead: str) -> None:
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    first = tmp_path / "x/first"
    (first / "evals").mkdir(parents=True)
    suite = {"prompts": ["p"], "models": ["echo"], "scorers": scorers, "vars": {"tone": "dry"}}
    suite["cases"] = {"file": "c.jsonl", "expected": "ideal"}
    rows = [{**c, "id": f"c{i}", "lead": lead} for i, c in enumerate(cases)]
    (first / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (first / "evals/s.yaml").write_text(json.dumps(suite))
    (first / "prompts").mkdir()
    head = "---\ninputs: [{name: lead, kind: any}, {name: tone, kind: any}, {name: talk, kind: thread}]\n---\n"
    (first / "prompts/p.prompty").write_text(head + "system:\nSay {{ tone }}{{ lead }}\n{{ talk }}\n")
    before = suite_of(first, "s")
    made = evals_registry(before)
    write_files(made.files, tmp_path / "x/registry")
    report = import_openai_evals(tmp_path / "x/registry/evals/s.yaml")
    back = project_of(report, tmp_path / "x/back")
    found = [suite_of(back, name) for name in made.names]
    assert [(s.scorer, dict(s.settings)) for suite in found for s in suite.scorers] == [
        (s.scorer, dict(s.settings)) for s in before.scorers
    ]
    for after in found:
        assert [(c.id, c.expected) for c in after.cases] == [(c.id, c.expected) for c in before.cases]
        for one, other in zip(before.cases, after.cases, strict=True):
            assert asked(before, one) == asked(after, other)


def asked(suite: Suite, case) -> list:
    (variant,) = suite.variants
    return [m.to_json() for m in render_prompt(suite.prompts[variant.revision], {**case.inputs, **variant.vars})]


@pytest.mark.parametrize(
    ("suite", "reason"),
    [
        ("scorers: []", "it has no scorers"),
        ("scorers: [exact]", "the scorer 'exact' has no class there"),
        ("scorers: [word_f1]", "the scorer 'word_f1'"),
        ("scorers: [{starts_with: {ignore_case: true}}]", "the scorer 'starts_with'"),
        ("scorers: [{contains: Paris}]", "the scorer 'contains'"),
        ("scorers: [contains]\ncases: [{word: a, expected: [a, b]}]", "wants them all"),
        ("scorers: [starts_with]\ncases: [{word: a}]", "has no expected answer"),
        ("scorers: [starts_with]\ncases: [{word: a, expected: ''}]", "expects an empty text"),
        ("scorers: [starts_with]\nanswer: {choices: [a]}", "the form of the answer, choices"),
        ("scorers: [starts_with]\nprompts: [raw]", "prompt 'raw', which is raw text"),
        ("scorers: [starts_with]\nprompts: [tools]", "the tools of prompt 'tools'"),
    ],
)
def test_what_evals_can_not_express_is_refused_by_name(tmp_path: Path, suite: str, reason: str) -> None:
    tool = "{kind: function, name: look, description: d, parameters: {}}"
    files = {
        "prompts/p.prompty": "user:\nSay {{ word }}\n",
        "prompts/raw.prompty": "---\nmodel: {apiType: completion}\n---\nSay {{ word }}\n",
        "prompts/tools.prompty": f"---\ntools: [{tool}]\n---\nuser:\nSay {{{{ word }}}}\n",
        "evals/s.yaml": yaml.safe_dump(
            {"prompts": ["p"], "models": ["echo"], "cases": [{"word": "a", "expected": "a"}], **yaml.safe_load(suite)}
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(Left, match=".*") as caught:
        evals_registry(suite_of(tmp_path, "s"))
    assert reason in str(caught.value)
    assert main(["--project", str(tmp_path), "export", "suite", "s", "--to", "openai-evals"]) == 2
    assert not (tmp_path / "reports").exists()


def test_a_sweep_over_prompts_is_an_eval_for_each(tmp_path: Path, capsys) -> None:
    files = {
        "prompts/a.prompty": "user:\nSay {{ word }}\n",
        "prompts/b.prompty": "user:\nPlease say {{ word }}\n",
        "evals/s.yaml": "prompts: [a, b]\nmodels: [echo]\nparams: {temperature: [0, 1]}\nrepeats: 2\n"
        "cases: [{word: hi, expected: Say}]\nscorers: [starts_with, contains]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["--project", str(tmp_path), "export", "suite", "s", "--to", "openai-evals"]) == 0
    told = capsys.readouterr()
    assert "not part of it: models: echo; parameters: temperature; 2 repeats" in told.err
    made = yaml.safe_load((tmp_path / "reports/s-evals/evals/s.yaml").read_text())
    names = ["s-a-starts_with", "s-a-contains", "s-b-starts_with", "s-b-contains"]
    assert [name for name in made if "." not in name] == names
    assert made["s-b-contains.dev.v0"]["class"] == INCLUDES
    assert main(["--project", str(tmp_path), "export", "suite", "s", "--to", "openai-evals"]) == 2
    assert "exists already" in capsys.readouterr().err
