"""How far two or more raters agree beyond chance: people with one another, and judges with people.

Accuracy alone flatters a rater where one label is frequent, so the base rate stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np

from workbench.errors import UseError
from workbench.stats.distributions import z_upper
from workbench.stats.intervals import clopper_pearson, wilson
from workbench.stats.methods import FEWEST_CASES
from workbench.stats.reduce import ROUNDING, Bounds, Floats, Sample
from workbench.stats.summary import check_confidence

Label = str | int | float | bool
Level = Literal["nominal", "ordinal", "interval"]

RESAMPLES = 2_000
MOST_LABEL = 1e100
"""Of labels that are numbers: the square of one beyond would be infinite."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient of agreement, and what it rests on."""

    coefficient: str
    """`Cohen's kappa` or `Krippendorff's alpha`."""
    value: float | None
    """1 is perfect, 0 what chance gives; None where everybody always gave the same label."""
    interval: Bounds | None
    confidence: float
    items: int
    """Items with two labels at least."""
    why: str = ""
    """Why there is no value or no interval; empty where there are both."""
    accuracy: float | None = None
    """Share of items on which the two agree; None for more than two raters."""
    accuracy_interval: Bounds | None = None
    """Wilson's; exact below 8 items."""
    base_rate: float | None = None
    """Share of the first rater's most frequent label: the accuracy of always saying that."""


def cohen_kappa(a: Sequence[Label | None], b: Sequence[Label | None], confidence: float = 0.95) -> Agreement:
    """Cohen's kappa of two raters (Cohen 1960, Educ. Psychol. Meas. 20:37) with the large-sample interval (Fleiss,
    Cohen and Everitt 1969, Psychol. Bull. 72:323), by statsmodels. `a` is the one held for true, item by item; items
    that one of them left out (None) are left out.

    Where all items agree, that interval has width 0; there it reaches down to the kappa at the exact lower bound
    of the accuracy. Raises UseError for lengths that differ or no common item."""
    from statsmodels.stats.inter_rater import cohens_kappa

    check_confidence(confidence)
    if len(a) != len(b):
        raise UseError(f"{len(a)} labels can't be paired with {len(b)}; give one of each rater for each item")
    pairs = [(str(x), str(y)) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        raise UseError("no item is labelled by both raters; label some in common")
    labels = sorted({label for pair in pairs for label in pair})
    counts, n = Counter(pairs), len(pairs)
    same = Sample(np.array([float(x == y) for x, y in pairs]), n, (0.0, 1.0), binary=True)
    base = max(Counter(x for x, _ in pairs).values()) / n
    few, alpha = n < FEWEST_CASES, 1 - confidence
    accuracy, reach = float(same.values.mean()), (clopper_pearson if few else wilson)(same, alpha)

    def told(value: float | None, interval: Bounds | None, why: str = "") -> Agreement:
        return Agreement("Cohen's kappa", value, interval, confidence, n, why, accuracy, reach, base)

    if len(labels) == 1:
        return told(None, None, "both gave one and the same label to all items, so chance explains everything")
    with np.errstate(all="ignore"):  # its other figures may divide by 0
        found = cohens_kappa(np.array([[counts[x, y] for y in labels] for x in labels]))
    kappa, error = float(found.kappa), max(0.0, float(found.var_kappa)) ** 0.5
    if few:
        return told(kappa, None, f"not enough data: {n} items")
    if accuracy == 1.0:
        chance = sum((count / n) ** 2 for count in Counter(x for x, _ in pairs).values())
        return told(1.0, (max(-1.0, 1 - (1 - clopper_pearson(same, alpha)[0]) / (1 - chance)), 1.0))
    if error**2 < ROUNDING:
        return told(kappa, None, "a rater gave one label only, or never the other's, so kappa shows no spread")
    half = z_upper(alpha / 2) * error
    return told(kappa, (max(-1.0, kappa - half), min(1.0, kappa + half)))


def krippendorff_alpha(
    ratings: Sequence[Sequence[Label | None]], level: Level = "nominal", confidence: float = 0.95
) -> Agreement:
    """Krippendorff's alpha of any number of raters (Hayes and Krippendorff 2007, Commun. Methods Meas. 1:77), by the
    package krippendorff; `ratings` are rater by rater, item by item, None where there is none.

    The interval is the bootstrap's over items (percentiles of 2,000 seeded resamples), as Hayes and Krippendorff
    resample; with fewer than 8 items there is none. `level`: `nominal` for labels, `ordinal` and `interval` for
    numbers. Raises UseError for raters with differing numbers of items or no item with two labels."""
    check_confidence(confidence)
    counts, values = _value_counts(ratings, level)
    n, name = len(counts), "Krippendorff's alpha"
    if counts.shape[1] == 1:
        return Agreement(name, None, None, confidence, n, "everybody gave one and the same label to all items")
    domain = values if values is not None else list(range(counts.shape[1]))

    def alpha_of(chosen: Floats) -> float:
        if (chosen.sum(axis=0) > 0).sum() < 2:
            return 1.0  # a resample without any disagreement
        used = chosen[:, chosen.sum(axis=0) > 0]
        kept = [value for value, total in zip(domain, chosen.sum(axis=0), strict=True) if total > 0]
        return float(krippendorff.alpha(value_counts=used, value_domain=kept, level_of_measurement=level))

    value = alpha_of(counts)
    if n < FEWEST_CASES:
        return Agreement(name, value, None, confidence, n, f"not enough data: {n} items")
    random = np.random.default_rng(0)
    drawn = [alpha_of(counts[random.integers(0, n, n)]) for _ in range(RESAMPLES)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    if low == high:
        return Agreement(name, value, None, confidence, n, "no item is disputed, so resampling shows no spread")
    return Agreement(name, value, (float(low), float(high)), confidence, n)


def _value_counts(ratings: Sequence[Sequence[Label | None]], level: Level) -> tuple[Floats, list[float] | None]:
    """Item × value: how many raters gave it, for items with two at least; and the values where they are numbers."""
    if len({len(rater) for rater in ratings}) > 1:
        raise UseError("each rater needs a label or None for every item; the lists differ in length")
    items = [[label for label in item if label is not None] for item in zip(*ratings, strict=True)]
    items = [item for item in items if len(item) > 1]
    if not items:
        raise UseError("no item is labelled by two raters; label some in common")
    values: list[float] | None = None
    if level == "nominal":
        named: list[list[str | float]] = [[str(label) for label in item] for item in items]
    else:
        try:
            named = [[float(label) for label in item] for item in items]
        except (ValueError, OverflowError):
            raise UseError(f"labels that are no numbers can't be compared as {level}; use 'nominal'") from None
        if not all(abs(label) <= MOST_LABEL for item in named for label in item):  # type: ignore[arg-type]
            raise UseError(f"labels beyond ±{MOST_LABEL:g} can't be compared as {level}; use 'nominal'")
    domain = sorted({label for item in named for label in item})
    if level != "nominal":
        values = [float(value) for value in domain]
    place = {value: i for i, value in enumerate(domain)}
    counts = np.zeros((len(named), len(domain)))
    for row, item in zip(counts, named, strict=True):
        for label in item:
            row[place[label]] += 1
    return counts, values
