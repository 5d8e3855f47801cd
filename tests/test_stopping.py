"""Stopping early: levels of looks against published tables, errors and savings by simulation, runs on `echo`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from scipy.stats import norm

from workbench.begin import RunOptions, begin
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import Overrides, load_suite
from workbench.errors import SuiteError, UseError, WorkbenchError
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.records import ScoreColumns
from workbench.registry import SCORERS
from workbench.stats.racing import race_field, race_levels
from workbench.stats.sequential import Look, compare_so_far, look_levels, plan_levels, plan_looks
from workbench.store import runs
from workbench.store.casequeries import case_rows
from workbench.store.database import Database
from workbench.views.model import load_view

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("spent", "boundaries"),
    [
        pytest.param(
            [4 * norm.sf(norm.isf(0.0125) / t**0.5) for t in FIFTHS],
            [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
            id="O'Brien–Fleming type",
        ),
        pytest.param(
            [0.05 * np.log(1 + (np.e - 1) * t) for t in FIFTHS],
            [2.4380, 2.4268, 2.4101, 2.3966, 2.3859],
            id="Pocock type",
        ),
        pytest.param([0.05], [1.95996], id="one look"),
    ],
)
def test_levels_are_those_of_published_tables(spent: list[float], boundaries: list[float]) -> None:
    """Reboussin, DeMets, Kim and Lan 2000, Control. Clin. Trials 21:190, two-sided 0.05, five equal looks."""
    fractions = FIFTHS[-len(spent) :]
    found = norm.isf(np.array(look_levels(fractions, tuple(map(float, spent)))) / 2)
    assert found == pytest.approx(boundaries, abs=2e-4)


@pytest.mark.parametrize(
    ("total", "block", "looks"),
    [
        (400, 16, tuple(range(16, 401, 16))),
        (20, 4, (8, 16, 20)),
        (20, 8, (8, 16, 20)),
        (5, 16, (5,)),
        (401, 16, (*range(16, 385, 16), 401)),
        (10_000, 16, (*range(256, 9_729, 256), 10_000)),
        (100, 1, (*range(8, 97, 8), 100)),
    ],
)
def test_looks_are_fixed_beforehand(total: int, block: int, looks: tuple[int, ...]) -> None:
    found = plan_looks(total, block)
    assert found[0] == looks[0]
    assert found[-1] == total
    assert len(found) <= 40
    assert all(n % block == 0 for n in found[:-1])
    assert found == looks


@pytest.mark.parametrize(("total", "block"), [(400, 16), (400, 1), (97, 16), (10_000, 16)])
def test_levels_add_up_to_the_error(total: int, block: int) -> None:
    looks = plan_looks(total, block)
    levels = plan_levels(looks, 0.05)
    assert max(levels) <= 0.05 <= sum(levels), "each look takes a part; together, dependent as they are, all of it"
    assert plan_levels(looks, 0.01)[0] < levels[0]


def columns(scores: np.ndarray, kind: str = "pass", clusters: tuple[str, ...] | None = None) -> ScoreColumns:
    """Scores, variant × case × repeat."""
    index = np.indices(scores.shape).reshape(3, -1)
    variants, cases = (tuple(map(str, range(n))) for n in scores.shape[:2])
    return ScoreColumns(
        "s", kind, variants, cases, clusters or (None,) * len(cases), index[0], index[1], index[2], scores.ravel()
    )


def pairs(rng: np.random.Generator, cases: int, difference: float, discordant: float) -> np.ndarray:
    """Two variants' 0/1 scores: a share `discordant` of the cases differs."""
    kind = rng.random(cases)
    first = np.where(kind < (discordant + difference) / 2, 1.0, np.where(kind < discordant, 0.0, kind > 0.65))
    return np.stack([np.where(kind < discordant, 1 - first, first), first])[..., None]


def sequential(scores: np.ndarray, kind: str = "pass", block: int = 16) -> tuple[int, str]:
    """After how many cases it stops, and with which verdict."""
    looks = plan_looks(scores.shape[1], block)
    for n, level in zip(looks, plan_levels(looks, 0.05), strict=True):
        (row,) = compare_so_far(columns(scores[:, :n], kind), "0", 0.03, 0.95, Look(level))
        if row.verdict != "not enough data":
            return n, row.verdict
    return looks[-1], "not enough data"


def test_verdicts_of_one_look() -> None:
    rng = np.random.default_rng(1)
    better = np.stack([np.zeros(40), np.r_[np.ones(20), np.zeros(20)]])[..., None]
    alike = np.repeat((rng.random((1, 2_000, 1)) < 0.6).astype(float), 2, axis=0)
    for scores, verdict in [(better, "better"), (better[::-1], "worse"), (alike, "equivalent")]:
        (row,) = compare_so_far(columns(scores), "0", 0.03, 0.95, Look(0.01))
        assert row.verdict == verdict
        assert row.p is None
    (row,) = compare_so_far(columns(better[:, :7]), "0", 0.03, 0.95, Look(0.01))
    assert row.verdict == "not enough data", "below 8 cases nothing is settled"
    assert compare_so_far(columns(better, "label"), "0", 0.03, 0.95, Look(0.01)) == []


@pytest.mark.slow
@pytest.mark.parametrize("discordant", [pytest.param(0.29, id="sd 0.53"), pytest.param(0.04, id="few differ")])
def test_equal_variants_are_seldom_told_apart(discordant: float) -> None:
    rng, trials = np.random.default_rng(2), 300
    wrong = sum(sequential(pairs(rng, 240, 0.0, discordant))[1] in ("better", "worse") for _ in range(trials))
    assert wrong / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


@pytest.mark.slow
def test_a_difference_of_ten_points_is_found_with_less_than_three_fifths_of_the_trials() -> None:
    rng, trials = np.random.default_rng(3), 200
    found = [sequential(pairs(rng, 400, 0.1, 0.29)) for _ in range(trials)]
    power = sum(verdict == "better" for _, verdict in found) / trials
    error = 3 * (0.96 * 0.04 / trials) ** 0.5
    assert power >= 0.965 - 0.10 - error, "the fixed test: Φ(0.1·20/0.53 − 1.96) = 0.965"
    assert sum(n for n, _ in found) / (400 * trials) <= 0.6


def grid(rng: np.random.Generator, variants: int, cases: int, best: float, rest: float) -> np.ndarray:
    """0/1 scores of variants that find the same cases hard; the last is the best."""
    quality = np.r_[np.full(variants - 1, rest), best]
    easy = rng.normal(0, 1, cases)
    return (quality[:, None] + 0.5 * easy + rng.normal(0, 1, (variants, cases)) > 0).astype(float)[..., None]


def losers(found: ScoreColumns, live: list[str], keep: int, level: float) -> list[tuple[str, str]]:
    """Who is dropped at a two-sided level, and by whom."""
    places = race_field(found, live, keep, Look(level), 0.05).places
    return [(place.variant, place.against) for place in places if place.dropped]


def race(scores: np.ndarray, keep: int = 1, kind: str = "pass") -> tuple[list[str], float]:
    """The variants that are left, and the share of the full grid that was asked."""
    variants, cases, _ = scores.shape
    looks, asked = plan_looks(cases, 16), 0
    live, done = [str(i) for i in range(variants)], 0
    for n, level in zip(looks, race_levels(looks, variants, keep, 0.95), strict=True):
        asked, done = asked + len(live) * (n - done), n
        gone = {variant for variant, _ in losers(columns(scores[:, :n], kind), live, keep, level)}
        live = [v for v in live if v not in gone]
        if len(live) <= keep:
            break
    return live, asked / (variants * cases)


def test_a_race_keeps_the_best_and_saves_trials() -> None:
    rng, trials = np.random.default_rng(4), 25
    found = [race(grid(rng, 12, 320, 0.8, 0.0)) for _ in range(trials)]
    assert sum("11" in live for live, _ in found) == trials
    assert np.mean([share for _, share in found]) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pass", "fraction"])
def test_a_race_of_equals_seldom_drops_the_best(kind: str) -> None:
    rng, trials = np.random.default_rng(5), 200
    draw = (lambda: grid(rng, 6, 160, 0.3, 0.3)) if kind == "pass" else lambda: rng.beta(0.5, 0.3, (6, 160, 1))
    lost = sum("5" not in race(draw(), kind=kind)[0] for _ in range(trials))
    assert lost / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_a_race_wants_as_many_better_ones_as_it_keeps() -> None:
    scores = np.zeros((4, 64, 1))
    scores[0], scores[1, ::2], scores[2, ::4] = 1, 1, 1
    gone = {keep: losers(columns(scores), list("0123"), keep, 2e-3) for keep in (1, 2, 3)}
    assert gone[1] == [("1", "0"), ("2", "0"), ("3", "0")]
    assert gone[2] == [("2", "0"), ("3", "0")]
    assert gone[3] == [("3", "0")]


@pytest.mark.parametrize("kind", ["pass", "fraction"])
def test_a_race_counts_clusters_not_cases(kind: str) -> None:
    scores = np.zeros((2, 64, 1))
    scores[0] = 1
    few = tuple(str(i % 4) for i in range(64))
    assert losers(columns(scores, kind), ["0", "1"], 1, 0.02)
    assert not losers(columns(scores, kind, few), ["0", "1"], 1, 0.02), "4 clusters can't tell"


# Runs

SUITE = """
name: s
prompts: [a, b, c]
models: [house]
params: {max_tokens: 5}
block: 10
cases: data.jsonl
scorers: [contains]
"""
HOUSE = "models: {house: {engine: echo, options: {answers: {'^A .*[0-8]$': 'yes', '^B .*[0-2]$': 'yes', '^C .*[0-8]$': 'yes'}}}}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ who }}}}")
    rows = [{"id": f"c{i:03}", "who": f"w{i:03}", "expected": "yes"} for i in range(200)]
    write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, sorted(rows, key=lambda r: r["who"][-1]))))
    write(tmp_path / "workbench.yaml", HOUSE)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ready(root: Path, more: str):
    write(root / "evals/s.yaml", SUITE + more)
    project = load_project(root)
    suite = load_suite("s", project, Library(project.library_root), SCORERS.names())
    return prepare_suite(suite, root), Database.open(project.store_url)


def header(database: Database, run: str):
    with database.read() as connection:
        return runs.get_run(connection, run)


def test_until_ends_a_run_when_all_is_settled(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared, database = ready(project, "until: {smaller_than: 0.2}")
    progress, status = run_suite(prepared, database)
    run = header(database, progress.run)
    facts = run.header["stopping"]
    assert status == run.status == "complete"
    assert facts["cases_asked"] < 200
    assert [s["verdict"] for s in facts["standings"]] == ["worse", "equivalent"]
    assert facts["standings"][0]["cases"] < facts["standings"][1]["cases"], "b is settled first, and no longer asked"
    with database.read() as connection:
        scores = runs.score_columns(connection, run.id, "contains")
        asked = [c.id for c in case_rows(connection, run.id) if c.asked]
    assert len(asked) == facts["cases_asked"]
    assert len({c[-1] for c in asked[:20]}) > 3, "cases come in random order, though the file is sorted"
    assert scores.missing == (0, 0, 0), "what was not to be asked is not missing"
    assert progress.done == len(scores.value) < 600
    capsys.readouterr()
    assert main(["--project", str(project), "show", "latest"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"settled after {len(asked)} of 200 cases: b is worse than a" in told
    assert f"{200 - len(asked)} cases of 200 not asked" in told
    assert main(["--project", str(project), "show", "latest", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row["comparisons"][0]["interval"] == facts["standings"][0]["interval"]
    assert "settled after" in row["sentence"]
    assert main(["--project", str(project), "cases", "latest", "--not-asked", "--limit", "500", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 200 - len(asked)


def test_a_race_ends_when_one_is_left(project: Path) -> None:
    write(project / "workbench.yaml", HOUSE.replace("^C .*[0-8]", "^C .*[0-4]"))
    prepared, database = ready(project, "race: {keep: 1}")
    progress, status = run_suite(prepared, database)
    facts = header(database, progress.run).header["stopping"]
    first = prepared.suite.variants[0].id
    assert status == "complete"
    assert facts["left"] == [first]
    assert {s["against"] for s in facts["standings"]} == {first}
    assert facts["reason"].startswith(
        f"settled after {facts['cases_asked']} of 200 cases: a is left; 2 variants dropped"
    )


def test_a_stopped_run_decides_the_same_when_it_is_taken_up(project: Path) -> None:
    whole, database = ready(project, "until: {smaller_than: 0.2}")
    expected, _ = run_suite(whole, database, RunOptions(fresh=True, seed=0))
    stop = Event()
    first, status = run_suite(
        whole, database, RunOptions(fresh=True, seed=0), lambda p: stop.set() if p.done >= 95 else None, stop
    )
    assert status == "stopped"
    assert "reason" in header(database, first.run).header["stopping"]
    again, status = run_suite(whole, database, RunOptions(resume=first.run))
    assert status == "complete"
    a, b = (header(database, p.run).header["stopping"] for p in (expected, again))
    assert a == b
    changed, _ = ready(project, "until: {smaller_than: 0.1}")
    with pytest.raises(UseError, match="can't be resumed"):
        run_suite(changed, database, RunOptions(resume=first.run))


def test_what_stays_open_is_said(project: Path) -> None:
    prepared, database = ready(project, "until: {smaller_than: 0.001}")
    progress, status = run_suite(prepared, database)
    facts = header(database, progress.run).header["stopping"]
    assert (status, facts["cases_asked"], len(facts["left"])) == ("complete", 200, 1)
    assert facts["reason"].startswith("not settled after all 200 cases: b is worse than a")
    assert facts["reason"].endswith("1 comparison open")
    assert facts["standings"][-1]["cases_needed"] > 200


def test_trials_that_fail_do_not_hold_up_a_decision(project: Path) -> None:
    write(project / "workbench.yaml", HOUSE.replace("options: {", "options: {fail: {'w[0-9]*7$': refused}, "))
    prepared, database = ready(project, "until: {smaller_than: 0.2}")
    progress, status = run_suite(prepared, database)
    facts = header(database, progress.run).header["stopping"]
    assert (status, facts["left"]) == ("complete", [])
    assert 0 < progress.failed < progress.done
    assert facts["standings"][0]["pairs"] < facts["standings"][0]["cases"]


def test_cases_of_a_cluster_are_asked_together(project: Path) -> None:
    lines = [{"id": f"c{i}", "who": f"w{i}", "expected": "yes", "cluster": f"k{i % 7}"} for i in range(70)]
    write(project / "data.jsonl", "\n".join(map(json.dumps, lines)))
    prepared, _ = ready(project, "race: {keep: 2}")
    assert cluster_changes(prepared) == 7
    plain, _ = ready(project, "")
    assert cluster_changes(plain) > 7


def cluster_changes(prepared) -> int:
    asked = {p.trial.case.id: p.trial.case.cluster for block in prepared.blocks(0) for p in block}
    return len(list(itertools.groupby(asked.values())))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("until: {}", "evals/s.yaml:9: "),
        ("until: {smaller_than: 0}", "evals/s.yaml:9: until.smaller_than must be greater than 0, not 0"),
        (
            "until: {smaller_than: 0.1, confidence: 95}",
            "evals/s.yaml:9: until.confidence must be less than or equal to 0.999999, not 95",
        ),
        ("until: {smaller_than: 0.1, scorer: exakt}", "evals/s.yaml:9: unknown scorer 'exakt'"),
        ("until: {difference: 0.1}", "evals/s.yaml:9: unknown key 'difference'"),
        ("race: {keep: 0}", "evals/s.yaml:9: race.keep must be greater than or equal to 1, not 0"),
        ("race: {keep: 3}", "evals/s.yaml:9: 'race' needs at least 4 variants, and the suite has 3"),
        ("until: {smaller_than: 0.1}\nrace: {}", "a suite has 'until' or 'race', not both"),
    ],
)
def test_rules_that_cannot_be(project: Path, more: str, error: str) -> None:
    with pytest.raises(WorkbenchError) as found:
        ready(project, more)
    assert error in str(found.value)


def test_a_rule_without_a_question_left_is_left_out(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE + "race: {keep: 1}")
    loaded = load_project(project)
    library = Library(loaded.library_root)
    alone, two = (
        load_suite("s", loaded, library, SCORERS.names(), Overrides(only=only, limit=20))
        for only in ({"prompt": "a"}, {})
    )
    assert (dict(alone.race), alone.until) == ({}, {})
    assert two.race == {"scorer": "contains", "keep": 1, "confidence": 0.95}


def test_a_batch_is_refused(project: Path) -> None:
    prepared, database = ready(project, "race: {keep: 1}")
    with pytest.raises(SuiteError, match="decide after each block, so they can't go with --batch"):
        begin(prepared, database, RunOptions(batch=True))


def test_other_references_keep_their_plain_intervals(project: Path) -> None:
    """The intervals over all looks are of differences to the suite's reference."""
    prepared, database = ready(project, "until: {smaller_than: 0.2}")
    progress, _ = run_suite(prepared, database)
    with database.read() as connection:
        own, other = (load_view(connection, progress.run, name).scorers[0] for name in ("a", "b"))
    assert {row.interval_method for row in own.comparisons} == {"repeated, group-sequential"}
    assert {row.interval_method for row in other.comparisons} == {"Newcombe"}
    assert all(row.p is None for row in own.comparisons)
    assert all(row.p is not None for row in other.comparisons)


def test_a_rule_needs_scores_that_can_decide(project: Path) -> None:
    write(project / "evals/s.yaml", SUITE.replace("scorers: [contains]", "scorers: [latency]") + "race: {keep: 1}")
    loaded = load_project(project)
    suite = load_suite("s", loaded, Library(loaded.library_root), SCORERS.names())
    database = Database.open(loaded.store_url)
    with pytest.raises(SuiteError, match="'race' can't decide by scorer 'latency': it gives numbers"):
        run_suite(prepare_suite(suite, project), database)
