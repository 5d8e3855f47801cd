"""Axes, curves, repeats and effect sizes as people read them; the figures by other ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_stats import columns, single
from test_stats_simulation import at_most
from test_stats_simulation import columns as simulated

from workbench.cli import main
from workbench.errors import UseError
from workbench.records import Json
from workbench.stats.axes import axis_importance
from workbench.stats.curve import response_curve
from workbench.stats.paired import compare_paired
from workbench.stats.passk import pass_all_k, pass_at_k
from workbench.store.runs import VariantRow
from workbench.views import format as f
from workbench.views.axes import STOPPED, axes_json, axes_tables, axes_view, slope_line
from workbench.views.plain import plain
from workbench.views.repeats import column_names, repeats_view


def variants(*params: dict[str, Json]) -> list[VariantRow]:
    return [VariantRow(f"v{i}", i, f"v{i}", "p", "pr1", "m", {"params": p}) for i, p in enumerate(params)]


GRID = variants(*({"temperature": t, "style": s} for t in (0.0, 0.5, 1.0) for s in ("plain", "warm")))


def drawn(seed: int, rise: float = 0.2, cases: int = 40) -> np.ndarray:
    random = np.random.default_rng(seed)
    at = np.array([0.0, 0, 0.5, 0.5, 1, 1])[:, None, None]
    return random.normal(5, 1, (1, cases, 1)) + rise * at + random.normal(0, 0.3, (6, cases, 1))


def test_the_axis_that_matters_is_said_to() -> None:
    data = simulated(drawn(1, rise=1.0), "number")
    found = axes_view(data, GRID)
    assert found.rows[0].axes == ("temperature",)
    verdicts = {row.axes: row.verdict for row in found.rows}
    assert verdicts == {
        ("temperature",): "matters",
        ("style",): "not enough data",
        ("temperature", "style"): "not enough data",
    }
    alone = {row.axes: row.p for row in axis_importance(data, {"temperature": list("aabbcc"), "style": list("xyxyxy")})}
    assert {row.axes: row.p for row in found.rows} == pytest.approx({axes: min(1, 3 * p) for axes, p in alone.items()})


def test_a_curve_is_the_mean_of_its_variants() -> None:
    scores = drawn(2)
    curve = response_curve(simulated(scores, "number"), [0, 0, 0.5, 0.5, 1, 1])
    by_case = scores[:, :, 0].reshape(3, 2, -1).mean(axis=1)
    for point, values in zip(curve.points, by_case, strict=True):
        wanted = stats.t.interval(1 - 0.05 / 3, len(values) - 1, values.mean(), stats.sem(values))
        assert (point.mean, point.variants) == (pytest.approx(values.mean()), 2)
        assert point.interval == pytest.approx(wanted)
    slopes = [stats.linregress([0, 0.5, 1], case).slope for case in by_case.T]
    assert curve.slope == pytest.approx(np.mean(slopes))
    assert curve.slope_interval == pytest.approx(stats.ttest_1samp(slopes, 0).confidence_interval(0.95))


def test_the_band_holds_for_all_points_together() -> None:
    truth, missed, runs = [5.0, 5.1, 5.2], 0, 200
    for seed in range(runs):
        curve = response_curve(simulated(drawn(1000 + seed), "number"), [0, 0, 0.5, 0.5, 1, 1])
        missed += any(not p.interval[0] <= t <= p.interval[1] for p, t in zip(curve.points, truth, strict=True))
    assert missed / runs <= at_most(0.05, runs)


def test_only_common_cases_and_whole_clusters_count() -> None:
    scores = [[[1], [0], [1]], [[0], [0], []]]
    curve = response_curve(columns(scores), [2, 1])
    assert [(p.at, p.mean) for p in curve.points] == [(1, 0.0), (2, 0.5)]
    assert (curve.cases, curve.slope, curve.slope_interval) == (2, 0.5, None)
    clustered = columns(single([1, 1, 0], [0, 0, 0]), clusters=["a", "a", "b"])
    assert response_curve(clustered, [2, 1]).slope == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "kind", "values", "error"),
    [
        (single([1, 0], [0, 1]), "pass", [1], "value of every variant"),
        (single([1, 0], [0, 1]), "pass", [1, 1], "two values"),
        ([[[1], []], [[], [1]]], "pass", [1, 2], "there are none"),
    ],
)
def test_a_curve_is_refused(scores, kind, values, error) -> None:
    with pytest.raises(UseError, match=error):
        response_curve(columns(scores, kind), values)


@pytest.mark.parametrize(
    ("scores", "of", "stopped", "why"),
    [
        (single([1, 0] * 3, [0, 1] * 3), variants({"t": 0}, {"t": 1}), False, "not enough data: 6 cases"),
        (single([1, 0] * 9, [0, 1] * 9), variants({}, {}), False, "sweeps nothing"),
        (single([1, 0] * 9, [0, 1] * 9), variants({"t": 0}, {"t": 1}), True, STOPPED),
    ],
)
def test_where_nothing_is_said_of_axes(scores, of, stopped, why) -> None:
    found = axes_view(columns(scores), of, stopped)
    assert (found.rows, found.curves) == ((), ()) and why in found.why
    assert why in axes_tables(found)[0].plain


def test_few_clusters_say_nothing() -> None:
    data = columns(single([1, 0] * 6, [0, 1] * 6), clusters=[str(i // 4) for i in range(12)])
    assert "3 clusters of cases, 5 are needed" in axes_view(data, variants({"t": 0}, {"t": 1})).why


def test_axes_as_json_and_words() -> None:
    found = axes_view(simulated(drawn(3, rise=1.0), "number"), GRID)
    said = json.loads(json.dumps(plain(axes_json(found))))
    assert said["rows"][0]["verdict"] == "matters" and said["curves"][0]["axis"] == "temperature"
    assert [p["at"] for p in said["curves"][0]["curve"]["points"]] == [0, 0.5, 1]
    assert slope_line(found, found.curves[0]).endswith("for 1 more of temperature; 40 cases")


def test_repeats_agree_with_the_formula() -> None:
    random = np.random.default_rng(4)
    scores = (random.random((2, 20, 5)) < 0.6).astype(float)
    found = repeats_view(simulated(scores, "pass"), k=3)
    assert column_names(found) == ("pass@3", "pass^3")
    for row, variant in zip(found.rows, scores.sum(axis=2).astype(int), strict=True):
        assert row.best.mean == pytest.approx(np.mean([pass_at_k(5, c, 3) for c in variant]))
        assert row.worst.mean == pytest.approx(np.mean([pass_all_k(5, c, 3) for c in variant]))
        assert row.flakiness.mean == pytest.approx(np.mean([2 * c * (5 - c) / 20 for c in variant]))
    assert repeats_view(simulated(scores, "pass")).k == 5
    assert "no case has two scores" in repeats_view(simulated(scores[:, :, :1], "pass")).why
    with pytest.raises(UseError, match="there are 5"):
        repeats_view(simulated(scores, "pass"), k=6)


def test_a_comparison_tells_its_effect() -> None:
    data = columns(single([1, 1, 1, 0] * 10, [1, 0, 0, 0] * 9 + [1, 0, 0, 1]))
    row = compare_paired(data, "v1")[0]
    differences = np.array([1, 1, 1, 0] * 10, dtype=float) - np.array([1, 0, 0, 0] * 9 + [1, 0, 0, 1])
    assert row.effect.d == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert row.effect.odds == pytest.approx(20.0)
    assert f.effect(row).startswith(f"d {row.effect.d:.2f} [") and "odds 20.00 [" in f.effect(row)
    back = compare_paired(data, "v0")[0]
    assert back.effect.d == pytest.approx(-row.effect.d)
    assert f.effect(back).startswith("d −")


SUITE = """
name: greet
prompts: [hello, bye]
models: [echo]
params: {temperature: [0, 1]}
repeats: 2
cases: {file: cases.jsonl, expected: expected}
scorers: [contains, length]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On `echo` an answer is its prompt, so that only the prompt matters, and repeats never differ."""
    root = tmp_path_factory.mktemp("greet")
    for name, text in {"hello": "Hello {{ who }}", "bye": "Goodbye then, {{ who }}"}.items():
        (root / "prompts").mkdir(exist_ok=True)
        (root / f"prompts/{name}.prompty").write_text(f"user:\n{text}")
    (root / "evals").mkdir()
    (root / "evals/greet.yaml").write_text(SUITE)
    names = ["Ann", "Ben", "Cat", "Dora", "Emil", "Fay", "Gus", "Hedwig"]
    (root / "cases.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "who": n, "expected": n if len(n) == 3 else "Nobody"}) for n in names)
    )
    assert main(["--project", str(root), "run", "greet", "--quiet"]) == 0
    return root


def show(project: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["--project", str(project), "show", "latest", *options])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_axes_and_repeats_are_shown_in_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = show(project, capsys, "--axes", "--repeats")
    assert code == 0
    assert "length: which axis matters" in told and "length along temperature" in told
    assert "pass@2" in told and "pass^2" in told
    code, told, _ = show(project, capsys, "--axes", "--json")
    found = {one["scorer"]: one for one in map(json.loads, told.splitlines())}
    assert next((r["axes"], round(r["share"], 9), r["verdict"]) for r in found["length"]["rows"]) == (
        ["prompt"],
        1.0,
        "matters",
    )
    assert [point["at"] for point in found["length"]["curves"][0]["curve"]["points"]] == [0, 1]


def test_best_and_worst_of_repeats(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = show(project, capsys, "--repeats", "--json")
    assert code == 0
    [passes] = [one for one in map(json.loads, told.splitlines()) if one["scorer"] == "contains"]
    assert {(row["best"]["mean"], row["worst"]["mean"], row["flakiness"]["mean"]) for row in passes["rows"]} == {
        (0.625, 0.625, 0.0)
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--axes", "--reference", "x"], "--axes does not go with --reference"),
        (["--repeats", "--failures"], "--repeats does not go with --failures"),
        (["--axes", "--k", "2"], "--k belongs to --repeats"),
        (["--repeats", "--k", "3"], "3"),
    ],
)
def test_wrong_use(project: Path, capsys: pytest.CaptureFixture[str], options: list[str], problem: str) -> None:
    code, _, told = show(project, capsys, *options)
    assert (code, told.count("\n")) == (2, 1) and problem in told


def test_compare_tells_the_size_of_an_effect(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["--project", str(project), "compare", "latest", "--scorer", "length", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "effect" in json.dumps(rows)
