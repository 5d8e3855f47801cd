"""Scorers that compare as two harnesses do: rows whose values come from the rules in those harnesses' sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ScorerError, SuiteError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers.base import Answered
from workbench.scorers.build import build_scorer
from workbench.scorers.classified import named_choice
from workbench.scorers.matching import json_equal, normalised, word_f1


def judged(scorer: str, settings, text: str, expected, **extra):
    made = build_scorer(ScorerSpec(scorer, scorer, settings), Path(), "evals/x.yaml")
    return made(Answered(Output("r", text, extra=extra), Case("c1", {}, expected), expected))


STRICT = [{"find": r"#### (\-?[0-9\.\,]+)"}]
FLEXIBLE = [{"find": r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "pick": -1}]
GSM8K = {"ignore": [",", r"\$", "(?s).*#### ", r"\.$"], "ignore_case": True}
SOLVED = "She has 2 + 2 = 4.\n#### 1,004"


@pytest.mark.parametrize(
    ("scorer", "settings", "text", "expected", "value"),
    [
        ("starts_with", {}, "Paris, of course", "Paris", 1),
        ("starts_with", {}, " Paris", "Paris", 0),
        ("starts_with", {}, "paris", "Paris", 0),
        ("starts_with", {"ignore_case": True}, "paris", "Paris", 1),
        ("starts_with", {}, "Bonn", ["Berlin", "Bonn"], 1),
        ("starts_with", {}, "Par", "Paris", 0),
        ("fuzzy", {}, "The Eiffel-Tower!", "a eiffeltower", 1),
        ("fuzzy", {}, "It is in Paris.", "paris", 1),
        ("fuzzy", {}, "paris", "Paris, France", 1),
        ("fuzzy", {}, "", "x", 0),
        ("fuzzy", {}, "the", "a", 1),
        ("fuzzy", {}, "Rome", ["Paris", "rome"], 1),
        ("word_f1", {}, "the cat sat", "a cat", 2 / 3),
        ("word_f1", {}, "cat cat", "cat", 2 / 3),
        ("word_f1", {}, "dog", ["cat", "a dog"], 1),
        ("word_f1", {}, "", "cat", 0),
        ("json_match", {}, '{"b": [1, 2.0], "a": "x"}', '{"a": "x", "b": [1.0, 2]}', 1),
        ("json_match", {}, '{"a": 1, "b": 2}', '{"a": 1}', 0),
        ("json_match", {}, "[1, 2]", "[2, 1]", 0),
        ("json_match", {}, '{"a": null}', '{"a": null}', 0),
        ("json_match", {}, "[]", "[]", 1),
        ("json_match", {}, "[]", "{}", 0),
        ("json_match", {}, "2", ["1", "2"], 1),
        ("json_match", {}, '{"a": 1}', {"a": 1}, 1),
        ("json_match", {}, "no", '"no"', 0),
        ("json_match", {}, "[" * 100_000, "[]", 0),
        ("extracted", {"steps": STRICT, **GSM8K}, SOLVED, "2 + 2 = 4\n#### 1004", 1),
        ("extracted", {"steps": FLEXIBLE, **GSM8K}, "so $1,004.", "#### 1004", 1),
        ("extracted", {"steps": STRICT, **GSM8K}, "no number", "#### 1004", 0),
        ("extracted", {"steps": STRICT}, "no number", "[invalid]", 1),
        ("extracted", {"steps": [{"find": "x", "fallback": "none"}]}, "y", "none", 1),
        ("extracted", {"steps": [{"find": "[a-z]", "pick": 1}]}, "ab", "b", 1),
        ("extracted", {"steps": [{"find": "[a-z]", "pick": 2, "fallback": ""}]}, "ab", "", 1),
        ("extracted", {"steps": ["strip", "lower"]}, " Yes ", "yes", 1),
        ("extracted", {"steps": ["upper"]}, "a", "A", 1),
        ("extracted", {"ignore_punctuation": True, "ignore_numbers": True}, "a.b1", "a-b23", 1),
        ("extracted", {}, "yes ", "yes", 0),
        ("extracted", {"ignore_case": True}, "No", ["yes", "nO"], 1),
    ],
)
def test_compared(scorer: str, settings: dict, text: str, expected, value: float) -> None:
    found = judged(scorer, settings, text, expected)
    assert found.value == pytest.approx(value), found.reason


TOLD = [{"text": " a", "logprob": -2.0}, {"text": " abcd", "logprob": -4.0}, {"text": " ééé", "logprob": -3.3}]


@pytest.mark.parametrize(
    ("settings", "likeliest"),
    [({}, "a"), ({"per": "character"}, "abcd"), ({"per": "byte"}, "ééé")],
)
def test_the_likeliest_choice(settings: dict, likeliest: str) -> None:
    for expected in ("a", "abcd", "ééé"):
        found = judged("likeliest", {"lead": " ", **settings}, " a", expected, choices=TOLD)
        assert found.value == float(expected == likeliest), found.reason
    assert judged("likeliest", {"lead": " ", **settings}, " a", ["x", likeliest], choices=TOLD).value == 1


def test_of_equally_likely_choices_the_first_counts() -> None:
    told = [{"text": "b", "logprob": -1.0}, {"text": "a", "logprob": -1.0}]
    assert judged("likeliest", {}, "b", "b", choices=told).value == 1
    assert judged("likeliest", {}, "b", "a", choices=told).value == 0


@pytest.mark.parametrize(
    ("text", "match", "last", "choice"),
    [
        ("Yes", "exact", False, "Yes"),
        ("Yes.\nNo", "exact", False, "Yes"),
        ("Yes.\nNo", "exact", True, "No"),
        ("Reasoning: Yes and No\n\n(B)\n", "starts_or_endswith", True, "B"),
        ("I would say yes", "starts_or_endswith", False, None),
        ("It is Yes indeed", "starts_or_endswith", False, None),
        ("It is Yes indeed", "include", False, None),
        ("Ye", "include", False, "Yes"),
        ("Yes indeed", "endswith", False, None),
        ("", "include", False, None),
        ("Because it is good: Yes", "endswith", True, "Yes"),
    ],
)
def test_the_choice_that_a_judge_names(text: str, match, last: bool, choice: str | None) -> None:
    assert named_choice(text, ["Yes", "No", "B"], match, last) == choice


@pytest.mark.parametrize(
    ("scorer", "settings", "expected", "error"),
    [
        ("starts_with", {}, "", "expects an empty text"),
        ("json_match", {}, "{a}", "which is not JSON"),
        ("likeliest", {}, "z", "'z' is none of the choices"),
        ("extracted", {"steps": [{"find": "("}]}, "x", "is not a regular expression"),
        ("extracted", {"steps": ["trim"]}, "x", "the setting 'steps'[0]"),
        ("extracted", {"steps": [{"find": "a", "group": 1}]}, "x", "has an unknown 'group'"),
        ("likeliest", {"per": "word"}, "x", "the setting 'per'"),
        ("classified", {"rubric": "r", "model": "m", "choices": ["a"]}, "x", "asks a model"),
    ],
)
def test_what_is_wrong_is_told(scorer: str, settings: dict, expected: str, error: str) -> None:
    with pytest.raises((ScorerError, SuiteError), match=".*") as caught:
        judged(scorer, settings, "x", expected, choices=[{"text": "a", "logprob": -1.0}])
    assert error in str(caught.value)


def test_without_log_probabilities_it_is_unscored() -> None:
    assert judged("likeliest", {}, "a", "a").value is None


TREES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(one=TREES, other=TREES)
def test_without_nulls_json_match_is_equality(one, other) -> None:
    assert json_equal(one, other) == (one == other)
    assert json_equal(json.loads(json.dumps(one)), one)


@given(text=st.text(max_size=20), other=st.text(max_size=20))
def test_word_f1_is_a_symmetric_fraction(text: str, other: str) -> None:
    assert 0 <= word_f1(text, other) == word_f1(other, text) <= 1
    assert word_f1(text, text) == (1 if normalised(text) else 0)
