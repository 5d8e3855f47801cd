"""Shares of variance by axis: their intervals by simulation, and a mixed model on the same data."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from test_stats_simulation import columns

from workbench.stats.axes import axis_importance

AXES = {"prompt": ["p0"] * 3 + ["p1"] * 3, "model": ["m0", "m1", "m2"] * 2}
RUNS = 200


def true_shares(means) -> dict[tuple[str, ...], float]:
    """Of a full grid of two prompts × three models."""
    centred = np.reshape(means, (2, 3)) - np.mean(means)
    whole = (centred**2).sum()
    prompt, model = (3 * (centred.mean(axis=1) ** 2).sum() / whole, 2 * (centred.mean(axis=0) ** 2).sum() / whole)
    return {("prompt",): prompt, ("model",): model, ("prompt", "model"): 1 - prompt - model}


def drawn(random, means, cases: int):
    hard = random.beta(2, 2, (1, cases)) - 0.5
    chance = np.clip(np.array(means)[:, None] + 0.4 * hard, 0, 1)
    return columns((random.random((6, cases)) < chance).astype(float)[:, :, None], "pass")


@pytest.mark.parametrize("cases", [20, 60, 200])
@pytest.mark.parametrize("means", [(0.3, 0.4, 0.5, 0.3, 0.4, 0.5), (0.3, 0.4, 0.5, 0.5, 0.6, 0.7), (0.3, 0.6) * 3])
def test_intervals_miss_as_rarely_as_they_say(means, cases: int) -> None:
    """A table misses where any of its rows does."""
    random, true, missed = np.random.default_rng(1), true_shares(means), 0
    for _ in range(RUNS):
        rows = axis_importance(drawn(random, means, cases), AXES)
        assert len({row.interval is None for row in rows}) == 1
        missed += any(
            row.interval is not None and not row.interval[0] - 1e-9 <= true[row.axes] <= row.interval[1] + 1e-9
            for row in rows
        )
    assert missed / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_many_cases_make_them_narrow_and_right() -> None:
    means = (0.2, 0.4, 0.6, 0.4, 0.6, 0.8)
    for row in axis_importance(drawn(np.random.default_rng(2), means, 1_000), AXES):
        assert row.interval is not None
        low, high = row.interval
        assert low <= row.share <= high and high - low < 0.15
        assert row.share == pytest.approx(true_shares(means)[row.axes], abs=0.06)


@pytest.mark.parametrize(
    ("means", "cases", "clusters"),
    [((0.5,) * 6, 100, None), ((0.1, 0.5, 0.9) * 2, 7, None), ((0.1, 0.5, 0.9) * 2, 40, [str(i % 4) for i in range(40)])],
)  # fmt: skip
def test_where_nothing_can_be_shared_out_there_is_no_interval(means, cases, clusters) -> None:
    """Equal variants; seven cases; four clusters."""
    data = drawn(np.random.default_rng(3), means, cases)
    if clusters:
        data = columns(np.array(data.value).reshape(6, cases, 1), "pass", clusters)
    assert all(row.interval is None for row in axis_importance(data, AXES))


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 1_000))
def test_the_order_of_variants_changes_nothing(order, seed: int) -> None:
    scores = np.random.default_rng(seed).random((6, 12, 1))
    axes = {name: [levels[i] for i in order] for name, levels in AXES.items()}
    one = {row.axes: row for row in axis_importance(columns(scores, "fraction"), AXES)}
    for row in axis_importance(columns(scores[list(order)], "fraction"), axes):
        assert row.share == pytest.approx(one[row.axes].share, abs=1e-9)
        assert row.interval == pytest.approx(one[row.axes].interval, abs=1e-9)


@pytest.mark.slow
def test_a_mixed_model_finds_the_same_shares() -> None:
    """Variance components by REML, all of them random: with many levels of each axis the two agree."""
    random, prompts, models, cases = np.random.default_rng(4), 8, 8, 12
    effect = random.normal(0, 0.10, (prompts, 1)) + random.normal(0, 0.06, (1, models))
    effect = effect + random.normal(0, 0.03, (prompts, models))
    scores = 0.5 + effect.reshape(-1, 1) + random.normal(0, 0.1, (1, cases)) + random.normal(0, 0.08, (64, cases))
    axes = {"prompt": [f"p{i // models}" for i in range(64)], "model": [f"m{i % models}" for i in range(64)]}
    ours = {row.axes: row.share for row in axis_importance(columns(scores[:, :, None], "number"), axes)}
    frame = pd.DataFrame(
        [
            {"y": scores[v, c], "case": c, **{name: axes[name][v] for name in axes}, "cell": v}
            for v in range(64)
            for c in range(cases)
        ]
    )
    parts = {"prompt": "0 + C(prompt)", "model": "0 + C(model)", "cell": "0 + C(cell)"}
    fit = partial(smf.mixedlm, "y ~ C(case)", frame, groups=np.ones(len(frame)), vc_formula=parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = fit().fit()
    found = dict(zip(fitted.model.exog_vc.names, fitted.vcomp, strict=True))
    theirs = {("prompt",): found["prompt"], ("model",): found["model"], ("prompt", "model"): found["cell"]}
    whole = sum(theirs.values())
    for axis, component in theirs.items():
        assert ours[axis] == pytest.approx(component / whole, abs=0.06)
