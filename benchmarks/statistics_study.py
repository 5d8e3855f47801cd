"""How far the statistics can be trusted, by simulation, and what they cost.

    python benchmarks/statistics_study.py            minutes; the tables of docs/statistics.md
    python benchmarks/statistics_study.py --quick    seconds; the same with few runs

Seeds are fixed, so the figures repeat; only time and memory depend on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
from statsmodels.stats.proportion import proportions_ztest

from workbench.records import ScoreColumns
from workbench.stats.gates import Claim, decide
from workbench.stats.length import Ballots, controlled_rate
from workbench.stats.paired import compare_paired
from workbench.stats.power import suite_sees
from workbench.stats.ppi import PeopleSample, ppi_mean
from workbench.stats.ppi_units import PeopleUnits, UnitLabels
from workbench.stats.ranking import rank_variants
from workbench.stats.summary import summarise

Draw = Callable[[np.random.Generator], np.ndarray]
"""Scores, variant × case × repeat, of equally good variants."""


def columns(scores: np.ndarray, kind: str, clusters: int = 0) -> ScoreColumns:
    variants, cases, _ = scores.shape
    index = np.indices(scores.shape).reshape(3, -1)
    size = cases // clusters if clusters else 0
    names = tuple(map(str, range(cases)))
    return ScoreColumns(
        "s", kind, tuple(map(str, range(variants))), names,
        tuple(str(i // size) for i in range(cases)) if size else (None,) * cases,
        index[0], index[1], index[2], scores.ravel(),
    )  # fmt: skip


def passes(mean: float, cases: int, repeats: int, clusters: int = 0, variants: int = 2) -> Draw:
    """Cases (clusters) differ in difficulty: chances to pass are Beta distributed with that mean."""

    def draw(random: np.random.Generator) -> np.ndarray:
        units = clusters or cases
        chance = random.beta(3 * mean, 3 * (1 - mean), (1, units, 1)).repeat(cases // units, axis=1)
        return (random.random((variants, cases, repeats)) < chance).astype(float)

    return draw


def apart(mean: float, cases: int, clusters: int) -> Draw:
    """Each variant is better on some clusters and worse on others, none on average."""

    def draw(random: np.random.Generator) -> np.ndarray:
        chance = random.beta(6 * mean, 6 * (1 - mean), (2, clusters, 1)).repeat(cases // clusters, axis=1)
        return (random.random((2, cases, 1)) < chance).astype(float)

    return draw


def tied(share: float, cases: int) -> Draw:
    """The two agree on all cases but a share."""

    def draw(random: np.random.Generator) -> np.ndarray:
        one = (random.random((1, cases, 1)) < 0.6).astype(float)
        other, differs = (random.random((1, cases, 1)) < 0.5).astype(float), random.random((1, cases, 1)) < share
        return np.concatenate([np.where(differs, 1 - other, one), np.where(differs, other, one)])

    return draw


def coverage(runs: int) -> Iterator[tuple[object, ...]]:
    """Of 95 % intervals of one mean and of the difference of two equals, and how often equals are called different."""
    for mean in (0.5, 0.8, 0.95):
        for cases in (8, 20, 50, 200, 1000):
            yield _covered("pass/fail", passes(mean, cases, 1), (mean, cases, 1, "–"), runs)
        for cases in (8, 20, 50, 200):
            yield _covered("5 repeats", passes(mean, cases, 5), (mean, cases, 5, "–"), runs)
        for clusters in (5, 10, 20, 50):
            draw = apart(mean, 6 * clusters, clusters)
            yield _covered("clusters of 6", draw, (mean, 6 * clusters, 1, clusters), runs)
    for share in (0.02, 0.1, 0.3):
        for cases in (20, 50, 200):
            yield _covered(f"ties {1 - share:.0%}", tied(share, cases), (None, cases, 1, "–"), runs)
    for cases, units in ((5, 0), (6, 0), (16, 4)):
        yield _covered("few", passes(0.6, cases, 1, units), (0.6, cases, 1, units or "–"), runs)
    for cases, units in ((2, 0), (12, 2)):
        yield _covered("numbers", passes(0.6, cases, 3, units), (0.6, cases, 3, units or "–"), runs, "number")


def _covered(
    name: str, draw: Draw, at: tuple[object, int, int, object], runs: int, kind: str = "pass"
) -> tuple[object, ...]:
    random = np.random.default_rng(1)
    true, clusters = at[0], at[3] if isinstance(at[3], int) else 0
    mean = difference = wrong = shown = 0
    for _ in range(runs):
        data = columns(draw(random), kind, clusters)
        (row,), one = compare_paired(data, "0"), summarise(data)[0]
        shown += one.interval is not None
        mean += one.interval is not None and true is not None and one.interval[0] <= true <= one.interval[1]
        difference += row.interval is not None and row.interval[0] <= 0 <= row.interval[1]
        wrong += row.verdict in ("better", "worse", "higher", "lower")
    if not shown:
        return (name, *at, "no interval", "no interval", f"{wrong / runs:.1%}")
    told = "–" if true is None else f"{mean / runs:.1%}"
    return (name, *at, told, f"{difference / runs:.1%}", f"{wrong / runs:.1%}")


def skewed(runs: int) -> Iterator[tuple[object, ...]]:
    """Of 95 % intervals of what an answer took: a mean of lognormal numbers, and the paired difference to a variant
    that takes a fifth more. Half of the variance of the logarithms lies between cases."""
    for sigma in (0.3, 0.6, 1.0):
        for cases in (8, 20, 50, 200):
            random, mean, true = np.random.default_rng(8), 0, np.exp(sigma**2 / 2)
            difference = seen = 0
            for _ in range(runs):
                logs = random.normal(0, sigma / 2**0.5, (1, cases, 1)) + random.normal(0, sigma / 2**0.5, (2, cases, 1))
                data = columns(np.exp(logs) * np.array([1.0, 1.2]).reshape(2, 1, 1), "number")
                (row,), one = compare_paired(data, "0"), summarise(data)[0]
                assert one.interval and row.interval
                mean += one.interval[0] <= true <= one.interval[1]
                difference += row.interval[0] <= 0.2 * true <= row.interval[1]
                seen += row.verdict == "higher"
            yield sigma, cases, f"{mean / runs:.1%}", f"{difference / runs:.1%}", f"{seen / runs:.1%}"


def equals(runs: int) -> Iterator[tuple[object, ...]]:
    """Tables of equal variants: any false difference by plain intervals against the best, by the set of the best."""
    for variants in (8, 24):
        for cases, repeats in ((60, 1), (200, 1), (60, 5)):
            random, plain, ours = np.random.default_rng(2), 0, 0
            for _ in range(runs):
                data = columns(passes(0.6, cases, repeats, variants=variants)(random), "pass")
                found = rank_variants(data)
                assert found is not None
                ours += len(found.not_told_apart) < variants
                rows = compare_paired(data, found.best, adjust=False)
                plain += any(row.interval is not None and row.interval[1] < 0 for row in rows)
            yield variants, cases, repeats, f"{plain / runs:.1%}", f"{ours / runs:.1%}"


def judged(runs: int) -> Iterator[tuple[object, ...]]:
    """Prediction-powered intervals of a mean of 0.7 over 1,000 outputs, by how the labelled ones were chosen."""
    for labels, right in ((50, 0.8), (50, 0.95), (100, 0.8), (100, 0.95), (200, 0.8)):
        random, hits, width, alone = np.random.default_rng(3), np.zeros(3), 0.0, 0.0
        for _ in range(runs):
            truth = (random.random(1000) < 0.7).astype(float)
            judge = np.where(random.random(1000) < right, truth, 1 - truth)
            some = random.permutation(1000) < labels
            at_random = ppi_mean(truth[some], judge[some], judge[~some])
            width += at_random.interval[1] - at_random.interval[0]
            alone += 2 * 1.96 * float(truth[some].std(ddof=1)) / labels**0.5
            chance = np.minimum(1, np.where(judge < 0.5, 4.0, 0.8) * max(labels, 80) / 1000)
            some = random.random(1000) < chance
            known = ppi_mean(truth[some], judge[some], judge[~some], chance[some])
            blind = ppi_mean(truth[some], judge[some], judge[~some])
            hits += [found.interval[0] <= 0.7 <= found.interval[1] for found in (at_random, known, blind)]
        yield (labels, f"{right:.0%}", *(f"{hit / runs:.1%}" for hit in hits), f"{width / alone:.2f}")


def together(runs: int) -> Iterator[tuple[object, ...]]:
    """Prediction-powered intervals of a mean of 0.8 over repeats and clusters of 300 cases, the worst over 50, 100 and
    200 labels: by units, by t alone, and as if outputs were independent; and gates at the true mean."""
    for judge, (right, lenient) in {"good": (0.95, False), "poor": (0.75, True)}.items():
        for repeats, size, alike in itertools.product((1, 3, 5), (1, 5, 20), (0.0, 0.5, 0.9)):
            random, worst = np.random.default_rng(6), np.zeros(5)
            for labels in (50, 100, 200):
                found = np.zeros(5)
                for _ in range(runs):
                    units, truth, scores = _outputs(random, (repeats, size, alike), (right, lenient))
                    chosen = np.zeros(truth.shape, dtype=bool)
                    chosen.ravel()[random.choice(truth.size, labels, replace=False)] = True
                    found += _missed(units, truth, scores, chosen)
                worst = np.maximum(worst, found / runs)
            told = (f"{1 - share:.1%}" for share in worst[:3])
            yield (judge, repeats, size, alike, *told, f"{worst[3]:.1%}", f"{worst[4]:.1%}")


def _outputs(
    random: np.random.Generator, how: tuple[int, int, float], judge: tuple[float, bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit of each case, what people say and what the judge says, case × repeat. A case has its own chances, or in 6 of
    10 those of its cluster; the lenient judge errs only upwards."""
    (repeats, size, alike), (right, lenient), cases = how, judge, 300
    units = np.arange(cases) // size

    def chances(mean: float) -> np.ndarray:
        if alike == 0:
            return np.full((cases, 1), mean)
        own, of_cluster = random.beta(mean * (1 / alike - 1), (1 - mean) * (1 / alike - 1), (2, cases))
        joint = (random.random(cases) < 0.6) & (size > 1)
        return np.where(joint, of_cluster[units], own)[:, None]

    truth = (random.random((cases, repeats)) < chances(0.8)).astype(float)
    wrong = random.random(truth.shape) < chances(1 - right)
    return units, truth, np.where(wrong, 1.0 if lenient else 1 - truth, truth)


def _missed(units: np.ndarray, truth: np.ndarray, judge: np.ndarray, chosen: np.ndarray) -> list[bool]:
    """0.8, by the interval of units, by its t interval, by that of independent outputs; a gate at it passes; fails."""
    case, repeat = np.nonzero(chosen)
    size = np.bincount(units)
    means, weights = np.bincount(units, judge.mean(axis=1)) / size, 1 / size[units[case]]
    side = UnitLabels(means, units[case], truth[case, repeat], judge[case, repeat], weights)
    data = PeopleUnits((side,), len(units), (0.0, 1.0))
    alone = PeopleSample(truth[chosen], judge[chosen], judge[~chosen], (0.0, 1.0))
    ends = (data.ends(0.05), data.estimate(0.95).interval, alone.ends(0.05))
    answer = decide([Claim(data, "at_least", 0.8, 0.05)])[0].answer
    return [*(not low <= 0.8 <= high for low, high in (end or (0.0, 1.0) for end in ends)),
            answer == "pass", answer == "fail"]  # fmt: skip


def equal_length(runs: int) -> Iterator[tuple[object, ...]]:
    """Length-controlled win rates by votes of the model itself: log odds of quality + effect · tanh(gap); the player's
    answers are longer by 0.7, or 0.3, standard deviations on average."""
    for shift in (0.7, 0.3):
        at = itertools.product((50, 100, 200), ((0.0, 3.0), (0.8, 1.0), (2.5, 1.0)))
        for cases, (quality, effect) in at:
            random, true, counts = np.random.default_rng(7), 1 / (1 + np.exp(-quality)), np.zeros(4)
            for _ in range(runs):
                gaps = np.round(300 * random.normal(shift, 1, cases))
                won = random.random(cases) < 1 / (1 + np.exp(-(quality + effect * np.tanh(gaps / 300))))
                found = controlled_rate("a", Ballots(won.astype(float), gaps, np.arange(cases)))
                low, high = found.interval or (0.0, 1.0)
                plain = abs(found.plain - 0.5) > 1.96 * (found.plain * (1 - found.plain) / cases) ** 0.5
                counts += [plain, low > 0.5 or high < 0.5, not low <= true <= high, found.interval is None]
            yield (shift, cases, f"{true:.0%}", f"{effect:g}", *(f"{count / runs:.1%}" for count in counts))


def paired_or_not(runs: int) -> Iterator[tuple[object, ...]]:
    """Pairs of prompts with a true difference of 5 points on 200 common cases: how many are found."""
    for name, a, b in (("cases alike", 4.0, 3.0), ("cases differ", 0.5, 0.4), ("cases differ much", 0.1, 0.08)):
        random, paired, unpaired, together = np.random.default_rng(4), 0, 0, []
        for _ in range(runs):
            middle = np.clip(random.beta(a, b, (1, 200, 1)), 0.025, 0.975)
            chance = np.concatenate([middle - 0.025, middle + 0.025])
            scores = (random.random((2, 200, 1)) < chance).astype(float)
            paired += compare_paired(columns(scores, "pass"), "0")[0].verdict == "better"
            one, other = scores[:, :, 0].sum(axis=1)
            unpaired += proportions_ztest([other, one], [200, 200])[1] <= 0.05 and other > one
            together.append(np.corrcoef(scores[:, :, 0])[0, 1])
        yield name, f"{np.mean(together):.2f}", f"{paired / runs:.1%}", f"{unpaired / runs:.1%}"


def cost(variants: int, cases: int, repeats: int) -> Iterator[tuple[object, ...]]:
    """Time and memory of everything that a comparison shows."""
    data = columns(passes(0.7, cases, repeats, variants=variants)(np.random.default_rng(5)), "pass")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, work in (
        ("means", lambda: summarise(data)),
        ("comparisons", lambda: compare_paired(data, "0")),
        ("ranking", lambda: rank_variants(data)),
        ("power", lambda: suite_sees(data, "0")),
    ):
        start = time.perf_counter()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield name, f"{time.perf_counter() - start:.2f}", f"{peak:,.0f}", f"{peak - before:,.0f}"


def table(title: str, head: str, rows: Iterator[tuple[object, ...]]) -> None:
    names = head.split(" | ")
    print(f"\n{title}\n\n| {head} |\n|{'---|' * len(names)}", flush=True)
    for row in rows:
        print("| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few runs, a small run to time")
    quick = parser.parse_args().quick
    runs = 20 if quick else 1000
    size = (10, 1000, 3) if quick else (50, 10_000, 5)
    scale = f"{size[0]} variants × {size[1]:,} cases × {size[2]} repeats"
    table(f"Cost of {scale}, everything in memory", "part | seconds | peak MiB | above the data", cost(*size))
    methods = "by units | by t alone | as if independent"
    found = "found paired | found unpaired"
    table(
        f"A true difference of 5 points at 200 cases, {runs:,} pairs",
        f"suite | correlation | {found}",
        paired_or_not(runs),
    )
    table(
        f"95 % intervals and verdicts of equals, {runs:,} runs each",
        "situation | mean | cases | repeats | clusters | mean covered | difference covered | called different",
        coverage(runs),
    )
    table(
        f"95 % intervals of what an answer took: lognormal numbers, {runs:,} runs each",
        "sd of the logarithms | cases | mean covered | difference covered | a fifth more found",
        skewed(runs),
    )
    table(
        f"Tables of equal variants with a false difference, {max(20, runs // 4):,} tables each",
        "variants | cases | repeats | plain, against the best seen | set of the best",
        equals(max(20, runs // 4)),
    )
    table(
        f"Win rates at equal length, {runs:,} runs each",
        "longer by | cases | true rate | effect | plain names a winner | controlled names one | missed | no rate",
        equal_length(runs),
    )
    table(
        f"Prediction-powered 95 % intervals over repeats and clusters, the worst of 50, 100, 200 labels, {runs:,} runs",
        f"judge | repeats | cluster | alike | {methods} | passed wrongly | failed wrongly",
        together(runs),
    )
    table(
        f"Prediction-powered 95 % intervals, {runs:,} runs each",
        "labels | judge right | at random | known chances | unknown chances | width ÷ labels alone",
        judged(runs),
    )


if __name__ == "__main__":
    main()
