"""Bounds, corrections, resampling, effect sizes, repeats and power: against independent implementations, evalsig 0.1.2
among them, on the same data, and by simulation."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats
from evalsig.inference.cluster_bootstrap import cluster_bootstrap_ci
from evalsig.inference.effect_size import cohens_d_paired
from evalsig.inference.mcnemar import mcnemar_test
from evalsig.inference.mde import mde, required_n
from evalsig.inference.multiplicity import benjamini_hochberg as their_bh
from evalsig.inference.multiplicity import holm as their_holm
from evalsig.inference.paired import paired_t_test
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_paired
from test_stats import binary, columns, pair_of_counts, paired_numbers, single
from test_stats_simulation import at_most
from test_stats_simulation import columns as simulated

from workbench.errors import UseError
from workbench.stats import effect
from workbench.stats.bootstrap import paired_bootstrap, two_level_bootstrap
from workbench.stats.bounds import lower_bound, upper_bound
from workbench.stats.effect import effect_size, equivalent, non_inferior, tost_p
from workbench.stats.multiple import benjamini_hochberg, dunnett, holm
from workbench.stats.paired import cases_needed, compare_paired
from workbench.stats.passk import pass_all_k, pass_at_k
from workbench.stats.power import VarianceSplit, needed, smallest_difference, suite_sees, variance_split
from workbench.stats.pvalues import mcnemar_exact
from workbench.stats.reduce import Sample, paired_sample, reduce_repeats
from workbench.stats.repeats import best_of, flakiness, worst_of
from workbench.stats.summary import summarise


def published(shared):
    """The pairs of four published systems on 660 questions, and R's figures for them."""
    rows = [json.loads(line) for line in (shared / "gsm8k_model_correct.jsonl").read_text().splitlines()]
    expected = json.loads((shared / "expected" / "gsm8k_model_correct.json").read_text())
    return {row["system"]: np.array([r[row["system"]] for r in rows], float) for row in expected["accuracy"]}, expected


# One-sided bounds


@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        (single([1, 0] * 20, [1, 1] * 20), "pass"),
        (single([1, 0] * 3, [1, 1] * 3), "pass"),
        (single([0.2, 0.4] * 10, [0.3, 0.1] * 10), "fraction"),
        (single([1.0, 3.0] * 10, [2.0, 5.0] * 10), "number"),
        (single([1, 0] * 20, [1, 0] * 20), "pass"),
    ],
)
def test_bounds_are_the_ends_of_the_intervals_shown(scores, kind) -> None:
    data = columns(scores, kind)
    table = reduce_repeats(data)
    (row,) = compare_paired(data, "v0", confidence=0.9)
    pair = paired_sample(table, 1, 0)
    assert (lower_bound(pair, 0.05), upper_bound(pair, 0.05)) == pytest.approx(row.interval)
    for i, summary in enumerate(summarise(data, 0.9)):
        sample = (pair.second, pair.first)[i]
        assert (lower_bound(sample, 0.05), upper_bound(sample, 0.05)) == pytest.approx(summary.interval)


def test_no_bounds_where_nothing_can_be_said() -> None:
    assert lower_bound(Sample(np.array([1.0, 2.0]), 2), 0.05) is None
    assert upper_bound(paired_numbers([1.0, 2.0], [2.0, 5.0]), 0.05) is None


# Effect sizes, equivalence


def test_effect_sizes_of_published_systems(shared) -> None:
    """d agrees with evalsig to the digit; it gives no interval. Ours is the noncentral t's, checked by its definition."""
    systems, expected = published(shared)
    for row in expected["pairs"]:
        a, b = systems[row["a"]], systems[row["b"]]
        pair = pair_of_counts(int((a * b).sum()), row["only_b"], row["only_a"], int(((1 - a) * (1 - b)).sum()))
        found = effect_size(pair)
        assert found.d == pytest.approx(cohens_d_paired(a, b).value)
        root, observed = math.sqrt(660), found.d * math.sqrt(660)
        assert scipy.stats.nct.sf(observed, 659, found.d_interval[0] * root) == pytest.approx(0.025, rel=1e-4)
        assert scipy.stats.nct.cdf(observed, 659, found.d_interval[1] * root) == pytest.approx(0.025, rel=1e-4)
        assert found.odds == pytest.approx(row["only_b"] / row["only_a"])
        assert (found.odds_interval[0] > 1) == (row["mcnemar_exact_p"] < 0.05 and row["only_b"] > row["only_a"])


@pytest.mark.parametrize(
    ("pair", "d", "odds", "ends"),
    [
        (pair_of_counts(5, 0, 0, 5), None, None, None),
        (pair_of_counts(5, 6, 0, 5), 0.6, math.inf, (1.18, math.inf)),
        (paired_numbers([1.0, 2.0], [1.0, 2.0]), None, None, None),
    ],
)
def test_effect_sizes_at_their_ends(pair, d, odds, ends) -> None:
    found = effect_size(pair)
    assert found.d == (d if d is None else pytest.approx(d, abs=0.3))
    assert found.odds == odds
    assert found.odds_interval == (ends if ends is None else pytest.approx(ends, abs=0.01))


@pytest.mark.parametrize("cases", [8, 40, 400])
@pytest.mark.parametrize("shift", [1e3, -1e3, 1e6, 1e10])
def test_the_effect_of_differences_that_hardly_vary(cases, shift) -> None:
    """Where t is huge its normal part is nothing beside it, and d over its shift is the root of a χ²/ν. The series
    of scipy would take hours here."""
    noise = np.linspace(-1, 1, cases)
    noise /= noise.std(ddof=1)
    pair = paired_numbers(list(shift + noise), [0.0] * cases)
    found = effect_size(pair)
    assert found.d == pytest.approx(shift, rel=1e-4)
    ends = scipy.stats.chi2.ppf([0.025, 0.975], cases - 1) / (cases - 1)
    low, high = found.d_interval
    assert low < found.d < high
    assert sorted([abs(low), abs(high)]) == pytest.approx(list(abs(shift) * ends**0.5), rel=1e-4)


@pytest.mark.parametrize("cases", [2, 8, 40, 400, 10_000])
def test_the_two_ways_to_the_effects_interval_meet(cases, monkeypatch) -> None:
    d = 999 / cases**0.5
    near = effect._noncentral(d, cases, 0.05)
    monkeypatch.setattr(effect, "FAR", 998.0)
    assert effect._noncentral(d, cases, 0.05) == pytest.approx(near, rel=5e-4)


def test_equivalence_agrees_with_statsmodels() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(0.5, 0.1, 40), random.normal(0.5, 0.1, 40)
    pair = paired_numbers(a, b)
    for margin in (0.02, 0.05, 0.1):
        p = ttost_paired(a, b, -margin, margin)[0]
        assert tost_p(pair, margin) == pytest.approx(float(p))
        assert equivalent(pair, margin) == (p < 0.05)
        assert non_inferior(pair, margin) or not equivalent(pair, margin)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda pair: tost_p(pair, 0), "margin 0 is not above 0"),
        (lambda pair: equivalent(pair, -1), "margin -1 is not above 0"),
        (lambda pair: non_inferior(pair, 0), "margin 0 is not above 0"),
        (lambda pair: tost_p(pair_of_counts(5, 0, 0, 5), 0.1), "differences that vary"),
        (lambda pair: paired_bootstrap(pair_of_counts(5, 0, 0, 5), 0.05), "differences that vary"),
        (lambda pair: two_level_bootstrap([[1.0]], 0.05), "two units at least"),
        (lambda pair: two_level_bootstrap([[1.0], []], 0.05), "each with a value"),
        (lambda pair: dunnett([pair_of_counts(5, 2, 1, 5)], 0.05), "exact tests"),
        (lambda pair: dunnett([pair, paired_numbers([1.0, 2], [3.0, 5])], 0.05), "same cases"),
        (lambda pair: dunnett([paired_numbers([1.0, 2], [1.0, 2])], 0.05), "all equal"),
    ],
)
def test_what_is_refused(call, error) -> None:
    with pytest.raises(UseError, match=error):
        call(paired_numbers([1.0, 2.0, 4.0], [1.0, 1.0, 1.0]))


# evalsig on the same data


def test_tests_of_published_systems_beside_evalsig(shared) -> None:
    """Paired t is the same. evalsig's McNemar is exact up to 25 discordant pairs and approximate above, where ours
    stays exact; its interval is Wald's, ours Newcombe's, which differs by less than half a point at n = 660."""
    systems, expected = published(shared)
    for row in expected["pairs"]:
        a, b = systems[row["a"]], systems[row["b"]]
        theirs = paired_t_test(a, b)
        assert theirs.ci == pytest.approx(row["paired_t95"])
        (found,) = compare_paired(columns(single(a, b)), "v0")
        rough = mcnemar_test(a, b)
        assert found.interval == pytest.approx(rough.ci, abs=0.005)
        assert (rough.method, rough.b_wins, rough.c_wins) == ("mcnemar_chi2", row["only_a"], row["only_b"])
        exact = mcnemar_test(a, b, exact_threshold=1000)
        assert found.p == pytest.approx(exact.p_value)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_agree_with_evalsig(p) -> None:
    assert holm(p) == pytest.approx(their_holm(np.array(p)).p_adjusted)
    assert benjamini_hochberg(p) == pytest.approx(their_bh(np.array(p)).p_adjusted)


def test_corrections_agree_with_r(shared) -> None:
    adjusted = published(shared)[1]["p_adjust"]
    assert holm(adjusted["raw"]) == pytest.approx(adjusted["holm"], rel=1e-9)
    assert benjamini_hochberg(adjusted["raw"]) == pytest.approx(adjusted["BH"], rel=1e-9)
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize("n", [40, 200, 1000])
def test_detectable_differences_beside_evalsig(n) -> None:
    """evalsig's formula leaves out Guenther's term for the estimated variance, z²/2 cases: 1.92 at 5 %."""
    values = np.tile([-1.0, 1.0], n // 2) * 0.3
    sample = Sample(values, n)
    spread = float(values.std(ddof=1))
    theirs = mde(spread, n).mde
    assert smallest_difference(sample, 0.05) == pytest.approx(theirs * math.sqrt(n / (n - 1.9207)), rel=1e-4)
    assert cases_needed(sample, 0.05, 0.05) in (required_n(0.05, spread) + 1, required_n(0.05, spread) + 2)


def test_clustered_bootstrap_beside_evalsig() -> None:
    """evalsig resamples whole clusters and keeps what is in them; ours resamples within as well, and so is wider:
    by the spread within clusters, counted a second time."""
    random = np.random.default_rng(2)
    d = np.repeat(random.normal(0.1, 0.2, 20), 5) + random.normal(0, 0.2, 100)
    low, high = cluster_bootstrap_ci(np.zeros(100), d, np.repeat(np.arange(20), 5)).ci
    ours = two_level_bootstrap(d.reshape(20, 5), 0.05)
    means = d.reshape(20, 5).mean(axis=1)
    extra = 1 + d.reshape(20, 5).var(axis=1).mean() / 5 / means.var()
    assert (ours[1] - ours[0]) / (high - low) == pytest.approx(math.sqrt(extra), rel=0.05)


# Resampling, simultaneous intervals


def test_bootstrap_is_near_the_default_interval() -> None:
    random = np.random.default_rng(3)
    pair = paired_numbers(random.normal(0.6, 0.2, 200), random.normal(0.5, 0.2, 200))
    low, high = lower_bound(pair, 0.025), upper_bound(pair, 0.025)
    assert paired_bootstrap(pair, 0.05) == pytest.approx((low, high), abs=0.004)


def test_two_level_bootstrap_with_uneven_units_holds_the_mean() -> None:
    units = [[1.0], [0.0, 1.0, 1.0], [0.0, 0.0], [1.0, 1.0, 0.0, 0.0]] * 10
    low, high = two_level_bootstrap(units, 0.05)
    mean = np.mean([np.mean(unit) for unit in units])
    assert low < mean < high
    same = two_level_bootstrap([[0.5, 0.5]] * 4, 0.05)
    assert same == (0.5, 0.5)


def test_dunnett_agrees_with_a_published_table() -> None:
    """Dunnett's two-sided 5 % points for equally correlated rows (ρ = ½) are 2.21 for two rows at infinitely many
    degrees of freedom and 2.51 for five (Dunnett 1964, Biometrics 20:482, table II); scipy's dunnett uses the same."""
    random = np.random.default_rng(4)
    for rows, critical in ((2, 2.21), (5, 2.51)):
        base = random.normal(0, 1, (20_000, 1))
        values = random.normal(0, 1, (20_000, rows))
        values -= base
        found = dunnett([paired_numbers(values[:, i], np.zeros(20_000)) for i in range(rows)], 0.05)
        errors = values.std(axis=0, ddof=1) / math.sqrt(20_000)
        for ((low, high), _), error in zip(found, errors, strict=True):
            assert (high - low) / 2 / error == pytest.approx(critical, abs=0.015)


def test_dunnett_is_narrower_than_bonferroni_and_agrees_with_itself() -> None:
    random = np.random.default_rng(5)
    base = random.normal(0, 1, 40)
    pairs = [paired_numbers(random.normal(shift, 1, 40), base) for shift in (0, 0.2, 0.4, 0.6, 0.8)]
    for pair, ((low, high), p) in zip(pairs, dunnett(pairs, 0.05), strict=True):
        bonferroni = upper_bound(pair, 0.005) - lower_bound(pair, 0.005)
        assert high - low < bonferroni
        assert (low > 0 or high < 0) == (p < 0.05)
    assert dunnett([], 0.05) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cases"), [(5, 12), (8, 40)])
def test_dunnett_holds_for_the_whole_table(rows, cases) -> None:
    random, runs, wrong = np.random.default_rng(6), 400, 0
    for _ in range(runs):
        values = random.exponential(1, (rows + 1, cases)) + random.exponential(1, cases)
        wrong += any(p < 0.05 for _, p in dunnett([paired_numbers(v, values[0]) for v in values[1:]], 0.05))
    assert wrong / runs <= at_most(0.05, runs)


# Several answers to one case


@given(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=6), min_size=1, max_size=8), st.integers(1, 3))
def test_best_and_worst_of_k_are_pass_at_k_and_pass_all_k(cases, k) -> None:
    best, worst = best_of(columns([cases]), k), worst_of(columns([cases]), k)
    for i, case in enumerate(cases):
        assert best.value[i] == pytest.approx(pass_at_k(len(case), sum(case), k))
        assert worst.value[i] == pytest.approx(pass_all_k(len(case), sum(case), k))
    assert best.kind == worst.kind == "fraction"
    assert [s.repeats for s in summarise(best)] == [1]


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=6), st.integers(1, 6))
def test_best_of_k_is_the_mean_over_all_draws(values, k) -> None:
    k = min(k, len(values))
    draws = list(combinations(values, k))
    data = columns([[values]], "number")
    assert best_of(data, k).value[0] == pytest.approx(np.mean([max(d) for d in draws]))
    assert worst_of(data, k).value[0] == pytest.approx(np.mean([min(d) for d in draws]))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=6))
def test_flakiness_is_the_share_of_pairs_that_differ(values) -> None:
    (found,) = flakiness(columns([[values]], "fraction")).value
    assert found == pytest.approx(np.mean([a != b for a, b in combinations(values, 2)]))


def test_cases_with_too_few_repeats_are_left_out() -> None:
    data = columns([[[1, 0, 1], [1], [0, 0, 1]], [[1, 1], [0, 1, 1], [1, 1, 1]]])
    assert list(zip(*(best_of(data, 3).variant, best_of(data, 3).case), strict=True)) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    assert list(flakiness(data).case) == [0, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda data: best_of(data, 3), "needs 3 scores a case, and k of at least 1; there are 2"),
        (lambda data: worst_of(data, 0), "k of at least 1"),
        (lambda data: flakiness(columns(single([1]))), "two scores a case at least"),
        (lambda data: best_of(columns(single([0]), "label"), 1), "gives labels"),
    ],
)
def test_what_repeats_refuse(call, error) -> None:
    with pytest.raises(UseError, match=error):
        call(columns([[[1, 0]]]))


# Power


def test_the_smallest_difference_is_the_inverse_of_cases_needed() -> None:
    random = np.random.default_rng(7)
    sample = Sample(random.normal(0, 0.4, 300), 300)
    assert cases_needed(sample, smallest_difference(sample, 0.05), 0.05) in (300, 301)
    equal = Sample(np.zeros(300), 300, (-1.0, 1.0))
    assert cases_needed(equal, smallest_difference(equal, 0.05), 0.05) in (300, 301)


def test_a_suite_sees_what_it_says() -> None:
    """Where the true difference is what a suite says that it sees, it is found in about 80 %."""
    random, found, runs = np.random.default_rng(8), 0, 400

    def suite(shift: float):
        base = random.normal(0.5, 0.1, 80)
        return simulated(np.stack([base, base + shift + random.normal(0, 0.15, 80)])[..., None], "number")

    seen = float(np.median([suite_sees(suite(0.0), "0") for _ in range(50)]))
    for _ in range(runs):
        found += compare_paired(suite(seen), "0")[0].verdict == "higher"
    assert abs(found / runs - 0.8) < 0.02 + 3 * (0.8 * 0.2 / runs) ** 0.5


@pytest.mark.parametrize(
    ("scores", "kind", "reference", "sees"),
    [
        (single([1, 0] * 10), "pass", "v0", None),
        (single([1, 0] * 10, [0, 1] * 10), "label", "v0", None),
        (single([1, 0] * 10, [0, 1] * 10), "pass", "v9", None),
        ([[[1], []], [[], [1]]], "pass", "v0", None),
        (single([1, 0] * 50, [1, 0] * 50), "pass", "v0", 1 - 0.025 ** (1 / 100)),
    ],
)
def test_where_power_can_be_told(scores, kind, reference, sees) -> None:
    found = suite_sees(columns(scores, kind), reference)
    assert found == (None if sees is None else pytest.approx(sees))


def repeated(random, cases: int, repeats: int, between: float, within: float):
    shift = random.normal(0, between, (1, cases, 1))
    scores = random.normal(0, within / math.sqrt(2), (2, cases, repeats))
    scores[1] += shift[0]
    return simulated(scores, "number")


def test_the_variance_is_split_rightly() -> None:
    random = np.random.default_rng(9)
    splits = [variance_split(repeated(random, 60, 4, 0.3, 0.5), "1", "0") for _ in range(200)]
    assert np.mean([s.between for s in splits]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([s.within for s in splits]) == pytest.approx(0.25, rel=0.05)
    assert {(s.cases, s.repeats) for s in splits} == {(60, 4.0)}
    assert variance_split(repeated(random, 60, 1, 0.3, 0.5), "1", "0") is None


@pytest.mark.slow
@pytest.mark.parametrize(("between", "within", "add"), [(0.3, 0.5, "cases"), (0.0, 0.8, "repeats")])
def test_what_is_needed_finds_the_difference(between, within, add) -> None:
    """With the cases (or repeats) that were said to be needed, a difference of 0.1 is found in about 80 %."""
    random, runs = np.random.default_rng(10), 300
    split = variance_split(repeated(random, 2000, 4, between, within), "1", "0")
    asked = needed(VarianceSplit(split.between, split.within, 40, 2.0), 0.1)
    plans = [(asked.cases, 2)] + ([(40, asked.repeats)] if add == "repeats" else [])
    for cases, repeats in plans:
        found = 0
        for _ in range(runs):
            data = repeated(random, cases, repeats, between, within)
            values = data.value + 0.1 * data.variant
            found += compare_paired(replace(data, value=values), "0")[0].verdict == "higher"
        assert abs(found / runs - 0.8) < 0.03 + 3 * (0.8 * 0.2 / runs) ** 0.5
    assert asked.add == add


@pytest.mark.parametrize(
    ("between", "within", "cases", "repeats", "difference", "add"),
    [
        (0.1, 0.1, 1000, 2, 0.1, "nothing"),
        (0.1, 0.1, 50, 2, 0.05, "cases"),
        (0.0, 0.19, 40, 2, 0.1, "repeats"),
        (0.5, 0.1, 40, 2, 0.1, "cases"),
    ],
)
def test_what_to_add(between, within, cases, repeats, difference, add) -> None:
    found = needed(VarianceSplit(between, within, cases, repeats), difference)
    assert found.add == add
    with pytest.raises(UseError, match="not above 0"):
        needed(VarianceSplit(between, within, cases, repeats), 0)


@settings(max_examples=40)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(8, 30))
def test_bounds_turn_with_the_sides(first, second, neither) -> None:
    there, back = pair_of_counts(0, first, second, neither), pair_of_counts(0, second, first, neither)
    assert lower_bound(there, 0.05) == pytest.approx(-upper_bound(back, 0.05))
    assert mcnemar_exact([there]) == pytest.approx(mcnemar_exact([back]))
    assert lower_bound(binary([1] * neither), 0.05) < 1


FIRST, MORE = 2, 6


def repeats_of_the_unsettled(rate: float) -> dict[tuple[int, ...], float]:
    """Each course that a case can take that is asked twice and, where the two differ, six times more → its chance."""
    first = list(product((0, 1), repeat=FIRST))
    courses = [c for c in first if len({*c}) == 1]
    courses += [c + more for c in first if len({*c}) == 2 for more in product((0, 1), repeat=MORE)]
    return {c: rate ** sum(c) * (1 - rate) ** (len(c) - sum(c)) for c in courses}


@pytest.mark.parametrize(("rate", "expected"), [(0.9, 95.4), (0.8, 87.2), (0.5, 50.0), (0.4, 36.4), (0.6, 63.6)])
def test_why_unsettled_cases_are_not_asked_more_often(rate: float, expected: float) -> None:
    """What docs/statistics.md says of such a plan: its plain mean is biased, its unbiased one is that of the first two."""
    chances = repeats_of_the_unsettled(rate)
    assert sum(chances.values()) == pytest.approx(1)
    means = reduce_repeats(columns([[list(course) for course in chances]])).means[0]
    assert 100 * float(means @ [*chances.values()]) == pytest.approx(expected)
    ways = Counter((len(c), sum(c)) for c in chances)
    passing = Counter((len(c), sum(c)) for c in chances if c[0])
    unbiased = {c: passing[len(c), sum(c)] / ways[len(c), sum(c)] for c in chances}
    assert sum(unbiased[c] * chance for c, chance in chances.items()) == pytest.approx(rate)
    assert all(value == sum(c[:FIRST]) / FIRST for c, value in unbiased.items())


@pytest.mark.parametrize(
    ("wavering", "trials", "even"),
    [([(0.05, 0.5)], 3.2, 3.8), ([(0.3 / 1000, (i + 0.5) / 1000) for i in range(1000)], 4.0, 3.6)],
)
def test_what_a_second_part_for_every_case_would_buy(wavering: list, trials: float, even: float) -> None:
    """Two trials, then one more or, where they differ, as many as `trials` a case allow; shares that are best."""
    noise = sum(share * p * (1 - p) for share, p in wavering)
    more = 1 + (trials - 3) / (2 * noise)
    second = sum(share * p * (1 - p) * (1 - 2 * p * (1 - p) * (1 - 1 / more)) for share, p in wavering)
    within = (noise / 2) * second / (noise / 2 + second)
    assert noise / within == pytest.approx(even, abs=0.05)
    steady = (1 - sum(share for share, _ in wavering)) / 2
    between = steady + sum(share * p * p for share, p in wavering) - 0.25
    assert noise / trials / (between + noise / trials) < 0.06
