"""Agreement of raters, against R's psych, statsmodels and published figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from workbench.errors import UseError
from workbench.stats.agreement import cohen_kappa, krippendorff_alpha


@pytest.fixture
def pandalm(shared):
    rows = [json.loads(line) for line in (shared / "pandalm_human_pairs.jsonl").read_text().splitlines()]
    return rows, json.loads((shared / "expected" / "pandalm_human_pairs.json").read_text())


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, 3), (2, 3)])
def test_kappa_of_people_agrees_with_r(pandalm, one, other) -> None:
    rows, expected = pandalm
    found = cohen_kappa([r[f"annotator{one}"] for r in rows], [r[f"annotator{other}"] for r in rows])
    right = expected["agreement"][f"a{one}_a{other}"]
    assert found.items == right["n"]
    assert found.accuracy == pytest.approx(right["agreement"], rel=1e-9)
    assert found.value == pytest.approx(right["kappa"], rel=1e-9)
    assert found.interval == pytest.approx(right["kappa_ci95"], rel=1e-6)


@pytest.mark.parametrize("judge", ["gpt35", "pandalm7b"])
def test_kappa_of_judges_agrees_with_r(pandalm, judge) -> None:
    rows, expected = pandalm
    found = cohen_kappa([r["majority"] for r in rows], [r[judge] for r in rows])
    right = expected["judge_vs_majority"][judge]
    assert (found.value, found.accuracy) == (pytest.approx(right["cohen_kappa"]), pytest.approx(right["accuracy"]))
    assert found.base_rate == pytest.approx(230 / 500)
    assert found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]


def test_alpha_of_people_agrees_with_r(pandalm) -> None:
    rows, expected = pandalm
    found = krippendorff_alpha([[r[f"annotator{i}"] for r in rows] for i in (1, 2, 3)])
    assert found.value == pytest.approx(expected["agreement"]["krippendorff_alpha_nominal"], rel=1e-9)
    assert found.interval[0] < found.value < found.interval[1]
    assert found.interval[1] - found.interval[0] == pytest.approx(0.07, abs=0.02)


def test_alpha_is_nearly_fleiss_kappa(pandalm) -> None:
    """With every item rated by all, nominal alpha is Fleiss' kappa and (1 − kappa)/(n·raters): the small-sample
    correction is the only difference."""
    rows, _ = pandalm
    ratings = [[r[f"annotator{i}"] for r in rows] for i in (1, 2, 3)]
    kappa = fleiss_kappa(aggregate_raters(np.array(ratings).T)[0])
    assert krippendorff_alpha(ratings).value == pytest.approx(kappa + (1 - kappa) / (3 * len(rows)), rel=1e-9)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, alpha) -> None:
    """Four observers, twelve units, with gaps: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability."""
    table = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    ratings = [[None if cell == "." else int(cell) for cell in row.split()] for row in table]
    found = krippendorff_alpha(ratings, level)
    assert round(found.value, 3) == alpha
    assert found.items == 11  # the twelfth was rated once


@pytest.mark.parametrize(
    ("a", "b", "value", "low", "why"),
    [
        (list("xyxyxyxyxy"), list("xyxyxyxyxy"), 1.0, 0.38, ""),
        (list("xyxyxy"), list("xyxyxx"), 2 / 3, None, "not enough data: 6 items"),
        (list("xxxxxxxxxx"), list("xxxxxxxxxx"), None, None, "both gave one and the same label"),
        (list("xyxyxyxyxy"), list("yxyxyxyxyx"), -1.0, None, "a rater gave one label only, or never the other's"),
        (list("xyxyxyxyxy"), list("xxxxxxxxxx"), 0.0, None, "a rater gave one label only"),
    ],
)
def test_kappa_at_its_ends(a, b, value, low, why) -> None:
    found = cohen_kappa(a, b)
    assert found.value == (value if value is None else pytest.approx(value))
    assert found.why.startswith(why) and bool(found.why) == bool(why)
    assert found.interval is None if low is None else found.interval[0] == pytest.approx(low, abs=0.01)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: cohen_kappa(["a"], ["a", "b"]), "1 labels can't be paired with 2"),
        (lambda: cohen_kappa(["a", None], [None, "b"]), "no item is labelled by both"),
        (lambda: krippendorff_alpha([["a", None], [None, "b"]]), "no item is labelled by two"),
        (lambda: krippendorff_alpha([["a"], ["b", "c"]]), "lists differ in length"),
        (lambda: krippendorff_alpha([["a"], ["b"]], "ordinal"), "no numbers"),
        (lambda: cohen_kappa(["a"], ["a"], 95), "confidence 95"),
    ],
)
def test_what_is_refused(call, error) -> None:
    with pytest.raises(UseError, match=error):
        call()


labels = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=8, max_size=40)


@given(labels)
def test_kappa_is_symmetric_and_bounded(pairs) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = cohen_kappa(a, b), cohen_kappa(b, a)
    assert there.value == (None if back.value is None else pytest.approx(back.value))
    if there.interval:
        assert -1 <= there.interval[0] <= there.value <= there.interval[1] <= 1


def test_kappa_intervals_cover() -> None:
    """95 % intervals at n = 100 hold the true kappa of a judge that is right 85 % of the time."""
    random, covered, runs = np.random.default_rng(2), 0, 400
    for _ in range(runs):
        truth = random.random(100) < 0.5
        judge = np.where(random.random(100) < 0.85, truth, ~truth)
        low, high = cohen_kappa(truth.tolist(), judge.tolist()).interval
        covered += low <= 0.7 <= high
    assert covered / runs >= 0.95 - 0.01 - 3 * (0.05 * 0.95 / runs) ** 0.5
