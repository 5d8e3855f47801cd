"""Scorers: real answers in, a value, its kind and a part of the reason out; wrong settings are one clear line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workbench.asking import Desk
from workbench.errors import FileError, ScorerError, SuiteError, UseError, WorkbenchError
from workbench.records import Case, Model, Output, ScorerSpec
from workbench.registry import SCORERS
from workbench.scorers.base import REASON_LIMIT, Answered
from workbench.scorers.build import build_scorer, score_key, setting_fields
from workbench.scorers.choice import find_choice
from workbench.scorers.number import Number, find_number
from workbench.scorers.structure import JsonSchema
from workbench.scorers.text import Exact, Similarity

DOCS = Path(__file__).resolve().parents[1] / "docs" / "scorers.md"
MOODS = ["positive", "negative"]
LETTERS = ["A", "B", "C", "D"]


def answered(text: str, expected=None, inputs=None, **output) -> Answered:
    return Answered(Output("rq1-x", text, **output), Case("c1", inputs or {}, expected), expected)


def built(scorer: str, settings=None, root: Path = Path(), desk=None):
    return build_scorer(ScorerSpec(scorer, scorer, settings or {}), root, "evals/x.yaml", desk)


PASS = [
    # scorer, settings, answer, expected, value, part of the reason
    ("exact", {}, " Paris\n", "Paris", 1, "is ' Paris"),
    ("exact", {"strip": False}, "Paris\n", "Paris", 0, r"is 'Paris\n', expected 'Paris'"),
    ("exact", {}, "paris", "Paris", 0, "expected 'Paris'"),
    ("exact", {"ignore_case": True}, "STRASSE", "Straße", 1, ""),
    ("exact", {}, "cafe\u0301", "café", 1, ""),
    ("exact", {}, "42", 42, 1, ""),
    ("exact", {}, "true", True, 1, ""),
    ("exact", {}, "NYC", ["New York", "NYC"], 1, ""),
    ("exact", {}, "LA", ["New York", "NYC"], 0, "(or 1 others)"),
    ("exact", {}, "", "x", 0, "is ''"),
    ("exact", {}, "\x1b[31mred\u202e", "red", 0, r"\x1b[31mred\u202e"),
    ("contains", {}, "It is Paris.", "Paris", 1, "contains 'Paris'"),
    ("contains", {"value": ["red", "blue"]}, "red and green", None, 0, "lacks 'blue'"),
    ("contains", {"value": ["red", "blue"], "match": "any"}, "red and green", None, 1, "contains 'red'"),
    ("contains", {"value": "ÉTÉ", "ignore_case": True}, "en été", None, 1, ""),
    ("contains", {"value": "Zürich"}, "Zurich", None, 0, "lacks"),
    ("regex", {"value": r"\d{4}"}, "in 1984.", None, 1, "matches at 3: '1984'"),
    ("regex", {"pattern": "[a-z]+", "full": True}, "abc1", None, 0, "no match"),
    ("regex", {"pattern": "[a-z]+", "full": True, "ignore_case": True}, "ABC\n", None, 1, ""),
    ("regex", {"pattern": r"^\p{Han}+$"}, "正面", None, 1, ""),
    ("similarity", {"at_least": 0.5}, "kitten", "sitting", 1, "0.615 like 'sitting', wanted 0.5"),
    ("similarity", {"at_least": 0.7}, "kitten", ["sitting", "mitten"], 1, "0.833 like 'mitten'"),
    ("length", {"value": 5}, "sixsix", None, 0, "6 chars, above 5"),
    ("length", {"unit": "words", "at_least": 3, "at_most": 3}, "one  two\nthree", None, 1, "3 words"),
    ("length", {"at_least": 1}, "", None, 0, "0 chars, below 1"),
    ("json", {}, '{"a": [1, null]}', None, 1, "is JSON"),
    ("json", {}, 'Here:\n```json\n{"a": "```"}\n```\nDone.', None, 1, ""),
    ("json", {}, '```\n[1, 2]', None, 1, ""),
    ("json", {}, '```json {"a": 1}```', None, 1, ""),
    ("json", {"fence": False}, '```json\n{"a": 1}\n```', None, 0, "line 1, column 1"),
    ("json", {}, "{'a': 1}", None, 0, "line 1, column 2, at \"'a': 1}\""),
    ("json", {}, '{"a": 1', None, 0, "at the end"),
    ("json", {}, '{"a": 1} and more', None, 0, "Extra data"),
    ("json", {}, "", None, 0, "empty"),
    ("json", {}, "NaN", None, 0, "NaN is not a JSON value"),
    ("json", {}, "[" * 100_000, None, 0, "not JSON"),
    ("json", {}, "9" * 5000, None, 0, "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("scorer", "settings", "text", "expected", "value", "reason"), PASS)
def test_passes_and_fails(scorer, settings, text, expected, value, reason):
    judgement = built(scorer, settings)(answered(text, expected))
    assert (judgement.value, judgement.kind) == (float(value), "pass")
    assert reason in judgement.reason
    assert len(judgement.reason) <= REASON_LIMIT
    assert judgement.reason.isprintable()


@pytest.mark.parametrize(
    ("scorer", "settings", "output", "value", "kind", "reason"),
    [
        ("length", {}, {}, 5.0, "number", "5 chars"),
        ("length", {"unit": "tokens"}, {"output_tokens": 7}, 7.0, "number", "7 tokens"),
        ("length", {"unit": "tokens"}, {}, None, "number", "unscored"),
        ("length", {"unit": "tokens", "at_most": 3}, {}, None, "pass", "unscored"),
        ("latency", {}, {"seconds": 1.25}, 1.25, "number", "1.25 s"),
        ("latency", {"first_token": True}, {"seconds": 2.0, "first_token_seconds": 0.5}, 0.5, "number", "0.5 s"),
        ("latency", {"value": 1}, {"seconds": 1.25}, 0.0, "pass", "above 1"),
        ("latency", {"at_most": 1.5}, {"seconds": 1.25}, 1.0, "pass", "1.25 s"),
        ("latency", {"at_most": 1.5}, {}, None, "pass", "unscored"),
        ("similarity", {}, {}, 0.9090909090909091, "fraction", "0.909 like 'hello!'"),
        ("similarity", {"ignore_case": True}, {}, 0.9090909090909091, "fraction", ""),
        ("regex", {"pattern": r"^(a|aa)+$"}, {"text": "a" * 60 + "!"}, None, "pass", "unscored: the pattern took over"),
    ],
)
def test_measures(scorer, settings, output, value, kind, reason, monkeypatch):
    monkeypatch.setattr("workbench.scorers.text.PATTERN_SECONDS", 0.05)
    output = {"text": "hello", **output}
    judgement = built(scorer, settings)(answered(output.pop("text"), "hello!", **output))
    assert (judgement.value, judgement.kind) == (value, kind)
    assert reason in judgement.reason


CHOICES = [
    # answer, choices, the one it names (None: unclear or none), how
    ("Positive.", MOODS, "positive", "whole answer"),
    ("**Positive**", MOODS, "positive", "whole answer"),
    ("“positive”\n", MOODS, "positive", "whole answer"),
    ("The sentiment is **negative**", MOODS, "negative", "only one"),
    ("The sentiment of the text is _negative_, I think.", MOODS, "negative", "only one"),
    ("positive or negative?", MOODS, None, "unclear"),
    ("Positive/Negative", MOODS, None, "unclear"),
    ("- positive\n- negative", MOODS, None, "unclear"),
    ("It is both positive and negative.", MOODS, None, "unclear"),
    ("It is hard to say.", MOODS, None, "none of the choices"),
    ("", MOODS, None, "none of the choices"),
    ("not positive", MOODS, None, "only denied"),
    ("This isn't positive at all.", MOODS, None, "only denied"),
    ("non-positive", MOODS, None, "only denied"),
    ("neither positive nor negative", MOODS, None, "only denied"),
    ("Not positive, negative", MOODS, "negative", "only one"),
    ("This is negative, not a positive one.", MOODS, "negative", "only one"),
    ("more positive than negative", MOODS, "positive", "only one"),
    ("not only positive", MOODS, "positive", "only one"),
    ("positiveness", MOODS, None, "none of the choices"),
    ("Positive, because the negative words are ironic.", MOODS, "positive", "opens"),
    ("positive\n\nTweet: I hate it\nSentiment unclear, or negative", MOODS, "positive", "first line"),
    ("Positive words: great. Negative words: slow.\n\n**Negative**", MOODS, "negative", "last line"),
    ("There are positive and negative parts. Final answer: **negative**.", MOODS, "negative", "marked"),
    ("Answer: positive. On reflection, the answer is negative", MOODS, "negative", "marked"),
    ("Answer: positive or negative", MOODS, None, "unclear"),
    ("not positive", [*MOODS, "not positive"], "not positive", "whole answer"),
    ("I would call it not positive.", [*MOODS, "not positive"], "not positive", "only one"),
    ("It was very good", ["good", "very good", "bad"], "very good", "only one"),
    ("It was Very\ngood", ["good", "very good", "bad"], "very good", "only one"),
    ("contact: card arrival", ["card_arrival", "card"], "card_arrival", "only one"),
    ("答案是正面的。", ["正面", "负面"], "正面", "only one"),
    ("不是正面，是负面", ["正面", "负面"], "负面", "only one"),
    ("正面和负面都有", ["正面", "负面"], None, "unclear"),
    ("这是positive的", MOODS, "positive", "only one"),
    ("NÉGATIF", ["positif", "ne\u0301gatif"], "ne\u0301gatif", "whole answer"),
    ("Это положительный отзыв", ["положительный", "отрицательный"], "положительный", "only one"),
    ("B", LETTERS, "B", "whole answer"),
    ("(b)", LETTERS, "B", "whole answer"),
    ("B) Paris", LETTERS, "B", "only one"),
    ("The answer is B.", LETTERS, "B", "only one"),
    ("A good question. It is C.", LETTERS, "C", "only one"),
    ("It is a pity: D", LETTERS, "D", "only one"),
    ("A. Because B is too small.", LETTERS, "A", "opens"),
    ("A or B", LETTERS, None, "unclear"),
    ("C. A $1 ticket for admission to a museum", LETTERS, "C", "only one"),
    ("C. A Gaussian process", LETTERS, "C", "only one"),
    ("C. B cells", LETTERS, "C", "opens"),
    ("A Paris", LETTERS, "A", "only one"),
    ("E. Ben Affleck", LETTERS, None, "none"),
    ("A. Paris\nB. Rome\nC. Oslo", LETTERS, None, "unclear"),
    ("A. Paris\nB. Rome\nAnswer: B", LETTERS, "B", "marked"),
    ("A. DNSlookup\n\nThe correct answer is B. Whois.", LETTERS, "B", "marked"),
    ('The sentiment "negative" is positive.', MOODS, None, "unclear"),
    ("Positive sentiment: positive\nNegative sentiment: negative", MOODS, None, "unclear"),
    (r"D is wrong, so $\boxed{\text{C}}$, while A is odd", LETTERS, "C", "marked"),
    ("Rating: 4/5", ["1", "2", "3", "4", "5"], "4", "only one"),
    ("I give 4 out of 5.", ["1", "2", "3", "4", "5"], "4", "only one"),
    ("14", ["1", "4"], None, "none of the choices"),
    ("1.5", ["1", "5"], None, "none of the choices"),
    ("-1", ["1", "-1"], "-1", "whole answer"),
    ("yes", ["yes", "no"], "yes", "whole answer"),
    ("No, not yes", ["yes", "no"], "no", "only one"),
    ("I know nothing", ["yes", "no"], None, "none of the choices"),
]


@pytest.mark.parametrize(("text", "choices", "found", "how"), CHOICES)
def test_choice_finds(text, choices, found, how):
    name, seen = find_choice(text, choices)
    assert name == found
    assert how in seen


@pytest.mark.parametrize(
    ("settings", "text", "expected", "value", "reason"),
    [
        ({"value": MOODS}, "Positive!", "positive", 1, "positive: the whole answer"),
        ({"choices": MOODS}, "Negative", "Positive", 0, "negative: the whole answer; expected positive; 'Negative'"),
        ({"choices": MOODS}, "dunno", "positive", 0, "none of the choices is named: 'dunno'"),
        ({"choices": MOODS, "ignore_case": False}, "Positive", "positive", 0, "none"),
        ({"choices": [1, 2, 3]}, "I say 2", 2, 1, "2"),
        ({"choices": [1, 2, 3]}, "I say 2", [1, 2], 1, "2"),
        ({"choices": "{{ options }}"}, "the red one", "red", 1, "red"),
    ],
)
def test_choice_judges(settings, text, expected, value, reason):
    judgement = built("choice", settings)(answered(text, expected, {"options": ["red", "blue"]}))
    assert (judgement.value, judgement.kind) == (float(value), "pass")
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", 1234.5), ("−3", -3), ("3/4", 0.75), ("1 1/2 cups", 1.5), (r"\frac{3}{4}", 0.75),
        ("5 - 3", 3), ("the range 3-5", 5), ("10–12", 12), ("x=-5", -5), ("5kg", 5), ("H2O", None), ("v1.2", None),
        ("$-5", -5), ("-$129,025", -129025), ("1\u202f234", 1234), ("1'234", 1234),
        ("1,00,000", 100000), ("50%", 50), ("1.5 × 10^3", 1500), (r"2 \times 10^{-3}", 0.002),
        ("6.02e23", 6.02e23), ("#### 42\nThat took 3 steps", 42), (r"\boxed{1{,}234} as in step 2", 1234),
        ("٤٢", 42), ("４２", 42), ("答案是42。", 42), ("no", None), ("", None), ("forty-two", None), ("4.", 4),
        ("Rs.500", 500), (".5", 0.5), ("+7", 7), ("(3)", 3), ("<<2*3=6>>6", 6),
        ("So 80 / 4 = $<<80/4=20>>20.", 20), ("1e400", float("inf")), ("5/0", float("inf")), ("#### none", None),
    ],
)  # fmt: skip
def test_number_reads(text, value):
    found = find_number(text)
    assert (found and found.value) == value


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        # fractions and percentages
        ("½", 0.5, 0.5), ("2½", 2.5, 2.5), ("2 ½ cups", 2.5, 2.5), ("-½", -0.5, -0.5), ("−2½", -2.5, -2.5),
        ("⅔", 2 / 3, 2 / 3), ("3 1⁄2", 3.5, 3.5), ("½%", 0.5, 0.5), ("50 percent", 50, 50), (r"2\frac{1}{2}", 2.5, 2.5),
        (r"\frac12", 0.5, 0.5), ("-3/4", -0.75, -0.75),
        # powers
        ("10^3", 1000, 1000), ("10**3", 1000, 1000), ("10³", 1000, 1000), ("2^10", 1024, 1024), ("10^{-2}", 0.01, 0.01),
        ("10^(3) km", 1000, 1000), ("10⁻²", 0.01, 0.01), ("-2^2", -4, -4), ("2×10³", 2000, 2000), ("12 m²", 12, 12),
        ("10^30", 1e30, 1e30), ("9^999999", float("inf"), float("inf")), ("0^-1", float("inf"), float("inf")),
        ("1e3", 1000, 1000), ("1E+3", 1000, 1000), ("**10**", 10, 10),
        # other bases
        ("0x10", 16, 16), ("0xfF", 255, 255), ("0o17", 15, 15), ("0b101", 5, 5), ("10x", 10, 10),
        # spaces between thousands
        ("1 000", 1000, 1000), ("$12 345", 12345, 12345), ("1 000 000 km", 1e6, 1e6), ("#### 1 000", 1000, 1000),
        ("1 000.5", 1000.5, 1000.5), ("1 000,5", 1000.5, 1000.5), ("1 500,00 €", 1500, 1500),
        ("in 2020 100 people", 100, 100), ("10 20", 20, 20), ("0 000", 0, 0),
        # the marks of the other convention, where nothing else fits
        ("1.000,5", 1000.5, 1000.5), ("1.000.000", 1e6, 1e6), ("1,000.5", 1000.5, 1000.5), ("1,000,000", 1e6, 1e6),
        ("1.234.567,89", 1234567.89, 1234567.89), ("1,000", 1000, 1), ("1.000", 1, 1000),
        # refused: only a part of something
        ("12,5", None, 12.5), ("2.5", 2.5, None), ("2.5e-3", 0.0025, None), ("1,2,3", None, None), ("1,23,4", None, None),
        ("12/05/2024", None, None), ("2024-05-12", None, None), ("12.05.2024", None, None), ("10:30", None, None),
        ("3:4", None, None), ("1.2.3", None, None), ("3/4/5", None, None), ("x^2", None, None), ("x^{-2}", None, None),
        ("2^x", None, None), ("3/4^2", None, None), ("1e3.5", None, None), ("0xg", None, None), ("√2", None, None),
        (r"3\sqrt{2}", None, None), (r"2\pi", None, None), ("2π", None, None), ("He paid 30 on 12/05/2024.", 30, 30),
        # and as before, what only stands beside
        ("Answer:7", 7, 7), ("5, 6", 6, 6), ("7.", 7, 7), ("7/", 7, 7), ("100-50-25=25", 25, 25), ("5 kg/m³", 5, 5),
    ],
)  # fmt: skip
def test_number_reads_whole_or_not_at_all(text, point, comma):
    for decimal, value in ((".", point), (",", comma)):
        found = find_number(text, decimal)
        assert (found and found.value) == (value and pytest.approx(value, rel=1e-12)), decimal


@pytest.mark.parametrize(
    ("settings", "text", "expected", "value", "reason"),
    [
        ({}, "It is 1,234.50 in all.", 1234.5, 1, "found 1,234.50"),
        ({}, "So x = 41", "The answer:\n#### 42", 0, "found 41, expected 42"),
        ({}, "3.14159", 3.14, 0, "expected 3.14"),
        ({"value": 0.01}, "3.14159", 3.14, 1, ""),
        ({"rel_tol": 0.1}, "95", 100, 1, ""),
        ({}, "50%", 50, 1, ""),
        ({}, "50%", 0.5, 1, ""),
        ({}, "0.5", "50 %", 1, ""),
        ({}, "0.5 %", "50 %", 0, ""),
        ({}, "½", "50 %", 1, ""),
        ({}, "so it is 2½ hours", "2.5", 1, "found 2 1/2"),
        ({}, "0x10", 16, 1, "found 0x10"),
        ({}, "12,5", 5, 0, "no number in '12,5'"),
        ({}, "It is due on 12/05/2024.", 12, 0, "no number"),
        ({"decimal": ","}, "1.234,50 €", 1234.5, 1, ""),
        ({"after": "Answer:"}, "Answer: 7 (see step 3)", 7, 1, ""),
        ({"after": "Answer:"}, "7", 7, 0, "no number after 'Answer:'"),
        ({}, "none", 7, 0, "no number in 'none'"),
        ({}, "1e999", 7, 0, "beyond the range"),
        ({}, "4", [3, 4], 1, ""),
        ({}, "-0", 0, 1, ""),
    ],
)
def test_number_judges(settings, text, expected, value, reason):
    judgement = built("number", settings)(answered(text, expected))
    assert (judgement.value, judgement.kind) == (float(value), "pass")
    assert reason in judgement.reason


PRICE = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}},
}


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ('{"items": [{"price": 1.5}]}', 1, "fits"),
        ('```json\n{"items": []}\n```', 1, "fits"),
        ('{"items": [{"price": 1}, {"price": "x"}]}', 0, "$.items[1].price: 'x' is not of type 'number'"),
        ('{"items": [{}]}', 0, "$.items[0]: 'price' is a required property"),
        ('{"items": "' + "y" * 500 + '"}', 0, "is not of type 'array'"),
        ("[]", 0, "$: [] is not of type 'object'"),
        ("[", 0, "not JSON"),
    ],
)
def test_json_schema(text, value, reason):
    judgement = built("json_schema", {"schema": PRICE})(answered(text))
    assert (judgement.value, judgement.kind) == (float(value), "pass")
    assert reason in judgement.reason
    assert len(judgement.reason) <= REASON_LIMIT


WRONG_SETTINGS = [
    ("exakt", {}, "unknown scorer 'exakt'; did you mean 'exact'?"),
    ("exact", {"ignore_cas": True}, "unknown setting 'ignore_cas'; did you mean 'ignore_case'?"),
    ("exact", {"ignore_case": "yes"}, "setting 'ignore_case' should be a valid boolean, not 'yes'"),
    ("exact", {"value": 1}, "unknown setting 'value'"),
    ("exact", {"version": 2}, "unknown setting 'version'"),
    ("contains", {"value": ""}, "value is empty"),
    ("contains", {"value": ["a", ""]}, "value is empty"),
    ("contains", {"value": ["a", True]}, "'value'[1] should be a valid string, not True; put it in quotes"),
    ("contains", {"value": "a", "match": "some"}, "should be 'all' or 'any'"),
    ("regex", {}, "the setting 'pattern' is missing"),
    ("regex", {"pattern": "(a"}, "is not a regular expression"),
    ("similarity", {"at_least": 80}, "not between 0 and 1"),
    ("length", {"at_least": 5, "at_most": 3}, "no answer can pass"),
    ("length", {"at_most": 1.5}, "should be a valid integer"),
    ("length", {"unit": "lines"}, "should be 'chars', 'words' or 'tokens'"),
    ("latency", {"at_most": 0}, "no time"),
    ("choice", {}, "the setting 'choices' is missing"),
    ("choice", {"choices": ["a"]}, "at least two"),
    ("choice", {"choices": ["a", ""]}, "none of them empty"),
    ("choice", {"choices": ["Good", "good"]}, "'Good' twice, case aside"),
    ("choice", {"choices": [True, False]}, "put it in quotes"),
    ("choice", {"choices": "a, b"}, "give a list"),
    ("number", {"abs_tol": -1}, "must be 0 or more"),
    ("number", {"abs_tol": float("nan")}, "must be 0 or more"),
    ("number", {"decimal": ";"}, "should be '.' or ','"),
    ("number", {"after": ""}, "after is empty"),
    ("json_schema", {}, "'schema' is missing"),
    ("json_schema", {"schema": {"type": "objekt"}}, "the schema is wrong at $.type"),
    ("json_schema", {"schema": {"$ref": "#/$defs/none"}}, "'#/$defs/none' leads nowhere"),
    ("json_schema", {"schema": {"items": {"$ref": "http://127.0.0.1:9/x.json"}}}, "nothing is fetched"),
    ("json_schema", {"schema": "none.json"}, "should be a valid dictionary"),
    ("python", {}, "'function' is missing"),
    ("python", {"function": "scorers.py"}, "must look like"),
    ("python", {"function": "../out.py:f"}, "outside the project"),
    ("python", {"function": "/etc/x.py:f"}, "outside the project"),
    ("python", {"function": "none.py:f"}, "none.py can't be read"),
    ("python", {"function": "x.py:f", "root": "/"}, "unknown setting 'root'"),
]


@pytest.mark.parametrize(("scorer", "settings", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_one_line(scorer, settings, message, tmp_path):
    with pytest.raises(SuiteError, match=re.escape(message)) as caught:
        built(scorer, settings, tmp_path)
    assert str(caught.value).startswith(f"evals/x.yaml: scorer '{scorer}': ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("scorer", "settings", "expected", "message"),
    [
        ("exact", {}, None, "case 'c1' has no expected answer"),
        ("exact", {}, [], "case 'c1' has no expected answer"),
        ("contains", {}, "", "expects an empty text"),
        ("choice", {"choices": MOODS}, "posittive", "'posittive' is none of the choices: positive, negative"),
        ("choice", {"choices": "{{ options }}"}, "x", "its input 'options' holds no list"),
        ("choice", {"choices": "{{ one }}"}, "x", "input 'one': choices needs at least two"),
        ("number", {}, "many", "'many' holds no number"),
        ("number", {}, True, "'true' holds no number"),
        ("json_schema", {"schema": {"$ref": "#"}}, None, "refers to itself without end"),
    ],
)
def test_a_case_that_cannot_be_judged_is_an_error_of_its_own(scorer, settings, expected, message):
    with pytest.raises(ScorerError, match=re.escape(message)):
        built(scorer, settings)(answered("7", expected, {"one": ["x"]}))


CODE = """
from __future__ import annotations
import dataclasses
from workbench.records import Judgement

@dataclasses.dataclass
class Made:
    x: int = 1

def polite(text, inputs, expected): return "please" in text
def share(text, inputs, expected): return 0.25, "a quarter\\nof it"
def count(text, inputs, expected): return len(text)
def mood(text, inputs, expected): return "happy"
def nothing(text, inputs, expected): return None
def full(text, inputs, expected): return Judgement(0.5, "fraction", "half")
def spoils(text, inputs, expected):
    inputs["tags"].append("x")
    return inputs["tags"] == ["t", "x"]
def breaks(text, inputs, expected): return inputs["label"]
def none_number(text, inputs, expected): return float("nan")
def lists(text, inputs, expected): return [1]
def odd(text, inputs, expected): return Judgement(2.0, "pass", "")
def numpy(text, inputs, expected):
    import numpy
    return numpy.bool_(True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "own.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(
    ("function", "kind", "value", "kind_given", "reason"),
    [
        ("polite", None, 1.0, "pass", ""),
        ("share", None, 0.25, "number", r"a quarter\nof it"),
        ("share", "fraction", 0.25, "fraction", ""),
        ("count", None, 6.0, "number", ""),
        ("mood", None, "happy", "label", ""),
        ("nothing", None, None, "number", ""),
        ("nothing", "pass", None, "pass", ""),
        ("full", None, 0.5, "fraction", "half"),
        ("spoils", None, 1.0, "pass", ""),
        ("numpy", None, 1.0, "pass", ""),
    ],
)
def test_python(function, kind, value, kind_given, reason, project):
    scorer = built("python", {"function": f"evals/own.py:{function}", "kind": kind}, project)
    for _ in range(2):
        judgement = scorer(answered("please", inputs={"tags": ["t"]}))
        assert (judgement.value, judgement.kind) == (value, kind_given)
        assert reason in judgement.reason
    assert [p.name for p in (project / "evals").iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("breaks", None, "own.py:19: KeyError: 'label'"),
        ("none_number", None, "returned 'nan', which is no number value"),
        ("lists", None, "returned '[1]', which is no number value"),
        ("odd", None, "returned '2.0', which is no pass value"),
        ("count", "fraction", "returned '6.0', which is no fraction value"),
        ("mood", "pass", "which is no pass value"),
    ],
)
def test_python_that_fails(function, kind, message, project):
    scorer = built("python", {"function": f"evals/own.py:{function}", "kind": kind}, project)
    with pytest.raises(ScorerError, match=re.escape(message)) as caught:
        scorer(answered("please", inputs={"tags": ["t"]}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("def f(:\n", FileError, "own.py:1: SyntaxError"),
        ("import nothing_of_this_name\n", UseError, "own.py:1: ModuleNotFoundError: No module named"),
        ("x = 1\n", FileError, "own.py: there is no function 'f' in this file"),
        ("raise SystemExit(0)\n", UseError, "own.py:1: SystemExit"),
        ("f = 1\n", FileError, "there is no function 'f'"),
    ],
)
def test_python_that_does_not_load(code, error, message, project):
    (project / "evals" / "own.py").write_text(code)
    with pytest.raises(error, match=re.escape(message)):
        built("python", {"function": "evals/own.py:f"}, project)


def test_python_outside_by_a_link_is_refused(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "own.py"
    outside.write_text("def f(*_): return True\n")
    (project / "evals" / "link.py").symlink_to(outside)
    with pytest.raises(SuiteError, match="outside the project"):
        built("python", {"function": "evals/link.py:f"}, project)


def test_python_is_read_anew_and_its_key_follows(project):
    spec = ScorerSpec("p", "python", {"function": "evals/own.py:f"})
    keys, values = [], []
    for code in ("def f(*_): return True\n", "def f(*_): return 1==2\n"):
        (project / "evals" / "own.py").write_text(code)
        scorer = build_scorer(spec, project, None)
        keys.append(score_key(spec, scorer, None))
        values.append(scorer(answered("x")).value)
    assert values == [1.0, 0.0]
    assert keys[0] != keys[1]


def test_key_rests_on_settings_expected_and_scorer_but_not_on_how_they_are_written():
    def key(scorer, settings, expected="x"):
        spec = ScorerSpec("any name", scorer, settings)
        return score_key(spec, build_scorer(spec, Path("/somewhere"), None), expected)

    same = key("contains", {"value": "a"})
    assert same == key("contains", {"value": "a", "match": "all"})
    different = [key("contains", {"value": "b"}), key("contains", {"value": "a"}, "y"), key("regex", {"value": "a"})]
    assert len({same, *different}) == 4
    assert key("length", {"value": 3}) == key("length", {"at_most": 3})


@given(st.text(), st.booleans(), st.booleans())
def test_exact_of_itself(text, ignore_case, strip):
    judgement = Exact(ignore_case, strip)(answered(text, text))
    assert judgement.value == 1.0
    assert judgement.reason.isprintable()


@given(st.text(), st.text())
def test_similarity_is_a_symmetric_fraction(left, right):
    there, back = (Similarity()(answered(a, b)).value for a, b in ((left, right), (right, left)))
    assert there == back
    assert 0 <= there <= 1
    assert Similarity()(answered(left, left)).value == 1.0


@given(st.one_of(st.integers(-(10**15), 10**15), st.floats(-1e12, 1e12)), st.sampled_from([".", ","]))
def test_numbers_come_back(number, decimal):
    text = f"{number:,}" if isinstance(number, int) or "e" not in repr(number) else repr(number)
    if decimal == ",":
        text = text.translate(str.maketrans(",.", ".,"))
    judgement = Number(decimal=decimal, rel_tol=0)(answered(f"So the answer is {text}.", number))
    assert judgement.value == 1.0, judgement.reason


@given(st.text(alphabet="0123456789.,-+/: eE×^%$#<>xA½³√*(){}\n", max_size=60))
def test_number_reads_anything(text):
    find_number(text)
    find_number(text, ",")


@given(st.text(alphabet="AaBb positvenga.,/\n*-不是正面负", max_size=60))
def test_choice_reads_anything(text):
    for choices in (MOODS, LETTERS, ["正面", "负面"]):
        name, _ = find_choice(text, choices)
        assert name is None or name in choices


@given(st.one_of(st.text(), st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps)))
def test_json_schema_takes_any_text(text):
    judgement = JsonSchema(PRICE)(answered(text))
    assert judgement.value in (0.0, 1.0)
    assert judgement.reason.isprintable()
    assert len(judgement.reason) <= REASON_LIMIT


@pytest.mark.parametrize("size", [200_000])
@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        "1",
        "1,",
        "1 000",
        "1.000",
        "1/",
        "1^",
        "½",
        "0x",
        "A ",
        "```",
        "not ",
        "positive",
        "positive\n",
        "Answer: ",
        "{",
    ],
)
def test_a_long_answer_takes_no_time(piece, size):
    text = piece * (size // len(piece))
    find_number(text)
    find_choice(text, MOODS)
    find_choice(text, LETTERS)
    built("json")(answered(text))


def test_number_agrees_with_published_marks(shared):
    """GSM8K's four systems: `number` against the published `is_correct` of each answer."""
    rows = [json.loads(line) for line in (shared / "gsm8k_model_solutions.jsonl").read_text().splitlines()]
    marks = {r["id"]: r for r in map(json.loads, (shared / "gsm8k_model_correct.jsonl").read_text().splitlines())}
    agree = [
        Number()(answered(answer["output"], row["final"])).value == float(marks[row["id"]][system])
        for row in rows
        for system, answer in row["models"].items()
    ]
    assert (sum(agree), len(agree)) == (400, 400)


def test_every_expected_answer_of_the_shared_gsm8k_is_read(shared):
    for line in (shared / "gsm8k.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert Number()(answered(row["answer"], row["final"])).value == 1.0


def desk_of(root: Path) -> Desk:
    """What the docs' examples ask: rubrics and models."""
    shown = {"helpful": "{{ output }}", "better": "{{ first }} {{ second }}", "tone": "{{ output }}"}
    for name, text in {**shown, "relevant": "{{ turns }}"}.items():
        (root / "prompts/judges").mkdir(parents=True, exist_ok=True)
        (root / f"prompts/judges/{name}.prompty").write_text(f"user:\n{text}")
    embeds = {"model": "e", "base_url": "http://127.0.0.1:9/v1", "api": "embeddings"}
    models = {name: Model(name, "echo") for name in ("grader", "referee")}
    return Desk(root, {**models, "embedder": Model("embedder", "openai", embeds)})


def test_docs_name_every_scorer_and_setting_and_their_examples_build(project, monkeypatch):
    for module in ("code", "script"):  # also where there is no bubblewrap
        monkeypatch.setattr(f"workbench.scorers.{module}.sandbox_command", lambda: ())
    text = DOCS.read_text()
    (project / "evals" / "scorers.py").write_text("def polite(*_): return True\n")
    (project / "evals" / "check.py").write_text("def get_assert(output, context): return True\n")
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == [
        name for name in SCORERS.names() if SCORERS.get(name).__module__.startswith("workbench.")
    ]
    for name, section in sections.items():
        for setting in setting_fields(SCORERS.get(name)):
            assert f"`{setting.name}`" in section, (name, setting.name)
        examples = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
        assert examples, name
        for item in (item for example in examples for item in yaml.safe_load(example)):
            used, settings = next(iter(item.items())) if isinstance(item, dict) else (item, {})
            settings = settings if isinstance(settings, dict) else {"value": settings}
            if used == "json_schema" and "value" in settings:  # a suite's file is read by `define`
                settings = {"schema": {}}
            built(used, {k: v for k, v in settings.items() if k != "expected"}, project, desk_of(project))


def test_every_scorer_says_what_it_is():
    for name in SCORERS.names():
        scorer = SCORERS.get(name)
        assert (scorer.__doc__ or "").strip(), name
        assert isinstance(scorer.version, int)
        assert issubclass(ScorerError, WorkbenchError)
