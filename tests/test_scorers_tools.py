"""Tool calls against the wanted ones."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ScorerError, SuiteError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers.base import REASON_LIMIT, Answered
from workbench.scorers.build import build_scorer
from workbench.scorers.tools import difference


def judged(settings, found, expected=None):
    scorer = build_scorer(ScorerSpec("t", "tool_calls", settings), Path(), "evals/x.yaml")
    judgement = scorer(Answered(Output("rq1-x", tool_calls=tuple(found)), Case("c1", {}, expected), expected))
    assert judgement.kind == "pass"
    assert len(judgement.reason) <= REASON_LIMIT
    return judgement


def openai(name, **arguments):
    """A call as chat completions give it."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": "call_1", "type": "function", "function": function}


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


PARIS = call("weather", city="Paris")
ROME = call("weather", city="Rome")
TIME = call("time", zone="CET")
NESTED = call("order", items=[{"id": 1, "n": 2}, {"id": 2, "n": 1}], to={"zip": "10115"})

ROWS = [
    # settings, the answer's calls, the expected, value, part of the reason
    ({}, [openai("weather", city="Paris")], [PARIS], 1, "calls weather"),
    ({}, [openai("weather", city="Paris")], PARIS, 1, ""),
    ({}, [PARIS], [openai("weather", city="Paris")], 1, ""),
    ({}, [openai("weather", city="Rome")], [PARIS], 0, 'call 1: weather: city is \'"Rome"\', wanted \'"Paris"\''),
    ({}, [openai("wether", city="Paris")], [PARIS], 0, "call 1: 'wether' is called, wanted 'weather'"),
    ({}, [openai("weather")], [PARIS], 0, "weather: city is missing"),
    ({}, [openai("weather", city="Paris", unit="C")], [PARIS], 0, "weather: unit is not wanted"),
    ({"arguments": "subset"}, [openai("weather", city="Paris", unit="C")], [PARIS], 1, ""),
    ({"arguments": "ignore"}, [openai("weather", town="Rome")], [PARIS], 1, ""),
    ({}, [], [PARIS], 0, "calls no tool; wanted weather"),
    ({}, [PARIS, ROME], [PARIS], 0, "calls weather, weather; wanted weather"),
    ({}, [PARIS], [PARIS, PARIS], 0, "calls weather; wanted weather, weather"),
    ({}, [ROME, PARIS], [PARIS, ROME], 1, ""),
    ({"order": "exact"}, [ROME, PARIS], [PARIS, ROME], 0, "call 1: weather: city is"),
    ({"order": "exact"}, [PARIS, TIME], [PARIS, TIME], 1, "calls weather, time"),
    ({}, [TIME, ROME], [PARIS, TIME], 0, "weather: city is"),
    ({}, [call("f", n=1.0)], [call("f", n=1)], 1, ""),
    ({}, [call("f", n=True)], [call("f", n=1)], 0, "n is 'true', wanted '1'"),
    ({}, [call("f", n="1")], [call("f", n=1)], 0, ""),
    ({}, [NESTED], [NESTED], 1, ""),
    ({}, [call("order", items=[{"id": 1, "n": 2}, {"id": 2, "n": 3}], to={"zip": "10115"})], [NESTED], 0, "order: items[1].n is '3', wanted '1'"),
    ({}, [call("order", items=[], to={"zip": "10115"})], [NESTED], 0, "items has 0 items, wanted 2"),
    ({}, [call("order", items=NESTED["arguments"]["items"], to={})], [NESTED], 0, "to.zip is missing"),
    ({}, [{"function": {"name": "f", "arguments": "{broken"}}], ["f"], 0, "the arguments are no JSON mapping: '\"{broken\"'"),
    ({}, [{"function": {"name": "f", "arguments": ""}}], ["f"], 1, ""),
    ({}, [{"function": {"name": "f", "arguments": None}}], ["f"], 1, ""),
    ({}, [{"oops": 1}], ["f"], 0, "is no tool call"),
    ({"value": []}, [], None, 1, "calls no tool"),
    ({"value": []}, [PARIS], None, 0, "calls weather; wanted no call"),
    ({"calls": ["weather"], "arguments": "ignore"}, [PARIS], None, 1, ""),
    # the first fit would leave the second wanted call without one
    ({"arguments": "subset"}, [call("f", a=1, b=2), call("f", a=1)], [call("f", a=1), call("f", a=1, b=2)], 1, ""),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "found", "expected", "value", "reason"), ROWS)
def test_tool_calls(settings, found, expected, value, reason):
    judgement = judged(settings, found, expected)
    assert judgement.value == float(value), judgement.reason
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("settings", "error", "expected", "message"),
    [
        ({}, ScorerError, None, "the expected answer is no list of tool calls"),
        ({}, ScorerError, [{"arguments": {}}], "is no tool call; it needs a name and arguments"),
        ({"calls": [{"arguments": {}}]}, SuiteError, None, "calls: '{\"arguments\": {}}' is no tool call"),
        ({"order": "some"}, SuiteError, None, "should be 'any' or 'exact'"),
        ({"arguments": "most"}, SuiteError, None, "should be 'exact', 'subset' or 'ignore'"),
    ],
)
def test_what_is_wrong(settings, error, expected, message):
    with pytest.raises(error, match=re.escape(message)):
        judged(settings, [], expected)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.builds(call, st.sampled_from("fgh"), a=VALUES, b=VALUES), max_size=5)


@given(CALLS, st.randoms(use_true_random=False))
def test_calls_in_any_order_equal_themselves(calls, order: random.Random):
    shuffled = [openai(c["name"], **c["arguments"]) for c in order.sample(calls, len(calls))]
    assert judged({"calls": calls}, shuffled).value == 1.0
    assert judged({"calls": calls, "order": "exact"}, calls).value == 1.0
    if calls:
        assert judged({"calls": calls}, shuffled[1:]).value == 0.0


@given(VALUES, VALUES)
def test_difference_is_none_for_equal_values_only(left, right):
    assert difference(left, left, part=False) is None
    assert (difference(left, right, part=False) is None) == (difference(right, left, part=False) is None)
