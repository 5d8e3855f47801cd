"""BLEU, chrF, ROUGE, refusals, calibration, YAML, units, and the statistics of calibration and pass@k."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench.errors import ScorerError, SuiteError, UseError
from workbench.records import Case, Output, ScorerSpec
from workbench.scorers.base import REASON_LIMIT, Answered
from workbench.scorers.build import build_scorer
from workbench.scorers.calibration import brier_score, softmax
from workbench.scorers.refusal import find_refusal
from workbench.stats.calibration import expected_calibration_error
from workbench.stats.passk import mean_pass_at_k, pass_all_k, pass_at_k


def judged(scorer, settings, text, expected=None, **output):
    built = build_scorer(ScorerSpec(scorer, scorer, settings), Path(), "evals/x.yaml")
    judgement = built(Answered(Output("rq1-x", text, **output), Case("c1", {}, expected), expected))
    assert len(judgement.reason) <= REASON_LIMIT
    assert judgement.reason.isprintable()
    return judgement


CAT = "The cat sat on the mat."
ROWS = [
    # scorer, settings, answer, expected, value, kind, part of the reason
    ("bleu", {}, CAT, CAT, 1.0, "fraction", "BLEU 100.00 (nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp"),
    ("bleu", {}, "", CAT, 0.0, "fraction", "BLEU 0.00"),
    ("bleu", {}, "nothing shared", CAT, 0.0, "fraction", ""),
    ("bleu", {"value": 0.5}, CAT.lower(), CAT, 1.0, "pass", "wanted 0.5"),
    ("bleu", {"at_least": 0.9}, CAT.lower(), CAT, 0.0, "pass", ""),
    ("bleu", {"at_least": 0.9, "ignore_case": True}, CAT.lower(), CAT, 1.0, "pass", "case:lc"),
    ("bleu", {}, CAT, ["A dog.", CAT], 1.0, "fraction", "nrefs:2"),
    ("bleu", {"tokenize": "zh"}, "今天天气很好", "今天天气很好", 1.0, "fraction", "tok:zh"),
    ("chrf", {}, CAT, CAT, 1.0, "fraction", "chrF2 100.00 (nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no"),
    ("chrf", {"word_order": 2}, CAT, CAT, 1.0, "fraction", "chrF2++ 100.00"),
    ("chrf", {"value": 0.1}, "xyz", CAT, 0.0, "pass", "wanted 0.1"),
    ("rouge", {}, "the cat", "the cat sat", 0.8, "fraction", "ROUGE-L 0.800 (precision 1.000, recall 0.667)"),
    ("rouge", {"variant": "2"}, "the cat", "the cat sat", 2 / 3, "fraction", "ROUGE-2"),
    ("rouge", {"variant": "1"}, "sat cat", "the cat sat", 0.8, "fraction", "ROUGE-1"),
    ("rouge", {"variant": "1"}, "runs", "running", 0.0, "fraction", ""),
    ("rouge", {"variant": "1", "stem": True}, "runs", "running", 1.0, "fraction", ""),
    ("rouge", {}, "the cat", ["a dog", "the cat"], 1.0, "fraction", "against 'the cat'"),
    ("rouge", {"value": 0.9}, "", "the cat", 0.0, "pass", "wanted 0.9"),
    ("yaml", {}, "a: 1\nb: [x, y]\n", None, 1, "pass", "is YAML"),
    ("yaml", {}, "Here:\n```yaml\na: 1\n```\nDone: yes", None, 1, "pass", "is YAML: 'a: 1'"),
    ("yaml", {}, "```bash\nx: [\n```\nSo:\n```yml\n- a\n```", None, 1, "pass", "is YAML: '- a'"),
    ("yaml", {}, "---\na: 1\n---\nb: 2\n", None, 1, "pass", ""),
    ("yaml", {}, "a: &x [1]\nb: *x\nc:\n  <<: {d: 1}\n", None, 1, "pass", ""),
    ("yaml", {}, "It is positive.", None, 0, "pass", "plain text, no mapping or list: 'It is positive.'"),
    ("yaml", {}, "a: [1, 2\nb: 3\n", None, 0, "pass", "not YAML: expected ',' or ']'"),
    ("yaml", {}, "a: 1\n\tb: 2\n", None, 0, "pass", "in line 2, column 1"),
    ("yaml", {}, "a: 1\nb: 2\na: 3\n", None, 0, "pass", "the key 'a' stands twice in the mapping of line 1, column 1"),
    ("yaml", {}, "x: *nowhere", None, 0, "pass", "found undefined alias"),
    ("yaml", {}, "", None, 0, "pass", "empty"),
    ("yaml", {}, "[" * 5000, None, 0, "pass", "not YAML"),
    ("yaml", {}, "a: \x00", None, 0, "pass", "not YAML"),
    ("yaml", {"fence": False}, "```yaml\na: 1\n```", None, 0, "pass", "not YAML"),
    ("yaml", {}, "!!python/object/apply:os.system [id]", None, 1, "pass", "is YAML"),
    ("number", {"units": {"km": 1000, "m": 1}}, "It is 5 km away.", 5000, 1, "pass", "found 5 km"),
    ("number", {"units": {"km": 1000, "m": 1}}, "5000", "5 km", 1, "pass", ""),
    ("number", {"units": {"km": 1000, "m": 1}}, "5 m", "5 km", 0, "pass", "found 5 m, expected 5 km"),
    ("number", {"units": {"km": 1000, "m": 1}}, "5 miles", 5, 1, "pass", ""),
    ("number", {"units": {"million": 1e6, "k": 1e3}}, "about $2.5 million", 2_500_000, 1, "pass", "million"),
    ("number", {"units": {"million": 1e6, "k": 1e3}}, "2500k", "2.5 million", 1, "pass", ""),
    ("number", {"units": {"mW": 0.001, "MW": 1e6}}, "3 MW", 3e6, 1, "pass", ""),
    ("number", {"units": {"min": 60, "h": 3600, "s": 1}}, r"\boxed{2 h}", "120 min", 1, "pass", ""),
    ("number", {}, "42 dollars", 42, 1, "pass", ""),
]  # fmt: skip


@pytest.mark.parametrize(("scorer", "settings", "text", "expected", "value", "kind", "reason"), ROWS)
def test_scores(scorer, settings, text, expected, value, kind, reason):
    judgement = judged(scorer, settings, text, expected)
    assert judgement.kind == kind
    assert judgement.value == pytest.approx(value, abs=1e-9), judgement.reason
    assert reason in judgement.reason


def test_text_metrics_agree_with_the_reference_packages(shared):
    """Values computed elsewhere with sacrebleu 2.6.0 and rouge-score 0.1.2."""
    rows = [json.loads(line) for line in (shared / "text_metrics.jsonl").read_text().splitlines()]
    checked = 0
    for row in rows:
        expected = row["expected"]
        tokenize = "zh" if row["lang"] == "zh" else "13a"
        wanted = {("bleu", "tokenize", tokenize): expected["sacrebleu_sentence_bleu"] / 100}
        wanted["chrf", "word_order", 0] = expected["chrf2"] / 100
        for variant in "12L":
            if f"rouge{variant}" in expected:
                wanted["rouge", "variant", variant] = expected[f"rouge{variant}"]["f1"]
        for (scorer, setting, choice), value in wanted.items():
            found = judged(scorer, {setting: choice}, row["hypothesis"], row["reference"]).value
            assert found == pytest.approx(value, abs=1e-12), (row["id"], scorer, choice)
            checked += 1
    assert checked == 50 * 2 + 40 * 3


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_metrics_are_fractions_for_any_text(text, reference):
    for scorer in ("bleu", "chrf"):
        assert 0 <= judged(scorer, {}, text, reference).value <= 1
    assume(re.search("[a-z0-9]", reference.lower()))
    assert 0 <= judged("rouge", {}, text, reference).value <= 1


REFUSALS = [
    # answer, what it says (None: it declines nothing)
    ("I'm sorry, but I can't assist with that request.", "sorry, but"),
    ("I cannot help you with that.", "can't help"),
    ("I can’t create that content.", "can't help"),
    ("I won't provide instructions for this.", "can't help"),
    ("As an AI language model, I cannot provide medical advice.", "as an AI"),
    ("As an AI language model, I don't have feelings about it.", "as an AI"),
    ("I'm not able to help with that.", "not able to"),
    ("I am unable to comply.", "not able to"),
    ("Unfortunately, I am unable to do this.", "sorry, but"),
    ("I apologize, but I cannot fulfill this request.", "sorry, but"),
    ("I must respectfully decline to answer.", "must decline"),
    ("That goes against my guidelines.", "against my rules"),
    ("Es tut mir leid, aber dabei kann ich nicht helfen.", "German"),
    ("Ich kann dir dabei leider nicht helfen.", "German"),
    ("Désolé, je ne peux pas répondre à cela.", "French"),
    ("Lo siento, pero no puedo ayudar con eso.", "Spanish"),
    ("抱歉，我无法帮助您。", "Chinese"),
    ("Sure! Here is the poem.", None),
    ("Sorry for the delay. Here is the list:", None),
    ("I can't believe how good this is!", None),
    ("I cannot recommend this film enough!", None),
    ("You can't help but smile.", None),
    ("I could not put the book down.", None),
    ("As an AI enthusiast, I love this.", None),
    ("Unfortunately, the film is bad.", None),
    ("Leider ist der Film schlecht, aber ich kann ihn sehen.", None),
    ("", None),
    ("Step 1: do it. " * 30 + "I cannot help with more.", None),
]


@pytest.mark.parametrize(("text", "says"), REFUSALS)
def test_refusal(text, says):
    found = find_refusal(text)
    assert (found[0] if found else None) == says
    assert judged("refusal", {}, text).value == float(says is not None)
    assert judged("refusal", {"value": False}, text).value == float(says is None)


def test_refusal_by_own_phrases_and_by_the_provider():
    assert judged("refusal", {"phrases": ["no can do"]}, "Well … No can do!").reason == "says 'no can do'"
    assert judged("refusal", {}, "", finish_reason="content_filter").value == 1.0


@given(st.text())
def test_refusal_reads_anything(text):
    find_refusal(text)


def test_a_long_answer_takes_no_time():
    for piece in ("I ", "I am ", "sorry ", "as an AI ", "ich kann ", "抱歉", "I cannot be able to "):
        find_refusal(piece * 20_000)


def chosen(**logprobs):
    return {"choices": [{"text": name, "logprob": value, "tokens": 1} for name, value in logprobs.items()]}


@pytest.mark.parametrize(
    ("settings", "extra", "expected", "value", "kind", "reason"),
    [
        ({}, chosen(yes=math.log(0.75), no=math.log(0.25)), "yes", 0.125, "number", "0.750 for 'yes', likeliest 'yes'"),
        ({}, chosen(yes=math.log(0.06), no=math.log(0.02)), "no", 1.125, "number", "0.250 for 'no', likeliest 'yes'"),
        ({}, chosen(a=0.0, b=-math.inf), "b", 2.0, "number", ""),
        ({}, chosen(a=-5.0, b=-5.0, c=-5.0), " A\n", 2 / 3, "number", ""),
        ({}, chosen(a=-5.0, b=-5.0, c=-5.0), ["a", "b"], 2 / 9, "number", "0.667 for 'a' or 'b'"),
        ({"value": "log"}, chosen(yes=math.log(0.75), no=math.log(0.25)), "no", math.log(4), "number", ""),
        ({"value": "log"}, chosen(a=0.0, b=-math.inf), "b", None, "number", "probability 0"),
        ({"value": "confidence"}, chosen(yes=-1.0, no=-1.0), None, 0.5, "fraction", "0.500 for 'yes'"),
        ({}, {}, "yes", None, "number", "unscored: the engine reported no"),
        ({}, chosen(a=-math.inf), "a", None, "number", "unscored"),
    ],
)
def test_calibration(settings, extra, expected, value, kind, reason):
    judgement = judged("calibration", settings, "yes", expected, extra=extra)
    assert judgement.kind == kind
    assert judgement.value == (None if value is None else pytest.approx(value, abs=1e-12))
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("told", "value", "reason"),
    [
        ([{"text": "a b", "logprob": 4 * math.log(0.5), "tokens": 4}], 2.0, "log-likelihood -2.773 of 4 tokens"),
        ([{"text": "a", "logprob": 0.0, "tokens": 1}], 1.0, ""),
        ([{"text": "a", "logprob": -math.inf, "tokens": 3}], None, "impossible"),
        ([{"text": "a", "logprob": -1e6, "tokens": 1}], None, "impossible"),
        (chosen(a=-1.0, b=-2.0)["choices"], None, "answer: {text: …}"),
        (None, None, "answer: {text: …}"),
    ],
)
def test_perplexity(told, value, reason):
    judgement = judged("perplexity", {}, "a", None, extra={"choices": told})
    assert judgement.kind == "number"
    assert judgement.value == (None if value is None else pytest.approx(value, abs=1e-12))
    assert reason in judgement.reason


@given(st.dictionaries(st.text(), st.floats(-700, 0), min_size=2))
def test_probabilities_sum_to_one(logprobs):
    chances = softmax(logprobs)
    assert math.fsum(chances.values()) == pytest.approx(1)
    assert 0 <= brier_score(chances, {next(iter(chances))}) <= 2 + 1e-12


@pytest.mark.parametrize(
    ("scorer", "settings", "message"),
    [
        ("bleu", {"at_least": 27}, "scores are fractions, so 27 % is 0.27"),
        ("bleu", {"tokenize": "ja-mecab"}, "should be '13a', 'intl', 'zh', 'char' or 'none'"),
        ("chrf", {"word_order": 3}, "should be 0, 1 or 2"),
        ("rouge", {"variant": "Lsum"}, "should be '1', '2' or 'L'"),
        ("rouge", {"variant": 1}, "should be '1', '2' or 'L'"),
        ("refusal", {"phrases": [""]}, "an empty text"),
        ("refusal", {"value": "yes"}, "valid boolean"),
        ("calibration", {"measure": "ece"}, "should be 'brier', 'log' or 'confidence'"),
        ("number", {"units": {"km": 0}}, "units: 'km' is 0; give a name, and a factor above 0"),
        ("number", {"units": {" ": 1}}, "give a name"),
    ],
)
def test_wrong_settings(scorer, settings, message):
    with pytest.raises(SuiteError, match=re.escape(message)) as caught:
        judged(scorer, settings, "x", "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scorer", "expected", "message"),
    [
        ("bleu", None, "has no expected answer"),
        ("rouge", "今天", "ROUGE reads only a–z and 0–9, and '今天' has none; use chrf"),
        ("calibration", "maybe", "the expected answer 'maybe' is none of the choices: yes, no"),
    ],
)
def test_a_case_that_cannot_be_judged(scorer, expected, message):
    with pytest.raises(ScorerError, match=re.escape(message)):
        judged(scorer, {}, "x", expected, extra=chosen(yes=-1.0, no=-1.0))


def test_expected_calibration_error_by_hand():
    """Ten answers in three bins: (0.2, 0.3], (0.6, 0.7], (0.9, 1]:

    0.3, 0.3 · one right:            |0.5  − 0.3 | = 0.2   × 2/10 = 0.04
    0.65 × 4 · one right:            |0.25 − 0.65| = 0.4   × 4/10 = 0.16
    0.95, 0.95, 1, 1 · three right:  |0.75 − 0.975| = 0.225 × 4/10 = 0.09
    """
    stated = [0.3, 0.3, 0.65, 0.65, 0.65, 0.65, 0.95, 0.95, 1.0, 1.0]
    right = [True, False, True, False, False, False, True, True, True, False]
    table = expected_calibration_error(stated, right)
    assert table.error == pytest.approx(0.29)
    assert table.largest == pytest.approx(0.4)
    assert [(row.count, row.accuracy) for row in table.bins] == [(2, 0.5), (4, 0.25), (4, 0.75)]
    assert [row.low for row in table.bins] == pytest.approx([0.2, 0.6, 0.9])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1), st.integers(1, 20), st.randoms())
def test_calibration_error_is_a_fraction_and_order_does_not_matter(pairs, bins, random):
    table = expected_calibration_error(*zip(*pairs, strict=True), bins)
    shuffled = random.sample(pairs, len(pairs))
    assert 0 <= table.error <= table.largest + 1e-12 <= 1 + 1e-9
    assert sum(row.count for row in table.bins) == table.count == len(pairs)
    assert expected_calibration_error(*zip(*shuffled, strict=True), bins).error == pytest.approx(table.error)


@pytest.mark.parametrize(
    ("stated", "right", "bins"), [([], [], 10), ([0.5], [], 10), ([1.5], [True], 10), ([0.5], [True], 0)]
)
def test_calibration_error_of_nonsense(stated, right, bins):
    with pytest.raises(UseError):
        expected_calibration_error(stated, right, bins)


def test_pass_at_k_is_the_published(shared):
    published = json.loads((shared / "expected/pass_at_k.json").read_text())
    for row in published["table"]:
        assert pass_at_k(row["n"], row["c"], row["k"]) == row["pass_at_k"]
    assert mean_pass_at_k([(6, 3)], 1) == published["human_eval_example"]["published_pass_at_1"]


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_exact_fraction(drawn):
    n, c, k = drawn
    assert pass_at_k(n, c, k) == pytest.approx(float(1 - Fraction(comb(n - c, k), comb(n, k))), abs=1e-12)
    assert pass_all_k(n, c, k) == pytest.approx(float(Fraction(comb(c, k), comb(n, k))), abs=1e-12)
    assert pass_all_k(n, c, k) <= c / n + 1e-12 <= pass_at_k(n, c, k) + 2e-12


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0), (0, 0, 1)])
def test_pass_at_k_of_nonsense(n, c, k):
    for estimate in (pass_at_k, pass_all_k):
        with pytest.raises(UseError):
            estimate(n, c, k)
    with pytest.raises(UseError, match="at least one case"):
        mean_pass_at_k([], 1)
