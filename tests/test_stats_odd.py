"""No number that a scorer can give makes the default methods hang, crash or say what is not so."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_stats import columns, paired_numbers, single

from workbench.errors import UseError
from workbench.records import ScoreColumns
from workbench.scorers.base import MOST_VALUE
from workbench.stats.agreement import krippendorff_alpha
from workbench.stats.axes import axis_importance
from workbench.stats.bootstrap import paired_bootstrap
from workbench.stats.bounds import lower_bound, upper_bound
from workbench.stats.curve import response_curve
from workbench.stats.effect import effect_size
from workbench.stats.gates import Claim, cases_to_show, cases_without_one, decide, power_to_fail
from workbench.stats.paired import cases_needed, compare_paired
from workbench.stats.pairwise import Vote, bradley_terry
from workbench.stats.power import VarianceSplit, needed, smallest_difference
from workbench.stats.ppi import PeopleSample, ppi_mean
from workbench.stats.ppi_units import PeopleUnits, UnitLabels
from workbench.stats.racing import race_field, race_levels
from workbench.stats.reduce import paired_sample, reduce_repeats, sample
from workbench.stats.repeats import best_of, worst_of
from workbench.stats.sequential import Look, plan_looks
from workbench.stats.summary import summarise
from workbench.store.runs import VariantRow
from workbench.views.axes import TOGETHER, axes_view
from workbench.views.charts import axis, text_bar
from workbench.views.model import scorer_view

ODD = (0.0, -0.0, 5e-324, 1e-300, 1e-160, 1e-13, 1e-7, 1.0, 7.0, 7.0000001, 7.0000002, 1e9, 1e9 + 1, 1e16, 1e99, 1e100)
UNITS = {"pass": st.integers(0, 1), "fraction": st.integers(0, 8).map(lambda k: k / 8)}
VALUES = {
    **UNITS,
    "fraction": UNITS["fraction"] | st.floats(0, 1) | st.sampled_from([1e-300, 1e-13, 1 - 1e-16]),
    "number": st.sampled_from(ODD + tuple(-value for value in ODD)) | st.floats(-MOST_VALUE, MOST_VALUE),
}
WHOLE = {**UNITS, "number": st.integers(-(2**20), 2**20)}


@st.composite
def tables(draw, values: Mapping[str, st.SearchStrategy] = VALUES, missing: bool = True) -> ScoreColumns:
    """Two or three variants on up to 24 cases, with repeats, gaps and clusters."""
    kind = draw(st.sampled_from(sorted(values)))
    cases, most = draw(st.integers(1, 24)), draw(st.sampled_from([1, 1, 3]))
    cell = st.lists(values[kind], min_size=0 if missing else 1, max_size=most)
    if values is VALUES and kind == "number" and draw(st.booleans()):
        cell = st.lists(st.sampled_from([7.0000001, 7.0000002]), min_size=1, max_size=most)  # hardly any spread
    variants = draw(st.lists(st.lists(cell, min_size=cases, max_size=cases), min_size=2, max_size=3))
    size = draw(st.sampled_from([0, 0, 2]))
    return columns(variants, kind, [f"k{i // size}" for i in range(cases)] if size else None)


def claims(data: ScoreColumns) -> list:
    return [*summarise(data), *compare_paired(data, "v0")]


def changed(data: ScoreColumns, change: Callable[[float], float]) -> ScoreColumns:
    return replace(data, value=[change(value) for value in data.value])


@settings(max_examples=250, deadline=5_000)
@given(tables())
def test_claims_are_finite_and_hold_what_they_are_about(data) -> None:
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        shown = scorer_view(data, {name: name for name in data.variants}, "v0", 0.05, 0.95)
    for claim in (*shown.summaries, *shown.comparisons):
        value = claim.mean if hasattr(claim, "mean") else claim.difference
        assert value is None or math.isfinite(value)
        p = getattr(claim, "p", None)
        assert p is None or 0 <= p <= 1
        if claim.interval is None:
            assert claim.why
            continue
        low, high = claim.interval
        assert math.isfinite(low) and math.isfinite(high) and low < high
        room = 1e-12 * max(1.0, *map(abs, data.value))
        assert low - room <= value <= high + room
        if (found := getattr(claim, "effect", None)) is not None and found.d is not None:
            assert found.d_interval[0] < found.d_interval[1]


@settings(max_examples=150, deadline=5_000)
@given(tables())
def test_a_difference_finer_than_rounding_is_no_claim(data) -> None:
    """Numbers are known to their digits: what differs beyond them is not called higher or lower."""
    for row in compare_paired(data, "v0"):
        if data.kind == "number" and row.interval is not None:
            assert row.interval[1] - row.interval[0] > 1e-14 * max(map(abs, data.value))


@settings(max_examples=100, deadline=5_000)
@given(tables())
def test_the_other_way_round_the_sign_turns(data) -> None:
    assume(data.variants[:2] == ("v0", "v1"))
    there = next(row for row in compare_paired(data, "v0") if row.variant == "v1")
    back = next(row for row in compare_paired(data, "v1") if row.variant == "v0")
    assert (there.difference, there.p) == (None if back.difference is None else 0.0 - back.difference, back.p)
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)
    turned = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
    assert there.verdict == turned.get(back.verdict, back.verdict)
    if there.interval is None:
        assert back.interval is None
    else:
        room = 1e-9 * max(map(abs, there.interval))
        assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), rel=1e-9, abs=room)


@settings(max_examples=100, deadline=5_000)
@given(tables(WHOLE), st.integers(-300, 300))
def test_the_unit_of_numbers_changes_nothing(data, power) -> None:
    """Powers of two are exact, so all is: means and ends move by the same factor, the rest not at all."""
    assume(data.kind == "number")
    factor = 2.0**power
    for one, other in zip(claims(data), claims(changed(data, lambda value: value * factor)), strict=True):
        ends = None if one.interval is None else tuple(factor * end for end in one.interval)
        assert other.interval == ends
        assert getattr(one, "p", None) == getattr(other, "p", None)
        assert getattr(one, "verdict", None) == getattr(other, "verdict", None)


@settings(max_examples=100, deadline=5_000)
@given(tables(WHOLE), st.sampled_from([1, -1000, 2**20, -(2**30)]))
def test_what_is_added_to_all_is_no_difference(data, constant) -> None:
    assume(data.kind == "number")
    before, after = compare_paired(data, "v0"), compare_paired(changed(data, lambda value: value + constant), "v0")
    room = 1e-9 * (abs(constant) + 2**20)
    for one, other in zip(before, after, strict=True):
        assert (one.p, one.verdict, one.wins, one.ties) == (other.p, other.verdict, other.wins, other.ties)
        assert (one.interval is None) == (other.interval is None)
        if one.interval is not None:
            assert other.interval == pytest.approx(one.interval, abs=room)


@settings(max_examples=80, deadline=5_000)
@given(tables(WHOLE), st.randoms(use_true_random=False))
def test_the_order_of_cases_changes_nothing(data, random_: random.Random) -> None:
    cases = list(range(len(data.cases)))
    random_.shuffle(cases)
    shuffled = replace(
        data,
        cases=tuple(data.cases[i] for i in cases),
        clusters=tuple(data.clusters[i] for i in cases),
        case=[cases.index(case) for case in data.case],
    )
    for one, other in zip(claims(data), claims(shuffled), strict=True):
        assert (one.interval is None) == (other.interval is None)
        if one.interval is not None:
            room = 1e-9 * max(1.0, *map(abs, one.interval))
            assert other.interval == pytest.approx(one.interval, abs=room)
        assert getattr(one, "p", None) == pytest.approx(getattr(other, "p", None))
        assert getattr(one, "verdict", None) == getattr(other, "verdict", None)


@settings(max_examples=100, deadline=5_000)
@given(
    st.lists(st.lists(st.integers(-50, 50), min_size=5, max_size=12), min_size=2, max_size=2), st.sampled_from([2, 3])
)
def test_interval_and_test_of_clusters_agree(means, size) -> None:
    """Both are t on cluster means: the interval excludes 0 exactly where p is at most 0.05."""
    units = min(map(len, means))
    cells = single(*[[value for value in row[:units] for _ in range(size)] for row in means])
    (row,) = compare_paired(columns(cells, "number", [f"k{i // size}" for i in range(units * size)]), "v0")
    if row.interval is not None:
        assert (row.interval[0] > 0 or row.interval[1] < 0) == (row.p <= 0.05)


@settings(max_examples=150, deadline=5_000)
@given(tables(), st.sampled_from(ODD), st.sampled_from([0.05, 0.5, 1e-6]))
def test_a_gate_does_not_pass_what_it_fails(data, bound, alpha) -> None:
    table = reduce_repeats(data)
    own, pair = sample(table, 1), paired_sample(table, 1, 0)
    for found in (own, pair):
        if found is not None and lower_bound(found, alpha) is not None:
            assert lower_bound(found, alpha) <= upper_bound(found, alpha)
    above, below = decide([Claim(own, "at_least", bound, alpha)]), decide([Claim(own, "at_most", bound, alpha)])
    lower = decide([Claim(own, "at_most", bound - max(1e-9, 1e-9 * bound), alpha)])
    assert {above[0].answer, below[0].answer} != {"fail"}
    assert (above[0].answer, lower[0].answer) != ("pass", "pass")
    for decision in decide([Claim(pair, "no_worse_than", bound, alpha)] * 2):
        assert decision.value is None or math.isfinite(decision.value)


# What was found to crash, to hang or to be said without ground


def test_differences_of_rounding_alone_are_none() -> None:
    """All scores are 0.1 apart as they were written; in binary the differences are so only nearly."""
    base = [round(1e6 * x, 3) for x in np.random.default_rng(1).normal(size=20)]
    (row,) = compare_paired(columns(single(base, [x + 0.1 for x in base]), "number"), "v0")
    assert (row.interval, row.verdict, row.why) == (None, "not enough data", "all 20 values are the same")


@pytest.mark.parametrize("unit", [1e-90, 1e-13, 1.0, 1e90])
def test_small_numbers_are_numbers(unit) -> None:
    first, second = [1.0, 2, 3, 4, 5, 6, 7, 8], [2.0, 4, 5, 5, 7, 8, 9, 9]
    (row,) = compare_paired(columns(single([unit * x for x in first], [unit * x for x in second]), "number"), "v0")
    assert (row.wins, row.verdict) == (8, "higher")
    assert row.interval == pytest.approx((unit * 1.19232, unit * 2.05768), rel=1e-5)


def test_what_is_nearer_to_0_than_any_square_counts_as_0() -> None:
    (row,) = compare_paired(columns(single([1e-300] * 9, [2e-300 * i for i in range(9)]), "number"), "v0")
    assert (row.difference, row.ties, row.interval) == (0.0, 9, None)


def test_a_bound_of_even_odds_is_the_mean() -> None:
    """As a gate with `confidence: 0.5` asks."""
    data = sample(reduce_repeats(columns(single([0.25, 0.5, 0.75, 0.5] * 3), "fraction")), 0)
    assert lower_bound(data, 0.5) == upper_bound(data, 0.5) == 0.5


@pytest.mark.parametrize(("confidence", "d"), [(0.999999, 1e3), (0.999999999, 1e9), (0.95, 1e9)])
def test_the_effect_of_two_or_three_cases(confidence, d) -> None:
    for spread in ([-1.0, 1.0], [-1.0, 0.0, 1.0]):
        noise = np.array(spread) / np.std(spread, ddof=1)
        found = effect_size(paired_numbers(list(d + noise), [0.0] * len(noise)), confidence)
        assert found.d_interval[0] < found.d < found.d_interval[1]


@pytest.mark.parametrize("margin", [5e-324, 1e-300, 1e-9])
def test_no_number_of_cases_is_told_for_a_margin_of_next_to_nothing(margin) -> None:
    rows = compare_paired(
        columns(single([0.0, 0.5, 1.0, 0.25] * 3, [0.5, 0.25, 1.0, 0.0] * 3), "fraction"), "v0", margin
    )
    same = compare_paired(columns(single([1, 1] * 5, [1, 1] * 5)), "v0", margin)
    assert [row.cases_needed for row in (*rows, *same)] == [None, None]
    assert cases_to_show(0.5, margin, 0.05) is None and cases_without_one(margin, 0.05) is None
    assert needed(VarianceSplit(0.2, 0.1, 20, 2), margin).cases is None


def test_numbers_that_do_not_vary_show_nothing() -> None:
    """Without a range there is no bound on what has not been seen: neither cases needed nor a difference to be seen."""
    data = columns(single([3.0] * 30, [3.0] * 30), "number")
    differences = paired_sample(reduce_repeats(data), 1, 0).differences
    assert (smallest_difference(differences, 0.05), cases_needed(differences, 5.0, 0.05)) == (None, None)
    assert scorer_view(data, {"v0": "a", "v1": "b"}, "v0", 0.05, 0.95).power == ""


def test_power_where_nothing_varies() -> None:
    assert (power_to_fail(0.1, 0.0, 9, 0.05), power_to_fail(0.0, 0.0, 9, 0.05)) == (1.0, 0.05)


def test_the_bootstrap_of_tiny_numbers() -> None:
    first = [1.0, 2, 4, 3, 7, 5, 8, 9]
    low, high = paired_bootstrap(paired_numbers(first, [0.0] * 8), 0.05)
    found = paired_bootstrap(paired_numbers([2.0**-370 * x for x in first], [0.0] * 8), 0.05)
    assert found == (2.0**-370 * low, 2.0**-370 * high)


def test_the_best_of_thousands() -> None:
    data = columns([[[1] + [0] * 1999]], "pass")
    assert best_of(data, 1000).value == pytest.approx([0.5])
    assert worst_of(data, 1000).value == [0.0]


def test_a_chart_of_one_huge_number() -> None:
    assert text_bar(1e30, 1e30, 1e30, *axis([(1e30, 1e30)], symmetric=False)).count("●") == 1


def test_a_race_drops_none_for_differences_of_both_signs() -> None:
    """Scores that hardly vary are not taken for scores that do not."""
    rng = np.random.default_rng(2)
    cells = [list(0.5 + 1e-8 * rng.normal(size=40) + shift) for shift in (1e-9, 0.0)]
    field = race_field(columns(single(*cells), "fraction"), ["v0", "v1"], 1, Look(0.05), 0.05)
    assert [place.dropped for place in field.places] == [False]


def test_the_levels_of_a_race_between_two_with_even_odds() -> None:
    assert all(0 < level <= 1 for level in race_levels(plan_looks(400, 16), 2, 1, 0.5))


def test_strengths_are_not_told_where_every_vote_is_a_tie() -> None:
    with pytest.raises(UseError, match="every vote is a tie"):
        bradley_terry([Vote("a", "b", "tie", count=9)])


@pytest.mark.parametrize("label", [10**400, 1e308, math.nan, math.inf])
def test_labels_that_nothing_can_be_counted_with(label) -> None:
    with pytest.raises(UseError, match="use 'nominal'"):
        krippendorff_alpha([[label, 1] * 5, [1, 2] * 5], "interval")


def test_people_and_judge_of_unequal_chances_stay_in_their_range() -> None:
    rng = np.random.default_rng(4)
    chances = [0.01, *[1.0] * 59]
    found = ppi_mean([1.0, *rng.integers(0, 2, 59).tolist()], [0.0] * 60, [0.0] * 9, chances)
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    alike = ppi_mean([1.0] * 60, [1.0] * 60, [1.0] * 100, [0.1, 0.2] * 30)
    assert alike.interval[0] < 1


def test_people_and_judge_without_any_spread() -> None:
    assert ppi_mean([3.0] * 60, [3.0] * 60, [3.0] * 9, bounds=None).interval is None
    assert PeopleSample(*(np.full(60, 3.0),) * 3).ends(0.05) is None
    side = UnitLabels(np.ones(9), np.repeat(np.arange(9), 6), np.ones(54), np.ones(54), np.ones(54))
    units = PeopleUnits((side,), 54, (0.0, 1.0))
    assert units.estimate(0.95).interval is None and units.ends(0.05)[0] < 1
    assert units.needed(1e-300) == (0, 0) and PeopleSample(*(np.arange(60.0),) * 3).needed(1e-300) == (None, None)


def test_axes_that_change_together_are_not_told_apart() -> None:
    """As of `models: [{use: a, params: {temperature: 0}}, {use: b, params: {temperature: 1}}]`."""
    rows = [VariantRow(f"v{i}", i, f"v{i}", "p", "r", f"m{i}", {"params": {"temperature": i}}) for i in range(2)]
    found = axes_view(columns(single([0, 1] * 6, [1, 1] * 6)), rows)
    assert (found.rows, found.curves, found.why) == ((), (), TOGETHER)


def test_an_axis_that_moves_every_case_alike_is_tested_by_signs() -> None:
    """There is no noise to hold it against, so that F would be endless and p 0."""
    base = [round(1e6 * x, 3) for x in np.random.default_rng(1).normal(size=20)]
    data = columns(single(base, [x + 0.1 for x in base]), "number")
    (row,) = axis_importance(data, {"prompt": ["a", "b"]})
    assert (row.p, row.interval) == (2.0**-19, None)


def test_slopes_of_rounding_alone_are_none() -> None:
    base = [round(1e6 * x, 3) for x in np.random.default_rng(1).normal(size=20)]
    found = response_curve(columns(single(base, [x + 0.1 for x in base]), "number"), [0.0, 1.0])
    assert found.slope == pytest.approx(0.1) and found.slope_interval is None
