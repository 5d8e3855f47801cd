"""Scorers made of scorers, as a suite writes them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.project import load_project
from workbench.define.suite import load_scorers
from workbench.errors import FileError, ScorerError, SuiteError, UseError
from workbench.records import Case, Output, ScorerSpec
from workbench.registry import SCORERS
from workbench.scorers.base import Answered
from workbench.scorers.build import build_scorer, score_key
from workbench.scorers.parts import filled

LOGPROBS = {"choices": [{"text": "yes", "logprob": -0.1, "tokens": 1}, {"text": "no", "logprob": -3.0, "tokens": 1}]}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern without end is given up soon."""
    monkeypatch.setattr("workbench.scorers.text.PATTERN_SECONDS", 0.05)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    (root / "own.py").write_text("def maybe(text, inputs, expected):\n    return None\ndef mood(*_): return 'glad'\n")
    return load_project(root)


def built(text: str, project):
    """The scorer that an entry of a suite gives."""
    (spec,) = load_scorers(text, project, SCORERS.names())
    return spec, build_scorer(spec, project.root, "evals/x.yaml")


UNKNOWN = "{python: {function: 'own.py:maybe', kind: pass}, as: maybe}"
ROWS = [
    # as a suite writes it, answer, value, kind, part of the reason
    ("all: [{contains: red}, {not: {regex: blue}}]", "red", 1, "pass", "all pass: contains, not"),
    ("all: [{contains: red}, {not: {regex: blue}}]", "red, blue", 0, "pass", "not: not regex: matches at 5: 'blue'"),
    ("all: [{contains: red}, {not: {regex: blue}}]", "green", 0, "pass", "contains: lacks 'red'"),
    ("all: {parts: [exact, {contains: 'e'}]}", "blue", 0, "pass", "exact: is 'blue', expected 'red'"),
    ("any: [exact, {contains: 'e'}]", "blue", 1, "pass", "contains: contains 'e'"),
    ("any: [exact, {contains: 'x', as: ex}]", "blue", 0, "pass", "none passes: exact, ex"),
    ("not: exact", "red", 0, "pass", "not exact: is 'red'"),
    ("not: {exact: {ignore_case: true}}", "RED", 0, "pass", ""),
    ("not: {score: {exact: {ignore_case: true}}}", "blue", 1, "pass", ""),
    ("not: {contains: {value: [a, b], match: any}, as: letters}", "cab", 0, "pass", "not letters"),
    ("not: {not: {not: {contains: red}}}", "red", 0, "pass", "not not: not not: not contains"),
    (f"all: [{UNKNOWN}, {{contains: red}}]", "green", 0, "pass", "contains: lacks"),
    (f"all: [{UNKNOWN}, {{contains: red}}]", "red", None, "pass", "maybe: "),
    (f"any: [{UNKNOWN}, {{contains: red}}]", "red", 1, "pass", "contains"),
    (f"any: [{UNKNOWN}, {{contains: red}}]", "green", None, "pass", "maybe: "),
    (f"not: {UNKNOWN}", "x", None, "pass", "not maybe"),
    ("weighted: {parts: [{score: exact, weight: 2}, {score: {contains: blue}}]}", "red", 2 / 3, "fraction", "0.667 = 2 × 1 exact + 1 × 0 contains"),
    ("weighted: [{score: exact, weight: 2.0}, {score: similarity}]", "red", 1, "fraction", ""),
    ("weighted: {parts: [{score: similarity, weight: 0.5}], at_least: 0.9}", "bed", 0, "pass", "wanted 0.9"),
    (f"weighted: [{{score: exact}}, {{score: {UNKNOWN}}}]", "red", None, "fraction", "maybe: "),
    ("threshold: {score: similarity, at_least: 0.6}", "bed", 1, "pass", "similarity 0.6667"),
    ("threshold: {score: {similarity: {ignore_case: true}}, at_least: 0.7}", "BED", 0, "pass", "similarity 0.6667, below 0.7"),
    ("threshold: {score: {length: {unit: words}}, at_most: 2}", "a b c", 0, "pass", "length 3, above 2: 3 words"),
    ("threshold: {score: {length: {unit: tokens}}, at_most: 2}", "a", None, "pass", "length: unscored"),
    ("threshold: {score: {calibration: {expected: 'yes'}}, at_most: 0.5}", "yes", 1, "pass", "calibration 0.00544"),
    ("only_if: {when: {contains: blue}, then: exact}", "red", None, "pass", "unscored, for contains: lacks 'blue'"),
    ("only_if: {when: {contains: red}, then: similarity}", "red", 1, "fraction", "1.000 like 'red'"),
    (f"only_if: {{when: {UNKNOWN}, then: exact}}", "red", None, "pass", "unscored"),
    ("all: [{exact: {expected: '{{ other }}'}}]", "green", 1, "pass", ""),
    ("all: [{exact: {expected: '{{ other }}!'}}, {not: {exact: {}}}]", "green!", 1, "pass", ""),
    ("all: {parts: [exact], expected: '{{ other }}'}", "green", 1, "pass", ""),
    ("all: [{json_schema: {schema: {type: object}}}]", "[1]", 0, "pass", "json_schema: $: [1] is not of type 'object'"),
]  # fmt: skip


TOO_LONG = "{regex: '^(a|aa)+$'}"
SILENT = "{only_if: {when: {contains: blue}, then: exact}}"
STUCK = "a" * 60 + "!"


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (f"all: [{TOO_LONG}]", True),
        (f"all: [{SILENT}]", False),
        (f"all: [{SILENT}, {TOO_LONG}]", True),
        (f"any: [{TOO_LONG}, {SILENT}]", True),
        (f"not: {TOO_LONG}", True),
        (f"not: {SILENT}", False),
        (f"weighted: [{{score: {TOO_LONG}}}]", True),
        (f"weighted: [{{score: {SILENT}}}]", False),
        (f"threshold: {{score: {TOO_LONG}, at_least: 1}}", True),
        (f"threshold: {{score: {SILENT}, at_least: 1}}", False),
        (f"only_if: {{when: {TOO_LONG}, then: exact}}", True),
        (f"only_if: {{when: {SILENT}, then: exact}}", False),
        (f"only_if: {{when: {{contains: a}}, then: {TOO_LONG}}}", True),
    ],
)
def test_what_could_not_be_judged_is_not_what_nobody_has_a_say_of(text, failed, project):
    _, scorer = built(text, project)
    judgement = scorer(Answered(Output("rq1-x", STUCK), Case("c1", {}, "red"), "red"))
    assert (judgement.value, judgement.failed) == (None, failed), judgement.reason


@pytest.mark.parametrize(("text", "answer", "value", "kind", "reason"), ROWS)
def test_combinations(text, answer, value, kind, reason, project):
    spec, scorer = built(text, project)
    case = Case("c1", {"other": "green"}, "red")
    expected = case.inputs["other"] if spec.expected else "red"
    judgement = scorer(Answered(Output("rq1-x", answer, extra=LOGPROBS), case, expected))
    assert judgement.kind == kind
    assert judgement.value == (None if value is None else pytest.approx(value)), judgement.reason
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("all: []", "scorer 'all': parts is empty"),
        ("all: exact", "the setting 'parts' should be a valid list"),
        ("all: [{exact: {}, regex: x}]", "is no scorer; a part is NAME, {NAME: value} or {NAME: {settings}}"),
        ("all: [{}]", "is no scorer"),
        ("all: [7]", "'7' is no scorer"),
        ("any: [exakt]", "unknown scorer 'exakt'; did you mean 'exact'?"),
        ("any: [{regex: '('}]", "scorer 'any': part 'regex': pattern '(' is not a regular expression"),
        ("any: [{regex: {patern: a}}]", "part 'regex': unknown setting 'patern'; did you mean 'pattern'?"),
        ("not: {all: [{not: {length: {unit: lines}, as: size}}]}", "part 'all': part 'not': part 'size': the setting 'unit'"),
        ("not:", "the setting 'score' is missing"),
        ("not: {score: exact, at_most: 1}", "unknown setting 'at_most'"),
        ("not: {exact: {expected: '{{ a | upper }}'}}", "only '{{ name }}', for an input of the case"),
        ("not: {exact: {expected: 7}}", "the expected answer of part 'exact' is '7'"),
        ("weighted: [exact]", "the setting 'parts'[0]"),
        ("weighted: [{weight: 1}]", "the setting 'parts'[0] lacks 'score'"),
        ("weighted: [{score: exact, wieght: 1}]", "the setting 'parts'[0] has an unknown 'wieght'"),
        ("weighted: [{score: exact, weight: 0}]", "the weight of 'exact' must be above 0"),
        ("weighted: {parts: [{score: exact}], at_least: 70}", "not between 0 and 1"),
        ("threshold: {score: length}", "threshold needs at_least, at_most or both"),
        ("threshold: {score: length, at_least: 3, at_most: 2}", "no answer can pass"),
        ("threshold: {at_least: 3}", "the setting 'score' is missing"),
        ("only_if: {when: exact}", "the setting 'then' is missing"),
        ("all: [{python: 'none.py:f'}]", "none.py can't be read"),
    ],
)  # fmt: skip
def test_what_is_written_wrong(text, message, project):
    with pytest.raises(SuiteError, match=re.escape(message)) as caught:
        built(text, project)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("evals/x.yaml: scorer '")


def test_a_part_of_a_project_names_its_file(project):
    with pytest.raises(FileError, match="there is no function 'nothing' in this file"):
        built("not: {python: 'own.py:nothing'}", project)


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("all: [similarity]", "red", "part 'similarity' gives a fraction, not pass or fail"),
        (
            "not: length",
            "red",
            "part 'length' gives a number, not pass or fail; set its bound, or put it in 'threshold'",
        ),
        ("weighted: [{score: length}]", "red", "part 'length' gives a number, not a fraction"),
        ("threshold: {score: {python: 'own.py:mood'}, at_least: 1}", "red", "gives a label, which has no threshold"),
        ("any: [{not: exact}]", None, "part 'not': part 'exact': case 'c1' has no expected answer"),
        ("all: [{exact: {expected: '{{ nothing }}'}}]", "red", "part 'exact': case 'c1' has no input 'nothing'"),
    ],
)
def test_what_cannot_be_judged(text, expected, message, project):
    _, scorer = built(text, project)
    with pytest.raises(ScorerError, match=re.escape(message)):
        scorer(Answered(Output("rq1-x", "x"), Case("c1", {}, expected), expected))


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("all: [{contains: a}, {regex: b}]", False),
        ("all: [{contains: a}, exact]", True),
        ("any: [contains]", True),
        ("not: {any: [{regex: b}]}", False),
        ("not: {exact: {expected: '{{ x }}'}}", False),
        ("weighted: [{score: similarity}]", True),
        ("threshold: {score: length, at_most: 5}", False),
        ("only_if: {when: {regex: a}, then: exact}", True),
        ("only_if: {when: {regex: a}, then: json}", False),
    ],
)
def test_needs_expected_follows_the_parts(text, needs, project):
    assert built(text, project)[1].needs_expected is needs


def test_key_follows_the_parts(project):
    def key(text, expected="x"):
        return score_key(*built(text, project), expected)

    same = key("all: [{contains: a}, {not: {regex: b}}]")
    assert same == key("all: {parts: [{contains: {value: a, match: all}, as: other}, {not: {score: {regex: b}}}]}")
    others = [
        "all: [{contains: a}, {not: {regex: c}}]",
        "all: [{contains: a}, {regex: b}]",
        "all: [{not: {regex: b}}, {contains: a}]",
        "any: [{contains: a}, {not: {regex: b}}]",
        "all: [{contains: a}, {not: {regex: {pattern: b, full: true}}}]",
        "all: [{contains: {value: a, expected: e}}, {not: {regex: b}}]",
    ]
    keys = {key(text) for text in others} | {same, key("all: [{contains: a}, {not: {regex: b}}]", "y")}
    assert len(keys) == len(others) + 2
    weights = [f"weighted: [{{score: exact, weight: {w}}}, {{score: {{python: 'own.py:mood'}}}}]" for w in (1, 2)]
    before = [key(text) for text in weights]
    (project.root / "own.py").write_text((project.root / "own.py").read_text() + "\n")
    assert len({*before, *map(key, weights)}) == 4


def test_keys_of_plain_scorers_are_as_they_were():
    spec = ScorerSpec("c", "contains", {"value": ["a", "b"]})
    assert score_key(spec, build_scorer(spec, Path(), None), "x") == "sk1-92deb2e7b6e264ce93a7f27849371c93"


VALUES = (True, False, None)


@given(st.lists(st.sampled_from(VALUES), min_size=1, max_size=4))
def test_three_valued_logic(values):
    """`all` is the least of false < unknown < true, `any` the greatest; De Morgan holds."""
    rank = {False: 0, None: 1, True: 2}
    parts = [
        {True: {"contains": "a"}, False: {"contains": "z"}, None: {"length": {"unit": "tokens", "at_most": 1}}}[v]
        for v in values
    ]

    def verdict(name, inner):
        scorer = build_scorer(ScorerSpec(name, name, {"value": inner}), Path(), None)
        value = scorer(Answered(Output("rq1-x", "a"), Case("c1", {}), None)).value
        return None if value is None else bool(value)

    assert verdict("all", parts) == min(values, key=rank.__getitem__)
    assert verdict("any", parts) == max(values, key=rank.__getitem__)
    assert verdict("not", {"all": parts}) == verdict("any", [{"not": part} for part in parts])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("{{ n }}", 5),
        (" {{n}} ", 5),
        ("n = {{ n }}", "n = 5"),
        ("{{ l }}", [1]),
        ("{{ l }}, {{ n }}", "[1], 5"),
        ("x", "x"),
        ("", ""),
    ],
)
def test_settings_are_filled(setting, value):
    assert filled(setting, Case("c", {"n": 5, "l": [1]})) == value


def test_weights_keep_the_mean_within_its_parts():
    for weights in itertools.product([0.1, 1, 3.5], repeat=2):
        parts = [{"score": {"contains": "a"}, "weight": weights[0]}, {"score": {"contains": "z"}, "weight": weights[1]}]
        scorer = build_scorer(
            ScorerSpec("w", "weighted", {"parts": yaml.safe_load(yaml.safe_dump(parts))}), Path(), None
        )
        value = scorer(Answered(Output("rq1-x", "a"), Case("c1", {}), None)).value
        assert value == pytest.approx(weights[0] / sum(weights))


def test_a_shorthand_that_is_no_part_is_left_alone():
    with pytest.raises(UseError, match="unknown setting 'regex'"):
        build_scorer(ScorerSpec("l", "length", {"regex": "a"}), Path(), None)
