"""A suite's file as a form and back: nothing is lost that nobody touched, and what is written is what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.project import Project, load_project
from workbench.define.suite_form import (
    NEW,
    GateFields,
    ScorerFields,
    SuiteForm,
    axis_text,
    axis_values,
    check_suite,
    read_form,
    save_suite,
    suite_text,
    with_form,
)
from workbench.define.yamlfile import parse_yaml, write_yaml
from workbench.errors import UseError, WorkbenchError

SUITE = """\
# What is asked of the reviews.
# Two lines.
name: reviews
prompts: [zero, few@production]
models: [echo, 'openai:x', {use: 'openai:gpt-5-mini', without: [temperature]}]
params: {temperature: [0, 0.7], stop: [a, b], max_tokens: 8}
vars: {tone: [plain, warm]}
until: {smaller_than: 0.03}
cases: {file: data/r.jsonl, expected: label, limit: 5, inputs: {text: body}, where: {lang: en}}
scorers:
  - choice: {choices: [positive, negative], expected: '{{ label }}'}
    as: right
  - length: 80  # characters
  - latency
gates:
  - {scorer: right, at_least: 0.8, confidence: 0.9}
  - {scorer: right, no_worse_than: baseline, margin: 0.02}
  - {latency: {p95: 2}}
budget: {cost: 2.5, time: 30m, tokens: 1000}
"""
FORM = SuiteForm(
    prompts=("zero", "few@production"),
    models=("echo", "openai:x", "{use: 'openai:gpt-5-mini', without: [temperature]}"),
    params=(("temperature", "0, 0.7"), ("stop", "[a, b]"), ("max_tokens", "8")),
    vars=(("tone", "plain, warm"),),
    file="data/r.jsonl",
    expected="label",
    limit=5,
    inputs=(("text", "body"),),
    scorers=(
        ScorerFields("choice", "right", (("choices", "[positive, negative]"), ("expected", "'{{ label }}'"))),
        ScorerFields("length", "", (("value", "80"),)),
        ScorerFields("latency"),
    ),
    gates=(
        GateFields("right", "at_least", "0.8", "confidence: 0.9"),
        GateFields("right", "no_worse_than", "baseline", "margin: 0.02"),
        GateFields("latency", "p95", "2"),
    ),
    cost=2.5,
    time="30m",
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "prompts").mkdir()
    return load_project(tmp_path)


def data(text: str = SUITE) -> dict[str, Any]:
    return dict(parse_yaml(text, "x").data)


def test_a_suite_as_a_form() -> None:
    assert read_form(data()) == FORM


def test_all_fields_written_are_the_fields_read() -> None:
    assert read_form(with_form({}, read_form({}), FORM)) == FORM


def test_what_nobody_touched_stays() -> None:
    form = read_form(data())
    changed = with_form(data(), form, replace(form, repeats=3, cost=None, expected="", file="data/other.csv"))
    told = data()
    assert changed.pop("repeats") == 3
    assert changed.pop("budget") == {"time": "30m", "tokens": 1000} and told.pop("budget")
    cases = told.pop("cases")
    del cases["expected"]
    assert changed.pop("cases") == {**cases, "file": "data/other.csv"}
    assert changed == told


def test_the_text_keeps_the_comments_at_its_top() -> None:
    text = suite_text(data(), SUITE)
    assert text.startswith("# What is asked of the reviews.\n# Two lines.\nname: reviews\n")
    assert data(text) == data()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
    | st.sampled_from(["no", "1e-3", "0x1F", "<<", "=", "~", "2024-01-01", "1_000", ".5", "- a", "a: b", "#x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("<<"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "on", "1", "<<", "x y"]), json_values, min_size=1), st.booleans())
def test_what_is_written_is_what_is_read(value: dict[str, Any], flow: bool) -> None:
    try:
        text = write_yaml(value, flow=flow)
        text.encode()
    except UnicodeEncodeError:
        return
    assert parse_yaml(text, "x").data == value


@given(st.lists(st.integers(-99, 99) | st.floats(-9, 9) | st.sampled_from(["a", "on", "a, b", "0..1"]), min_size=1))
def test_an_axis_is_typed_as_it_is_shown(values: list[Any]) -> None:
    shown = axis_text("top_p", values)
    assert axis_values(shown, "x") == (values[0] if len(values) == 1 else values)


@pytest.mark.parametrize(
    ("text", "values", "error"),
    [
        ("0, 0.7", [0, 0.7], None),
        ("8", 8, None),
        ("0..1 step 0.25", [0, 0.25, 0.5, 0.75, 1], None),
        ("1..4", [1, 2, 3, 4], None),
        ("0...0.3 step 0.1", [0, 0.1, 0.2, 0.3], None),
        ("[a, b]", ["a", "b"], None),
        ("[a, b], [c]", [["a", "b"], ["c"]], None),
        ("", None, "t has no value"),
        ("1..1.2.3", None, "is no range"),
        ("2..1", None, "has 0 values"),
        ("0..1 step 0.001", None, "has 1001 values"),
        ("0..1 step 0", None, "has 0 values"),
        ("a: [", None, "t: "),
    ],
)
def test_values_of_an_axis(text: str, values: Any, error: str | None) -> None:
    if error is None:
        assert axis_values(text, "t") == values
        return
    with pytest.raises(WorkbenchError, match=error):
        axis_values(text, "t")


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (SuiteForm(gates=(GateFields("right", "", "1"),)), "is not complete"),
        (SuiteForm(gates=(GateFields("right", "at_least", "1", "margin"),)), "the gate about 'right'"),
        (SuiteForm(scorers=(ScorerFields("choice", "", (("choices", "[a"),)),)), "scorer 'choice', choices"),
        (SuiteForm(params=(("temperature", ""),)), "params.temperature has no value"),
        (SuiteForm(params=(("temperature", "'a"),)), "params.temperature: ''a' must be values with commas"),
        (SuiteForm(params=(("temperature", "a: b: c"),)), "params.temperature: 'a: b: c' must be values with"),
        (
            SuiteForm(gates=(GateFields("right", "at_least", "1", "'m"),)),
            "the gate about 'right': ''m' must be keys with",
        ),
    ],
)
def test_a_field_that_is_no_value(new: SuiteForm, error: str) -> None:
    with pytest.raises(WorkbenchError, match=error):
        with_form({}, SuiteForm(), new)


@given(st.text(""" a1:,#'"-&*!%@`|>?\\~<\t""", max_size=6))
def test_no_bracket_is_complained_of_that_nobody_wrote(text: str) -> None:
    scorer = ScorerFields("choice", "", (("choices", text),))
    for new in (
        SuiteForm(params=(("top_p", text),)),
        SuiteForm(scorers=(scorer,)),
        SuiteForm(gates=(GateFields("right", "at_least", "1", text),)),
        SuiteForm(gates=(GateFields("right", "at_least", text),)),
        SuiteForm(time=text),
    ):
        try:
            with_form({}, SuiteForm(), new)
        except WorkbenchError as error:
            assert not set("[]{}") & set(str(error))


def test_rows_in_the_suite_give_way_to_a_file() -> None:
    told = {"cases": [{"id": "a"}]}
    form = read_form(told)
    assert form.file == "" and with_form(told, form, replace(form, limit=3))["cases"] == {
        "rows": [{"id": "a"}],
        "limit": 3,
    }
    assert with_form(told, form, replace(form, file="x.csv"))["cases"] == "x.csv"


def test_saving(project: Project) -> None:
    assert save_suite(project, "new/reviews", SUITE, None) == "evals/new/reviews.yaml"
    path = project.root / "evals/new/reviews.yaml"
    assert path.read_text("utf-8") == SUITE
    save_suite(project, "new/reviews", NEW, SUITE)
    assert path.read_text("utf-8") == NEW and [p.name for p in path.parent.iterdir()] == ["reviews.yaml"]


@pytest.mark.parametrize(
    ("name", "text", "was", "error"),
    [
        ("there", NEW, None, "there is a suite 'there' already"),
        ("there", NEW, "other", "was changed by someone else"),
        ("gone", NEW, "other", "was changed by someone else"),
        ("../up", NEW, None, "is no name for a suite"),
        ("a/../../b", NEW, None, "is no name for a suite"),
        ("x.yaml", NEW, None, "is no name for a suite"),
        ("--help", NEW, None, "is no name for a suite"),
        ("", NEW, None, "is no name for a suite"),
        ("linked", NEW, NEW, "is reached by a link"),
        ("folder/x", NEW, None, "is reached by a link"),
        ("new", "cases: []\nscorrers: []\n", None, "evals/new.yaml:2: unknown key 'scorrers'"),
        ("new", "a: [", None, "evals/new.yaml:"),
    ],
)
def test_what_is_not_saved(
    project: Project, tmp_path_factory, name: str, text: str, was: str | None, error: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "target.yaml").write_text(NEW, "utf-8")
    evals = project.root / "evals"
    evals.mkdir()
    (evals / "there.yaml").write_text(NEW, "utf-8")
    (evals / "linked.yaml").symlink_to(outside / "target.yaml")
    (evals / "folder").symlink_to(outside)
    before = {p: p.read_bytes() for p in [*evals.glob("*.yaml"), *outside.iterdir()]}
    with pytest.raises(UseError, match=error):
        save_suite(project, name, text, was)
    assert {p: p.read_bytes() for p in [*evals.glob("*.yaml"), *outside.iterdir()]} == before


def test_a_new_suite_is_one() -> None:
    assert check_suite(NEW, "x").data["stage"] == "prompt"
