"""Language, readability, XML and SQL: tables of real answers, hostile ones among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench.scorers.language as language
from workbench.errors import SuiteError, UseError, WorkbenchError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers.base import REASON_LIMIT, Answered
from workbench.scorers.build import build_scorer

GERMAN = "Der Zug nach München fährt heute leider zehn Minuten später ab, bitte warten Sie am Bahnsteig."
ENGLISH = "The train to Munich leaves ten minutes late today, so please wait on the platform."
FRENCH = "Le train pour Munich part aujourd'hui avec dix minutes de retard, veuillez patienter sur le quai."
LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


def judged(scorer, settings, text):
    built = build_scorer(ScorerSpec(scorer, scorer, settings), Path(), "evals/x.yaml")
    judgement = built(Answered(Output("rq1-x", text), Case("c1", {}, None), None))
    assert len(judgement.reason) <= REASON_LIMIT
    assert judgement.reason.isprintable()
    return judgement


ROWS = [
    # scorer, settings, answer, value, kind, part of the reason
    ("language", {}, GERMAN, "de", "label", "de (probability 1.00)"),
    ("language", {}, "今天天气很好，我们去公园散步吧。", "zh", "label", "zh"),
    ("language", {}, "42 + 1", "und", "label", "no letters"),
    ("language", {"value": "de"}, GERMAN, 1, "pass", "wanted de"),
    ("language", {"value": "de"}, ENGLISH, 0, "pass", "en (probability"),
    ("language", {"value": ["de", "fr"]}, FRENCH, 1, "pass", "wanted de or fr"),
    ("language", {"languages": "en", "among": ["en", "de"]}, "Yes, of course.", 1, "pass", "en"),
    ("language", {"value": "en"}, "", 0, "pass", "no letters"),
    ("readability", {"value": "lix"}, "The cat sat. The dog ran.", 3.0, "number", "6 words, 2 sentences, 0 % of words"),
    ("readability", {"value": "lix"}, "Institutions deliberate.", 102.0, "number", "100 % of words over six letters"),
    ("readability", {}, "The cat sat on the mat.", 0.39 * 6 + 11.8 - 15.59, "number", "1.00 syllables a word"),
    ("readability", {"value": "flesch"}, "The cat sat on the mat.", 206.835 - 6.09 - 84.6, "number", "flesch 116.1"),
    ("readability", {}, "An institution.", 0.39 * 2 + 11.8 * 2.5 - 15.59, "number", "2.50 syllables"),
    ("readability", {"value": "lix"}, "Dr. Smith met Mr. J. Jones. They left.", 4.0, "number", "2 sentences"),
    ("readability", {"at_most": 3}, "The cat sat on the mat.", 1, "pass", "wanted at most 3"),
    ("readability", {"measure": "lix", "at_least": 50}, "The cat sat.", 0, "pass", "wanted at least 50"),
    ("readability", {}, "12 + 3", None, "number", "no words"),
    ("xml", {}, "<a><b c='1'/></a>", 1, "pass", "is XML"),
    ("xml", {}, "Here:\n```xml\n<a/>\n```\nDone.", 1, "pass", "is XML: '<a/>'"),
    ("xml", {}, '<?xml version="1.0" encoding="utf-8"?>\n<a>é</a>', 1, "pass", ""),
    ("xml", {"value": "b"}, "<a/>", 0, "pass", "the outermost element is 'a', wanted 'b'"),
    ("xml", {"value": "{urn:x}a"}, '<a xmlns="urn:x"/>', 1, "pass", ""),
    ("xml", {}, "<a><b></a>", 0, "pass", "mismatched tag in line 1, column 9"),
    ("xml", {}, "<a/><b/>", 0, "pass", "junk after document element"),
    ("xml", {}, "It is positive.", 0, "pass", "syntax error in line 1, column 1"),
    ("xml", {}, "", 0, "pass", "empty"),
    ("xml", {"fence": False}, "```xml\n<a/>\n```", 0, "pass", "not XML"),
    ("xml", {}, LAUGHS, 0, "pass", "declares entities"),
    ("xml", {}, OUTSIDE, 0, "pass", "declares entities"),
    ("xml", {}, "\ud800<a/>", 0, "pass", "not XML"),
    ("xml", {}, "<a>" * 50_000, 0, "pass", "not XML"),
    ("sql", {}, "SELECT a, b FROM t WHERE a > 1;", 1, "pass", "is SQL: select"),
    ("sql", {}, "Here:\n```sql\nSELECT 1\n```", 1, "pass", "select"),
    ("sql", {}, "SELECT 1 UNION SELECT 2", 1, "pass", "select"),
    ("sql", {}, "INSERT INTO t SELECT * FROM u; DROP TABLE u", 1, "pass", "insert, drop"),
    ("sql", {"value": "postgres"}, "SELECT a::int FROM t", 1, "pass", ""),
    ("sql", {"dialect": "sqlite", "only": "select"}, "SELECT 1", 1, "pass", ""),
    ("sql", {"only": ["select"]}, "DROP TABLE t", 0, "pass", "it holds drop, wanted only select"),
    ("sql", {"only": ["select"]}, "SELECT 1; DELETE FROM t", 0, "pass", "it holds delete"),
    ("sql", {"value": "postgres", "only": ["select"]}, "WITH a AS (DELETE FROM x RETURNING *) SELECT * FROM a", 0, "pass", "holds delete"),
    ("sql", {"value": "postgres", "only": ["select"]}, "SELECT * INTO y FROM x", 0, "pass", "it holds create"),
    ("sql", {"only": ["insert"]}, "INSERT INTO t SELECT * FROM u", 1, "pass", ""),
    ("sql", {}, "SELECT FROM WHERE", 0, "pass", "not SQL"),
    ("sql", {}, "SELECT 'abc", 0, "pass", "not SQL"),
    ("sql", {}, "positive", 0, "pass", "not a statement: 'positive'"),
    ("sql", {}, "It is positive.", 0, "pass", "in line 1, column"),
    ("sql", {}, "VACUUM x", 0, "pass", "not a statement"),
    ("sql", {}, "-- nothing", 0, "pass", "empty"),
    ("sql", {}, "SELECT " + "(" * 3000, 0, "pass", "nested too deeply"),
    ("sql", {}, "SELECT 1" + " " * 10 + "+ 1" * 40_000, 0, "pass", "more than 100,000 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("scorer", "settings", "text", "value", "kind", "reason"), ROWS)
def test_scores(scorer, settings, text, value, kind, reason):
    judgement = judged(scorer, settings, text)
    assert judgement.kind == kind
    assert judgement.value == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), judgement.reason
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("scorer", "settings", "error"),
    [
        ("language", {"value": "german"}, "'german' is no language that py3langid tells"),
        ("language", {"languages": "fr", "among": ["de", "en"]}, "'fr' is wanted, but not in 'among'"),
        ("language", {"languages": []}, "no language is given"),
        ("readability", {"at_least": 5, "at_most": 4}, "at_least 5 is above at_most 4"),
        ("readability", {"measure": "smog"}, "measure"),
        ("sql", {"value": "oraclish"}, "'oraclish' is no dialect of sqlglot"),
        ("sql", {"only": ["explode"]}, "explode"),
    ],
)
def test_wrong_settings_are_told_before_the_run(scorer, settings, error):
    with pytest.raises((SuiteError, UseError), match=error):
        judged(scorer, settings, "x")


@pytest.mark.parametrize("scorer", ["language", "readability", "xml", "sql"])
def test_an_absent_package_is_one_clear_line(scorer, monkeypatch):
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(WorkbenchError, match=r"pip install 'prompt-workbench\[scorers\]'"):
        judged(scorer, {}, "x")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["language", "readability", "xml", "sql"]))
def test_any_text_is_judged(text, scorer):
    assert judged(scorer, {}, text).reason


def test_languages_do_not_depend_on_other_scorers():
    """`among` of one scorer narrows no other."""
    judged("language", {"among": ["de", "en"]}, GERMAN)
    assert judged("language", {}, FRENCH).value == "fr"
