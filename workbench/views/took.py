"""What an answer of a variant took: mean cost, time and tokens over cases, each with its interval and, paired, against
the reference. They are numbers like those of any scorer, and summarised by the same methods (`stats.methods`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workbench.records import CaseScores
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.summary import VariantSummary, summarise
from workbench.views import format as f


@dataclass(frozen=True, slots=True)
class Spent:
    """One measure of one variant."""

    found: VariantSummary
    against: PairedComparison | None
    """The difference to the reference on common cases; None for the reference, and where one of both is not known."""


@dataclass(frozen=True, slots=True)
class Took:
    """What an answer of one variant took on average; None where it is not known."""

    cost: Spent | None = None
    """US dollars."""
    seconds: Spent | None = None
    """Of calls, or on a model in process of the answers that were asked alone."""
    tokens: Spent | None = None
    """Of prompt and answer."""


def took(scores: Mapping[str, CaseScores], reference: str | None, confidence: float = 0.95) -> dict[str, Took]:
    """Variant id → what its answers took. Differences hold for all rows of a measure together."""
    parts = {name: _spent(columns, reference, confidence) for name, columns in scores.items()}
    variants = next(iter(scores.values())).variants if scores else ()
    return {variant: Took(**{name: part[variant] for name, part in parts.items()}) for variant in variants}


def _spent(columns: CaseScores, reference: str | None, confidence: float) -> dict[str, Spent | None]:
    compared = reference is not None and len(columns.variants) > 1
    rows = compare_paired(columns, reference or "", confidence=confidence) if compared else []
    against = {row.variant: row for row in rows if row.difference is not None}
    return {
        s.variant: None if s.mean is None else Spent(_not_below_0(s), against.get(s.variant))
        for s in summarise(columns, confidence)
    }


def _not_below_0(s: VariantSummary) -> VariantSummary:
    """Nothing takes less than nothing."""
    return s if s.interval is None else replace(s, interval=(max(0.0, s.interval[0]), s.interval[1]))


def mean_text(spent: Spent | None, measure: str) -> str:
    """`$0.0012 [0.0011, 0.0013]`, `812 ms [760, 864]`, `412 [380, 444]` of `cost`, `seconds`, `tokens`; `$0` for what
    costs nothing."""
    if spent is None or spent.found.mean is None:
        return f.NONE
    mean, (before, scale, unit) = spent.found.mean, _unit(spent, measure)
    if measure == "cost" and not mean:
        return "$0"
    return f"{before}{_told(mean, spent.found.interval, scale, unit)}"


def spent_text(spent: Spent | None, measure: str) -> str:
    """The mean and, after a dot, the difference to the reference: `812 ms [760, 864] · −90 [−140, −40]`."""
    text = mean_text(spent, measure)
    if spent is None or spent.against is None or spent.against.difference is None or text == "$0":
        return text
    row, (_, scale, _) = spent.against, _unit(spent, measure)
    sign = "+" if row.difference is not None and row.difference > 0 else ""
    return f"{text} · {sign}{_told(row.difference or 0.0, row.interval, scale, '')}"


def took_parts(own: Took) -> list[str]:
    """All that is known of one variant: its cost, tokens and time."""
    parts = [("cost", own.cost, ""), ("tokens", own.tokens, " tokens"), ("seconds", own.seconds, "")]
    return [spent_text(spent, measure) + unit for measure, spent, unit in parts if spent is not None]


def _unit(spent: Spent, measure: str) -> tuple[str, float, str]:
    """What stands before the number, what it is multiplied by, and what stands after it."""
    if measure == "cost":
        return "$", 1.0, ""
    if measure == "tokens":
        return "", 1.0, ""
    return ("", 1000.0, " ms") if (spent.found.mean or 0.0) < 1 else ("", 1.0, " s")


def _told(value: float, bounds: tuple[float, float] | None, scale: float, unit: str) -> str:
    ends = None if bounds is None else (scale * bounds[0], scale * bounds[1])
    half = None if ends is None else (ends[1] - ends[0]) / 2
    return f"{f.number(scale * value, half)}{unit} {f.interval(ends, 'number') or '[?]'}"
