"""The line under a comparison: which variant is best, and what the cases can show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_stats import columns, single

from workbench.records import Kind
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.ranking import Ranking
from workbench.views.model import scorer_view
from workbench.views.ranking import power_line, standing

LABELS = {"v0": "zero-shot", "v1": "few-shot", "v2": "chain\x1b[31m"}


def ranking(*kept: str, share: float = 0.83) -> Ranking:
    return Ranking("v1", {"v0": 0.1, "v1": share, "v2": 0.07}, kept, 200, 0.95)


@pytest.mark.parametrize(
    ("found", "power", "line"),
    [
        (None, "", ""),
        (None, "12 cases can.", "12 cases can."),
        (
            ranking("v0", "v1"), "200 cases can.",
            "few-shot is best in 83 % of resamples; zero-shot can't be told from it (95 % confidence, 200 cases). "
            "200 cases can.",
        ),
        (ranking("v1", share=0.999), "", "few-shot is shown to be the best (95 % confidence, 200 cases), best in >99 % of resamples."),
        (ranking("v1", "v2"), "", "few-shot is best in 83 % of resamples; chain␛[31m can't be told from it (95 % confidence, 200 cases)."),
        (
            ranking("v0", "v1", "v2"), "",
            "No variant is shown to be worse than the best (95 % confidence, 200 cases); few-shot is best in 83 % of resamples.",
        ),
    ],
)  # fmt: skip
def test_lines(found, power, line) -> None:
    assert standing(found, power, LABELS) == line


def compared(pairs: int, kind: Kind = "pass", margin: float = 0.05) -> PairedComparison:
    return PairedComparison("v1", "v0", kind, margin, 0.95, 1, pairs=pairs)


NO = "can't be counted on to show any difference to the reference, however large."


@pytest.mark.parametrize(
    ("sees", "rows", "line"),
    [
        (None, [], ""),
        (0.31, [], ""),
        (None, [compared(5)], f"5 cases {NO}"),
        (None, [compared(1)], f"1 case {NO}"),
        (1.0, [compared(6)], f"6 cases {NO}"),
        (1.7, [compared(8, "number")], "8 cases can show a difference to the reference of about 1.7 or more (80 % power); what is smaller may be chance."),
        (
            0.307, [compared(14), compared(12)],
            "12 cases can show a difference to the reference of about 31 points or more (80 % power); what is smaller "
            "may be chance. The suite's margin is 5 points.",
        ),
        (
            0.0612, [compared(900, margin=0.0625)],
            "900 cases can show a difference to the reference of about 6.1 points or more (80 % power), which is within "
            "the suite's margin of 6.25 points.",
        ),
    ],
)  # fmt: skip
def test_what_cases_can_show(sees, rows, line) -> None:
    kind = rows[0].kind if rows else "pass"
    assert power_line(sees, rows, kind) == line


@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 1024).map(lambda n: n / 1024), min_size=40, max_size=40),  # to which 7 is added exactly
    st.lists(st.integers(0, 1024).map(lambda n: n / 1024), min_size=40, max_size=40),
)
def test_it_never_goes_by_the_difference_that_was_seen(cases, first, second) -> None:
    """A constant added to one variant changes the difference, not its variance, nor what is said."""
    one = [columns([[[x / 2] for x in side[:cases]] for side in (first, second)], "number")]
    one.append(columns([[[x / 2] for x in first[:cases]], [[x / 2 + 7] for x in second[:cases]]], "number"))
    said = [scorer_view(c, LABELS, "v0", 0.05, 0.95) for c in one]
    assert said[0].sees == pytest.approx(said[1].sees, abs=1e-9)
    assert (said[0].sees is None) == (cases < 8 or said[0].power == "")  # nothing is said of what does not vary
    assert cases >= 8 or "can't be counted on" in said[0].power


@pytest.mark.parametrize(("cases", "variants", "can"), [(5, 2, False), (6, 2, True), (8, 11, False), (9, 11, True)])
def test_so_few_cases_that_no_test_can_come_to_its_level(cases, variants, can) -> None:
    """With 6 cases the most extreme of 2⁶ outcomes has p = 0.031; with 8 and ten comparisons, 0.008 > 0.05 ÷ 10."""
    base, better = [1, 0] * 5, [1] * 10
    scores = columns(single(base[:cases], *[better[:cases]] * (variants - 1)))
    names = {f"v{i}": f"v{i}" for i in range(variants)}
    view = scorer_view(scores, names, "v0", 0.05, 0.95)
    assert (view.sees is not None) == can
    extreme = columns(single([0] * cases, *[[1] * cases] * (variants - 1)))
    shown = [row.verdict == "better" for row in compare_paired(extreme, "v0")]
    assert shown == [can] * (variants - 1), "which is what the comparison itself does"


@pytest.mark.parametrize(
    ("variants", "ranked", "line"), [(1, False, ""), (2, False, "40 cases can"), (3, True, "No variant is shown")]
)
def test_three_variants_are_ranked(variants, ranked, line) -> None:
    view = scorer_view(columns(single(*[[1, 0, 1, 1] * 10] * variants)), LABELS, "v0", 0.05, 0.95)
    assert (view.ranking is not None) == ranked
    assert view.standing.startswith(line) and bool(view.standing) == bool(line)
