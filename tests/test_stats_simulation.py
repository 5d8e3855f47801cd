"""Simulated suites: how often the default methods err. Seeds are fixed, so a result can't flicker."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.records import ScoreColumns
from workbench.stats.paired import compare_paired
from workbench.stats.summary import summarise

RUNS = 400
Draw = Callable[[np.random.Generator], np.ndarray]
"""Makes scores, variant × case × repeat, of variants that are equally good."""


def columns(scores: np.ndarray, kind: str, clusters: list[str] | None = None) -> ScoreColumns:
    variants, cases, _ = scores.shape
    index = np.indices(scores.shape).reshape(3, -1)
    names = tuple(map(str, range(cases)))
    return ScoreColumns(
        "s", kind, names[:variants] if variants <= cases else tuple(map(str, range(variants))), names,
        tuple(clusters) if clusters else (None,) * cases, index[0], index[1], index[2], scores.ravel(),
    )  # fmt: skip


def binary(cases: int, variants: int = 2, repeats: int = 1) -> Draw:
    """Cases differ in difficulty, as real ones do; every variant solves a case with the same probability."""
    return lambda rng: (rng.random((variants, cases, repeats)) < rng.beta(1.5, 1, (1, cases, 1))).astype(float)


def skewed(cases: int, variants: int = 2) -> Draw:
    return lambda rng: rng.exponential(1.0, (variants, cases, 1)) * rng.lognormal(0, 1, (1, cases, 1))


def fractions(cases: int) -> Draw:
    return lambda rng: rng.beta(0.5, 0.3, (2, cases, 1))


def clustered(clusters: int, size: int) -> Draw:
    """Each variant is better on some clusters and worse on others, none on average."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        shift = np.repeat(rng.normal(0, 0.25, (2, clusters)), size, axis=1)
        return (rng.random((2, clusters * size)) < np.clip(0.5 + shift, 0, 1))[..., None].astype(float)

    return draw


def at_most(nominal: float, runs: int) -> float:
    """The house's bar: nominal + 1 point + three standard errors of the simulation."""
    return nominal + 0.01 + 3 * (nominal * (1 - nominal) / runs) ** 0.5


@pytest.mark.parametrize(
    ("draw", "kind", "cluster_size"),
    [
        pytest.param(binary(7), "pass", 0, id="7 cases"),
        pytest.param(binary(12), "pass", 0, id="12 cases"),
        pytest.param(binary(60), "pass", 0, id="60 cases"),
        pytest.param(binary(60, variants=6), "pass", 0, id="5 comparisons"),
        pytest.param(binary(8, repeats=3), "pass", 0, id="8 cases of 3 repeats"),
        pytest.param(binary(40, repeats=5), "pass", 0, id="40 cases of 5 repeats"),
        pytest.param(fractions(10), "fraction", 0, id="fractions"),
        pytest.param(skewed(30), "number", 0, id="skewed numbers"),
        pytest.param(skewed(30, variants=4), "number", 0, id="3 comparisons of skewed numbers"),
        pytest.param(clustered(5, 6), "pass", 6, id="5 clusters"),
        pytest.param(clustered(12, 4), "pass", 4, id="12 clusters"),
    ],
)
def test_false_positives_of_a_table(draw: Draw, kind: str, cluster_size: int) -> None:
    """Among equally good variants, the share of tables that call any of them better or worse."""
    rng = np.random.default_rng(7)
    called = covered = 0
    for _ in range(RUNS):
        scores = draw(rng)
        clusters = [str(i // cluster_size) for i in range(scores.shape[1])] if cluster_size else None
        rows = compare_paired(columns(scores, kind, clusters), "0")
        called += any(row.verdict in ("better", "worse", "higher", "lower") for row in rows)
        covered += all(row.interval is None or row.interval[0] <= 0 <= row.interval[1] for row in rows)
    assert called / RUNS <= at_most(0.05, RUNS)
    assert 1 - covered / RUNS <= at_most(0.05, RUNS)


@pytest.mark.parametrize(
    ("cases", "repeats", "clusters", "kind"),
    [(5, 1, 0, "pass"), (20, 1, 0, "pass"), (60, 1, 0, "pass"), (30, 5, 0, "pass"), (6, 3, 0, "fraction"),
     (48, 1, 12, "pass"), (16, 1, 4, "pass")],
)  # fmt: skip
def test_coverage_of_summary_intervals(cases: int, repeats: int, clusters: int, kind: str) -> None:
    """The 95 % interval of a mean holds the true one in at least 95 % of runs, less the house's bar."""
    rng = np.random.default_rng(11)
    true, missed = 0.6, 0
    for _ in range(RUNS):
        units = clusters or cases
        ability = np.repeat(rng.beta(3, 2, units), cases // units)  # of mean 0.6
        scores = (rng.random((1, cases, repeats)) < ability[None, :, None]).astype(float)
        names = [str(i // (cases // units)) for i in range(cases)] if clusters else None
        (summary,) = summarise(columns(scores, kind, names))
        assert summary.interval is not None
        missed += not summary.interval[0] <= true <= summary.interval[1]
    assert missed / RUNS <= at_most(0.05, RUNS)


def test_power_where_there_is_a_difference() -> None:
    """With the cases that were said to be needed, a true difference of the margin is found in about 80 %."""
    rng = np.random.default_rng(5)

    def suite(cases: int) -> ScoreColumns:
        base = rng.normal(0.5, 0.1, cases)
        other = base + 0.05 + rng.normal(0, 0.15, cases)
        return columns(np.clip(np.stack([base, other])[..., None], 0, 1), "fraction")

    pilot = [compare_paired(suite(20), "0")[0] for _ in range(40)]
    needed = round(float(np.median([row.cases_needed for row in pilot if row.cases_needed])))
    found = np.mean([compare_paired(suite(needed), "0")[0].verdict == "better" for _ in range(200)])
    assert 60 < needed < 90
    assert 0.7 < found < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "cases", "repeats", "clusters"),
    [(0.5, 20, 1, 0), (0.95, 20, 1, 0), (0.95, 200, 1, 0), (0.8, 20, 5, 0), (0.95, 50, 5, 0), (0.8, 60, 1, 10), (0.95, 30, 1, 5)],
)  # fmt: skip
def test_coverage_of_differences(mean: float, cases: int, repeats: int, clusters: int) -> None:
    """A part of the table of docs/statistics.md, made in full by benchmarks/statistics_study.py. Means within 2 points."""
    rng, runs, covered, called, held = np.random.default_rng(13), 500, 0, 0, 0
    for _ in range(runs):
        units = clusters or cases
        chance = np.repeat(rng.beta(3 * mean, 3 * (1 - mean), (2 if clusters else 1, units, 1)), cases // units, axis=1)
        scores = (rng.random((2, cases, repeats)) < chance).astype(float)
        names = [str(i // (cases // units)) for i in range(cases)] if clusters else None
        table = columns(scores, "pass", names)
        (row,), (first, _) = compare_paired(table, "0"), summarise(table)
        covered += row.interval is not None and row.interval[0] <= 0 <= row.interval[1]
        called += row.verdict in ("better", "worse")
        held += first.interval is not None and first.interval[0] <= mean <= first.interval[1]
    assert covered / runs >= 1 - at_most(0.05, runs)
    assert held / runs >= 1 - at_most(0.06, runs)
    assert called / runs <= at_most(0.05, runs)
