"""Stopping early, simulated: trials saved, power and errors of `until`; trials used and the best kept by `race`.

    python benchmarks/stopping.py [--runs N]

Every figure goes through the functions that a run uses, on whole score tables. Printed as Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.define.data import shuffled
from workbench.records import Case, ScoreColumns
from workbench.stats.paired import compare_paired
from workbench.stats.racing import race_field, race_levels
from workbench.stats.sequential import Look, compare_so_far, plan_levels, plan_looks

BLOCK = 16
Rng = np.random.Generator


@dataclass(frozen=True)
class Question:
    """A kind of data, and the truth about it."""

    name: str
    cases: int
    draw: Callable[[Rng], np.ndarray]
    """Scores, variant × case × repeat."""
    kind: str = "pass"


def columns(scores: np.ndarray, kind: str) -> ScoreColumns:
    index = np.indices(scores.shape).reshape(3, -1)
    variants, cases = (tuple(map(str, range(n))) for n in scores.shape[:2])
    nowhere = (None,) * len(cases)
    return ScoreColumns("s", kind, variants, cases, nowhere, index[0], index[1], index[2], scores.ravel())


def paired(cases: int, difference: float, discordant: float, repeats: int = 1) -> Callable[[Rng], np.ndarray]:
    """Variant 1 less variant 0 is `difference`; for one repeat a share `discordant` of the cases differs."""

    def draw(rng: Rng) -> np.ndarray:
        kind = rng.random((cases, repeats))
        up = kind < (discordant + difference) / 2
        same = (rng.random((cases, 1)) < 0.6).astype(float)
        first = np.where(up, 0.0, np.where(kind < discordant, 1.0, same))
        second = np.where(up, 1.0, np.where(kind < discordant, 0.0, same))
        return np.stack([first, second])

    return draw


def sorted_file(cases: int, difference: float, discordant: float) -> Callable[[Rng], np.ndarray]:
    """The same cases in a file that has those first that variant 1 wins and those last that it loses: read in its
    order it would be found better nearly always. They are taken in the order of a run."""
    names = [Case(str(i), {}) for i in range(cases)]

    def draw(rng: Rng) -> np.ndarray:
        scores = paired(cases, difference, discordant)(rng)
        scores = scores[:, np.argsort(-(scores[1] - scores[0])[:, 0], kind="stable")]
        order = shuffled(names, int(rng.integers(2**31)))
        return scores[:, [int(case.id) for case in order]]

    return draw


def until(question: Question, rng: Rng) -> tuple[int, str, str]:
    """Cases asked, the verdict, and the verdict of the test made once on all cases."""
    scores = question.draw(rng)
    looks = plan_looks(question.cases, BLOCK)
    whole = compare_paired(columns(scores, question.kind), "0", 0.03)[0].verdict
    for n, level in zip(looks, plan_levels(looks, 0.05), strict=True):
        (row,) = compare_so_far(columns(scores[:, :n], question.kind), "0", 0.03, 0.95, Look(level))
        if row.verdict != "not enough data":
            return n, row.verdict, whole
    return looks[-1], "not enough data", whole


def show_until(questions: list[Question], runs: int) -> None:
    print("| data | found | found once, on all | trials saved | called better or worse though equal |")
    print("|---|--:|--:|--:|--:|")
    for question in questions:
        rng = np.random.default_rng(7)
        found = [until(question, rng) for _ in range(runs)]
        told = np.mean([verdict in ("better", "worse") for _, verdict, _ in found])
        once = np.mean([verdict in ("better", "worse") for _, _, verdict in found])
        saved = 1 - np.mean([n for n, _, _ in found]) / question.cases
        null = "equal" in question.name
        figures = ["–", f"{100 * once:.1f} %"] if null else [f"{100 * told:.1f} %", f"{100 * once:.1f} %"]
        error = f"{100 * told:.1f} ± {100 * 3 * (told * (1 - told) / runs) ** 0.5:.1f} %" if null else "–"
        print(f"| {question.name} | {' | '.join(figures)} | {100 * saved:.0f} % | {error} |", flush=True)


def field(variants: int, cases: int, spread: float, ahead: float) -> Callable[[Rng], np.ndarray]:
    """Variants whose quality differs by a normal spread, the first `ahead` of the best other (in points of a mean of
    about a half); cases that all find hard or easy alike."""

    def draw(rng: Rng) -> np.ndarray:
        quality = rng.normal(0, 2.7 * spread, variants)
        quality[0] = quality[1:].max() + 2.7 * ahead
        easy = rng.normal(0, 0.7, cases)
        return (quality[:, None] + easy + rng.normal(0, 1, (variants, cases)) > 0).astype(float)[..., None]

    return draw


def race(question: Question, keep: int, rng: Rng) -> tuple[float, bool]:
    """The share of the full grid that was asked, and whether the best is still there."""
    scores = question.draw(rng)
    variants, cases, _ = scores.shape
    looks, asked, done = plan_looks(cases, BLOCK), 0, 0
    live = [str(i) for i in range(variants)]
    for n, level in zip(looks, race_levels(looks, variants, keep, 0.95), strict=True):
        asked, done = asked + len(live) * (n - done), n
        places = race_field(columns(scores[:, :n], question.kind), live, keep, Look(level), 0.05).places
        gone = {place.variant for place in places if place.dropped}
        live = [v for v in live if v not in gone]
        if len(live) <= keep:
            break
    return asked / (variants * cases), "0" in live


def show_race(questions: list[Question], runs: int) -> None:
    print("| race | trials used of the full grid | best kept |")
    print("|---|--:|--:|")
    for question in questions:
        rng = np.random.default_rng(8)
        found = [race(question, 1, rng) for _ in range(runs)]
        kept = np.mean([best for _, best in found])
        used = np.mean([share for share, _ in found])
        print(f"| {question.name} | {100 * used:.0f} % | {100 * kept:.1f} % of {runs:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    runs = parser.parse_args().runs
    started = time.monotonic()
    show_until(
        [
            Question("10 points, sd 0.53, 400 cases", 400, paired(400, 0.10, 0.29)),
            Question("10 points, sd 0.53, sorted file, 400 cases", 400, sorted_file(400, 0.10, 0.29)),
            Question("5 points, sd 0.53, 400 cases", 400, paired(400, 0.05, 0.29)),
            Question("20 points, sd 0.53, 400 cases", 400, paired(400, 0.20, 0.33)),
            Question("10 points, 5 repeats, 400 cases", 400, paired(400, 0.10, 0.29, 5), "fraction"),
            Question("equal, sd 0.53, 400 cases", 400, paired(400, 0.0, 0.28)),
            Question("equal, sd 0.53, sorted file, 400 cases", 400, sorted_file(400, 0.0, 0.28)),
            Question("equal, few differ (sd 0.2), 400 cases", 400, paired(400, 0.0, 0.04)),
            Question("equal, 5 repeats, 400 cases", 400, paired(400, 0.0, 0.28, 5), "fraction"),
            Question("equal, sd 0.53, 1,000 cases", 1000, paired(1000, 0.0, 0.28)),
        ],
        runs,
    )
    print()
    show_race(
        [
            Question("24 variants, spread 10 points, best ahead by 5, 400 cases", 400, field(24, 400, 0.10, 0.05)),
            Question("24 variants, spread 10 points, best ahead by 10, 400 cases", 400, field(24, 400, 0.10, 0.10)),
            Question("24 variants, spread 5 points, best ahead by 2, 400 cases", 400, field(24, 400, 0.05, 0.02)),
            Question("24 equal variants, 400 cases", 400, field(24, 400, 0.0, 0.0)),
        ],
        max(100, runs // 2),
    )
    print(f"\n{runs:,} simulated runs a line of the first table; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
