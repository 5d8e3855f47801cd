"""Statistics: against R, published tables and independent implementations, and by properties that must hold."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from workbench.errors import UnknownName, UseError
from workbench.records import ScoreColumns
from workbench.stats import intervals, pvalues
from workbench.stats.methods import METHODS, Situation
from workbench.stats.paired import cases_needed, compare_paired
from workbench.stats.reduce import PairedSample, Sample, paired_sample, reduce_repeats
from workbench.stats.summary import summarise
from workbench.stats.verdict import verdict_sentence


def columns(scores, kind="pass", clusters=None, missing=(), name="choice") -> ScoreColumns:
    """`scores`: for each variant, for each case, a list of the values of its repeats."""
    rows = [
        (v, c, r, float(value))
        for v, cases in enumerate(scores)
        for c, repeats in enumerate(cases)
        for r, value in enumerate(repeats)
    ]
    n = max(map(len, scores))
    variant, case, repeat, value = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    return ScoreColumns(
        name, kind, tuple(f"v{i}" for i in range(len(scores))), tuple(f"c{i}" for i in range(n)),
        tuple(clusters) if clusters else (None,) * n, variant, case, repeat, value, tuple(missing),
    )  # fmt: skip


def single(*variants):
    """One score a case."""
    return [[[value] for value in variant] for variant in variants]


def binary(values) -> Sample:
    return Sample(np.array(values, dtype=float), len(values), (0.0, 1.0), binary=True)


def pair_of_counts(both: int, first: int, second: int, neither: int) -> PairedSample:
    a = [1] * (both + first) + [0] * (second + neither)
    b = [1] * both + [0] * first + [1] * second + [0] * neither
    return PairedSample(binary(a), binary(b), first, second, both + neither)


# Against R, published tables and other implementations


def test_accuracies_of_published_systems_agree_with_r(shared) -> None:
    rows = [json.loads(line) for line in (shared / "gsm8k_model_correct.jsonl").read_text().splitlines()]
    expected = json.loads((shared / "expected" / "gsm8k_model_correct.json").read_text())
    for row in expected["accuracy"]:
        (summary,) = summarise(columns(single([r[row["system"]] for r in rows])))
        assert summary.mean == pytest.approx(row["accuracy"])
        assert summary.interval == pytest.approx(row["wilson95"], rel=1e-9)
        assert (summary.method, summary.cases, summary.scores, summary.repeats) == ("Wilson", 660, 660, 1)
        exact = intervals.clopper_pearson(binary([r[row["system"]] for r in rows]), 0.05)
        assert exact == pytest.approx(row["clopper_pearson95"], rel=1e-9)


def test_pairs_of_published_systems_agree_with_r(shared) -> None:
    rows = [json.loads(line) for line in (shared / "gsm8k_model_correct.jsonl").read_text().splitlines()]
    expected = json.loads((shared / "expected" / "gsm8k_model_correct.json").read_text())
    for row in expected["pairs"]:
        data = columns(single([r[row["a"]] for r in rows], [r[row["b"]] for r in rows]))
        (found,) = compare_paired(data, "v0")
        assert found.difference == pytest.approx(row["diff_b_minus_a"])
        assert found.p == pytest.approx(row["mcnemar_exact_p"], rel=1e-9)
        assert (found.wins, found.losses) == (row["only_b"], row["only_a"])
        assert found.test_method == "exact McNemar"
        assert found.interval_method == "Newcombe"
        pair = paired_sample(reduce_repeats(data), 1, 0)
        assert intervals.t_interval(pair.differences, 0.05) == pytest.approx(row["paired_t95"], rel=1e-9)
        assert found.interval == pytest.approx(row["paired_t95"], abs=0.004)  # another method, nearly the same


def test_bonferroni_agrees_with_r(shared) -> None:
    rows = [json.loads(line) for line in (shared / "gsm8k_model_correct.jsonl").read_text().splitlines()]
    expected = json.loads((shared / "expected" / "gsm8k_model_correct.json").read_text())
    systems = [row["system"] for row in expected["accuracy"]]
    found = compare_paired(columns(single(*([r[s] for r in rows] for s in systems))), "v0")
    raw = dict(zip(expected["p_adjust"]["order"], expected["p_adjust"]["raw"], strict=True))
    for row, system in zip(found, systems[1:], strict=True):
        assert row.p == pytest.approx(min(1, 3 * raw[f"{systems[0]} vs {system}"]), rel=1e-9)
        alone = compare_paired(
            columns(single([r[systems[0]] for r in rows], [r[system] for r in rows])), "v0", confidence=1 - 0.05 / 3
        )
        assert row.interval == pytest.approx(alone[0].interval)


def test_standard_errors_of_the_evaluation_harness(shared) -> None:
    """lm-evaluation-harness publishes √(p(1−p)/(n−1)): the t interval's own standard error."""
    for line in (shared / "lm_eval_bloom.jsonl").read_text().splitlines():
        row = json.loads(line)
        values = [1.0] * row["successes"] + [0.0] * (row["n"] - row["successes"])
        low, high = intervals.t_interval(Sample(np.array(values), row["n"], (0.0, 1.0)), 0.05)
        stderr = (high - low) / 2 / scipy.stats.t.ppf(0.975, row["n"] - 1)
        assert stderr == pytest.approx(row["stderr"], rel=1e-9)


def test_sample_size_agrees_with_r(shared) -> None:
    row = json.loads((shared / "expected" / "power.json").read_text())["t"][0]
    values = np.tile([-1.0, 1.0], 50)
    values *= row["sd"] / values.std(ddof=1)
    assert cases_needed(Sample(values, 100), row["delta"], 0.05) == math.ceil(row["n_paired"])


def test_newcombe_against_a_published_example() -> None:
    """Complete response before and after consolidation (Cavo et al. 2012), the example of chapter 8 of
    Fagerland, Lydersen and Laake (2017), with the limits that their R package contingencytables gives."""
    found = intervals.newcombe(pair_of_counts(59, 6, 16, 80), 0.05)
    assert tuple(round(end, 4) for end in found) == (-0.1186, -0.0046)


@given(st.lists(st.integers(0, 1), min_size=8, max_size=60))
def test_wilson_and_exact_agree_with_statsmodels(values) -> None:
    for method, name in ((intervals.wilson, "wilson"), (intervals.clopper_pearson, "beta")):
        found = proportion_confint(sum(values), len(values), 0.05, name)
        assert method(binary(values), 0.05) == pytest.approx(found, abs=1e-9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_agrees_with_statsmodels(first, second) -> None:
    (p,) = pvalues.mcnemar_exact([pair_of_counts(5, first, second, 5)])
    assert p == pytest.approx(mcnemar([[5, first], [second, 5]], exact=True).pvalue)


def paired_numbers(first, second, bounds=None) -> PairedSample:
    a, b = (Sample(np.array(x, dtype=float), len(x), bounds) for x in (first, second))
    return PairedSample(a, b, 0, 0, 0)


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=9))
def test_sign_flips_are_counted_exactly(rows) -> None:
    """Against a plain count of all patterns in whole numbers."""
    differences = [a - b for a, b in rows]
    patterns = list(product((-1, 1), repeat=len(rows)))
    reach = sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= abs(sum(differences)) for p in patterns)
    (p,) = pvalues.sign_flip([paired_numbers(*zip(*rows, strict=True))])
    assert p == pytest.approx(float(Fraction(reach, len(patterns))))


def test_sampled_sign_flips_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    pairs = [paired_numbers(rng.normal(shift, 1, 40), rng.normal(0, 1, 40)) for shift in (0, 0.3, 0.5)]
    for pair, p in zip(pairs, pvalues.sign_flip(pairs), strict=True):
        values = pair.differences.values
        expected = scipy.stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
        ).pvalue
        assert p == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 9_999) + 0.002)


def test_t_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    pair = paired_numbers(rng.normal(0.3, 1, 20), rng.normal(0, 1, 20))
    expected = scipy.stats.ttest_1samp(pair.differences.values, 0)
    assert pvalues.t_test([pair]) == pytest.approx([expected.pvalue])
    assert intervals.t_interval(pair.differences, 0.05) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_certified_means_of_nist(shared) -> None:
    """Means of the NIST sets, whose values agree in their first seven digits, keep their precision."""
    for line in (shared / "nist_anova.jsonl").read_text().splitlines():
        groups = json.loads(line)["groups"]
        data = columns([[[value] for value in group] for group in groups], kind="number")
        for summary, group in zip(summarise(data), groups, strict=True):
            exact = sum(map(Fraction, map(str, group))) / len(group)
            assert summary.mean == pytest.approx(float(exact), rel=1e-12)


# The table of methods


E_BIN = "needs one 0/1 score a case"


@pytest.mark.parametrize(
    ("scores", "kind", "clusters", "method", "low", "high"),
    [
        (single([1, 0] * 5), "pass", None, "Wilson", 0.2366, 0.7634),
        (single([1, 0, 1]), "pass", None, "Clopper–Pearson, exact", 0.0943, 0.9916),
        (single([1] * 12), "pass", None, "equal values, exact", 0.7354, 1.0),
        (single([1] * 3), "pass", None, "equal values, exact", 0.2924, 1.0),
        ([[[1, 0], [1, 1]] * 5], "pass", None, "Wilson at the effective n", 0.5328, 0.8875),
        ([[[1, 0], [1, 1]] * 2], "pass", None, "Anderson, exact", None, None),
        ([[[1, 1]] * 10], "pass", None, "equal values, exact", 0.6915, 1.0),
        (single([0.2, 0.4] * 5), "fraction", None, "Wilson at the effective n", 0.2307, 0.3799),
        (single([0.5] * 10), "fraction", None, "equal values, exact", 0.3458, 0.6542),
        (single([0.2, 0.4]), "fraction", None, "Anderson, exact", None, None),
        (single([1.0, 3.0] * 5), "number", None, "t on case means", 1.2459, 2.7541),
        (
            single([1, 1, 0, 0] * 5),
            "pass",
            [f"k{i // 2}" for i in range(20)],
            "Wilson at the effective n",
            0.1990,
            0.8010,
        ),
        (single([1.0, 1, 3, 3] * 5), "number", [f"k{i // 2}" for i in range(20)], "t on cluster means", 1.2459, 2.7541),
        (single([1, 1, 0, 0] * 2), "pass", [f"k{i // 2}" for i in range(8)], "Anderson, exact", None, None),
        (single([1, 0] * 5), "pass", [f"k{i}" for i in range(10)], "Wilson", 0.2366, 0.7634),
    ],
)
def test_methods_by_situation(scores, kind, clusters, method, low, high) -> None:
    (summary,) = summarise(columns(scores, kind, clusters))
    assert summary.method == method
    assert summary.interval[0] <= summary.mean <= summary.interval[1]
    assert summary.interval[0] < summary.interval[1]
    if low is not None:
        assert summary.interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "kind", "clusters", "why"),
    [
        (single([3.5]), "number", None, "not enough data: 1 case"),
        (single([3.5, 4, 5]), "number", None, "not enough data: 3 cases"),
        (single([2.0] * 9), "number", None, "all 9 values are the same"),
        (single([1.0, 2] * 6), "number", [f"k{i // 6}" for i in range(12)], "not enough data: 2 clusters"),
        ([[[]] * 3], "pass", None, "nothing is scored"),
    ],
)
def test_no_interval_says_why(scores, kind, clusters, why) -> None:
    (summary,) = summarise(columns(scores, kind, clusters))
    assert (summary.interval, summary.why) == (None, why)


@pytest.mark.parametrize(
    ("sample", "error"),
    [
        (Sample(np.array([0.5, 1.0]), 2, (0.0, 1.0)), E_BIN),
        (Sample(np.array([1.0, 0.0]), 4, (0.0, 1.0), binary=False, clustered=True), E_BIN),
    ],
)
def test_wilson_and_mcnemar_refuse_repeats_and_clusters(sample, error) -> None:
    pair = PairedSample(sample, sample, 0, 0, 2)
    for refused in (
        lambda: intervals.wilson(sample, 0.05),
        lambda: intervals.clopper_pearson(sample, 0.05),
        lambda: intervals.newcombe(pair, 0.05),
        lambda: pvalues.mcnemar_exact([pair]),
    ):
        with pytest.raises(UseError, match=error):
            refused()


@pytest.mark.parametrize(
    ("change", "options", "error"),
    [
        ({"kind": "pass", "value": [0.5, 1]}, {}, "of kind pass, but gave a value other than 0 and 1"),
        ({"kind": "fraction", "value": [1.5, 1]}, {}, "outside 0 to 1"),
        ({"kind": "number", "value": [math.nan, 1]}, {}, "no number; return None"),
        ({}, {"confidence": 95}, "confidence 95 is not between 0 and 1"),
        ({}, {"margin": -0.1}, "margin -0.1 is not"),
        ({}, {"reference": "v9"}, "unknown reference variant 'v9'"),
    ],
)
def test_what_is_refused(change, options, error) -> None:
    data = replace(columns(single([1], [0])), **change)
    with pytest.raises((UseError, UnknownName), match=error):
        compare_paired(data, **{"reference": "v0", **options})


def test_the_table_names_a_method_for_each_situation() -> None:
    assert set(METHODS) == set(Situation)


def test_repeats_are_reduced_before_cases_are_averaged() -> None:
    (summary,) = summarise(columns([[[1, 1, 1, 1], [0]] * 4]))
    assert (summary.mean, summary.cases, summary.scores, summary.repeats) == (0.5, 8, 20, 4)


def test_labels_are_counted() -> None:
    data = replace(columns(single([0, 1, 1], [0, 0, 0]), "label"), labels=("no", "yes"))
    first, second = summarise(data)
    assert (first.mean, first.interval, first.counts) == (None, None, (("yes", 2), ("no", 1)))
    assert second.counts == (("no", 3),)
    assert compare_paired(data, "v0") == []


# Comparisons


@pytest.mark.parametrize(
    ("first", "second", "kind", "clusters", "verdict", "test"),
    [
        ([1, 0] * 30, [1] * 60, "pass", None, "better", "exact McNemar"),
        ([1] * 60, [1, 0] * 30, "pass", None, "worse", "exact McNemar"),
        ([1, 0] * 100, [1, 0] * 100, "pass", None, "equivalent", "exact McNemar"),
        ([1, 0] * 10, [1, 0] * 10, "pass", None, "not enough data", "exact McNemar"),
        ([1, 0, 1], [1, 1, 1], "pass", None, "not enough data", "exact McNemar"),
        ([0.2, 0.4] * 10, [0.6, 0.7] * 10, "fraction", None, "better", "sign-flip permutation"),
        ([10, 20, 30] * 5, [12, 23, 34] * 5, "number", None, "higher", "sign-flip permutation"),
        ([12, 23, 34] * 5, [10, 20, 30] * 5, "number", None, "lower", "sign-flip permutation"),
        ([10, 20, 30], [12, 23, 34], "number", None, "not enough data", ""),
        (
            [0, 0] * 10,
            [0, 1] * 8 + [1, 1] * 2,
            "pass",
            [f"k{i // 2}" for i in range(20)],
            "better",
            "t on cluster means",
        ),
    ],
)
def test_verdicts(first, second, kind, clusters, verdict, test) -> None:
    (row,) = compare_paired(columns(single(first, second), kind, clusters), "v0")
    assert (row.verdict, row.test_method) == (verdict, test)
    assert row.wins + row.losses + row.ties == row.pairs == len(first)
    if verdict == "not enough data" and kind != "number":
        assert row.more_cases > 0


def test_only_common_cases_are_compared() -> None:
    data = columns([[[1], [1], [], [0]], [[0], [], [1], [0]], [[], [], [1], []]])
    first, second = compare_paired(data, "v0")
    assert (first.pairs, first.wins, first.losses, first.ties) == (2, 0, 1, 1)
    assert (second.pairs, second.difference, second.why) == (0, None, "no case has scores of both")


def test_cases_needed_do_not_depend_on_the_observed_difference() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(40) / 4 + 0.3
    noise = rng.normal(0, 0.02, 40)
    needed = [
        cases_needed(paired_numbers(base + noise + shift, base, (0.0, 1.0)).differences, 0.005, 0.05)
        for shift in (0.0, 0.2)
    ]
    assert needed[0] == needed[1]


scores_of_pairs = st.integers(1, 4).flatmap(
    lambda repeats: st.lists(
        st.tuples(*[st.lists(st.integers(0, 1), min_size=repeats, max_size=repeats)] * 2), min_size=1, max_size=20
    )
)


@settings(max_examples=60)
@given(scores_of_pairs, st.booleans())
def test_swapping_flips_the_sign(rows, clustered) -> None:
    clusters = [f"k{i // 2}" for i in range(len(rows))] if clustered else None
    data = columns([list(x) for x in zip(*rows, strict=True)], clusters=clusters)
    (there,), (back,) = compare_paired(data, "v0"), compare_paired(data, "v1")
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)
    assert there.cases_needed == back.cases_needed
    flipped = {"better": "worse", "worse": "better"}
    assert there.verdict == flipped.get(back.verdict, back.verdict)


@settings(max_examples=60)
@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=20))
def test_paired_with_itself_there_is_no_difference(cases) -> None:
    (row,) = compare_paired(columns([cases, cases], "fraction"), "v0")
    assert (row.difference, row.p, row.ties) == (0.0, 1.0, len(cases))
    assert row.interval[0] < 0 < row.interval[1]


@settings(max_examples=60)
@example(
    [([0, 0, 0], [0, 0, 1])] * 5 + [([1, 1, 1], [0, 1, 1])] + [([0, 0, 1], [0, 0, 0])] * 2 + [([0, 1, 1], [0, 0, 0])],
    random.Random(1),
    False,
)
@given(scores_of_pairs, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_and_cases_changes_nothing(rows, random_: random.Random, clustered) -> None:
    clusters = [f"k{i // 3}" for i in range(len(rows))] if clustered else None
    data = columns([list(x) for x in zip(*rows, strict=True)], clusters=clusters)
    order = list(range(len(data.value)))
    random_.shuffle(order)
    cases = list(range(len(data.cases)))
    random_.shuffle(cases)
    shuffled = replace(
        data,
        cases=tuple(data.cases[i] for i in cases),
        clusters=tuple(data.clusters[i] for i in cases),
        variant=[data.variant[i] for i in order],
        case=[cases.index(data.case[i]) for i in order],
        value=[data.value[i] for i in order],
    )
    for before, after in zip(
        summarise(data) + compare_paired(data, "v0"), summarise(shuffled) + compare_paired(shuffled, "v0"), strict=True
    ):
        assert before.interval == pytest.approx(after.interval)
        assert getattr(before, "p", None) == pytest.approx(getattr(after, "p", None))
        assert getattr(before, "verdict", None) == getattr(after, "verdict", None)


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_intervals_hold_the_mean_and_are_never_of_width_0(values) -> None:
    (summary,) = summarise(columns(single(values), "fraction"))
    low, high = summary.interval
    assert 0 <= low <= summary.mean + 1e-12
    assert summary.mean - 1e-12 <= high <= 1
    assert low < high


def test_a_large_run_takes_seconds_and_little_memory() -> None:
    variants, cases, repeats = 20, 5_000, 5
    index = np.indices((variants, cases, repeats)).reshape(3, -1)
    values = (np.random.default_rng(0).random(index.shape[1]) < 0.7).astype(float)
    names = tuple(map(str, range(cases)))
    data = ScoreColumns(
        "choice", "pass", names[:variants], names, (None,) * cases, index[0], index[1], index[2], values
    )
    start = time.perf_counter()
    assert len(summarise(data)) == variants
    assert len(compare_paired(data, "0")) == variants - 1
    assert time.perf_counter() - start < 5


# The sentence

LABELS = {f"v{i}": f"few-shot {i}" if i else "zero-shot" for i in range(9)}


@pytest.mark.parametrize(
    ("scores", "kind", "missing", "sentence"),
    [
        (
            single([1, 0] * 50, [1, 1, 1, 0] * 25),
            "pass",
            (),
            "On choice, few-shot 1 beats the reference zero-shot by 25 points (95 % interval 16 to 33, 100 cases).",
        ),
        (
            single([1, 0] * 20, [0, 1] * 20),
            "pass",
            (),
            "On choice, few-shot 1 can't be told from the reference zero-shot; about 3,182 more cases would find a "
            "true difference of 5 points.",
        ),
        (
            single([1] * 13 + [0] * 30, [0] * 13 + [1] * 26 + [0] * 4),
            "pass",
            (),
            "On choice, few-shot 1 can't be told from the reference zero-shot; about 2,581 more cases would find a true "
            "difference of 5 points; its interval excludes 0, but the test is not that sure (exact McNemar, p = 0.053).",
        ),
        (
            single([1] * 11 + [0] * 32, *[[0] * 11 + [1] * 25 + [0] * 7] * 2),
            "pass",
            (),
            "On choice, none of the 2 other variants can be told from the reference zero-shot; about 2,806 more cases would "
            "find a true difference of 5 points; the intervals of 2 variants exclude 0, but their tests are not that sure.",
        ),
        (
            single([1, 0] * 150, [1, 0] * 150, [1] * 300, [0] * 300),
            "pass",
            (),
            "On choice, few-shot 2 beats the reference zero-shot by 50 points (95 % interval 43 to 57, 300 cases); "
            "few-shot 3 is worse than it by 50 points (95 % interval 43 to 57, 300 cases); "
            "few-shot 1 is equivalent to it within 5 points.",
        ),
        (
            single([10, 20, 30] * 5, [12, 23, 34] * 5),
            "number",
            (0, 3),
            "On choice, few-shot 1 is higher than the reference zero-shot by 3 (95 % interval 2.53 to 3.47, 15 cases)"
            "; 3 trials without a score left out.",
        ),
        (
            single([1, 0] * 5),
            "pass",
            (),
            "On choice, zero-shot has a mean of 50 % (95 % interval 24 to 76, 10 cases).",
        ),
        (
            single([3.0]),
            "number",
            (),
            "On choice, zero-shot has a mean of 3 (1 case) without an interval: not enough data: 1 case.",
        ),
    ],
)
def test_sentences(scores, kind, missing, sentence) -> None:
    data = columns(scores, kind, missing=missing)
    assert verdict_sentence("choice", summarise(data), compare_paired(data, "v0"), LABELS) == sentence


def test_a_sentence_is_honest_when_nothing_is_shown() -> None:
    data = columns(single([1, 0] * 10, [0, 1] * 10, [1, 1, 0, 0] * 5))
    sentence = verdict_sentence("choice", summarise(data), compare_paired(data, "v0"), LABELS)
    assert sentence.startswith(
        "On choice, none of the 2 other variants can be told from the reference zero-shot; about"
    )
