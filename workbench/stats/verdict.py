"""One plain sentence on what a run shows, and honest where it shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.records import Json, Kind
from workbench.stats.paired import PairedComparison, Verdict
from workbench.stats.reduce import Bounds
from workbench.stats.summary import VariantSummary

_VERBS: dict[Verdict, str] = {
    "better": "beats",
    "worse": "is worse than",
    "higher": "is higher than",
    "lower": "is lower than",
    "equivalent": "equivalent to",
    "not enough data": "can't be told from",
    "unchanged, not measured again": "unchanged, not measured again: the same answers as",
}
"""In the order in which they are said."""

MOST_TOLD = 3
"""Variants that a sentence names one by one."""


def verdict_sentence(
    scorer: str,
    summaries: Sequence[VariantSummary],
    comparisons: Sequence[PairedComparison],
    labels: Mapping[str, str],
) -> str:
    """What the comparisons of one scorer show; what the summaries show where nothing is compared.

    `labels` names variants by id. "About N more cases" is what the neediest of the undecided variants still
    lacks to find a difference of the margin with 80 % power, going by the measured variance."""
    clauses: list[str] = []
    for verdict in _VERBS:
        rows = [row for row in comparisons if row.verdict == verdict]
        if rows:
            reference = "it" if clauses else f"the reference {labels.get(rows[0].reference, rows[0].reference)}"
            clauses.append(_clause(rows, len(rows) == len(comparisons), reference, labels))
    clauses = clauses or [_alone(summary, labels) for summary in summaries] or ["nothing is scored"]
    missing = sum(summary.missing for summary in summaries)
    if missing:
        clauses.append(f"{_count(missing, 'trial')} without a score left out")
    return f"On {scorer}, {'; '.join(clauses)}."


def stopped_sentence(facts: Mapping[str, Json], labels: Mapping[str, str]) -> str:
    """What a run with `until` or `race` has decided, by what its header says (`stopping.Stopping.report`)."""
    asked, cases = facts["cases_asked"], facts["cases"]
    so_far = f"{asked:,} of {_count(cases, 'case')}" if asked < cases else f"all {_count(cases, 'case')}"
    told = _race_told(facts, labels) if facts["rule"] == "race" else _until_told(facts, labels)
    return f"{'settled' if facts['settled'] else 'not settled'} after {so_far}: {told}"


def _until_told(facts: Mapping[str, Json], labels: Mapping[str, str]) -> str:
    rows = [row for row in facts["standings"] if row["verdict"] != "not enough data"]
    told = []
    for row in rows[:MOST_TOLD]:
        kind, bounds = facts["kind"], tuple(row["interval"])
        one, other = labels.get(row["variant"], row["variant"]), labels.get(row["against"], row["against"])
        if row["verdict"] == "equivalent":
            size = _points(facts["smaller_than"], kind, None)
            told.append(f"{one} and {other} differ by less than {size} ({_count(row['pairs'], 'case')})")
        else:
            ends = bounds if bounds[0] > 0 else (-bounds[1], -bounds[0])
            size = _points(abs(row["difference"]), kind, ends)
            inner = f"{_bounds(ends, kind, facts['confidence'])} over all looks, {_count(row['pairs'], 'case')}"
            told.append(f"{one} is {row['verdict']} than {other} by {size} ({inner})")
    if len(rows) > MOST_TOLD:
        told.append(f"{_count(len(rows) - MOST_TOLD, 'other')} settled")
    if facts["left"]:
        told.append(f"{_count(len(facts['left']), 'comparison')} open")
    return "; ".join(told)


def _race_told(facts: Mapping[str, Json], labels: Mapping[str, str]) -> str:
    left = [labels.get(v, v) for v in facts["left"]]
    names = ", ".join(left[:MOST_TOLD]) + (f" and {len(left) - MOST_TOLD:,} more" if len(left) > MOST_TOLD else "")
    after = sorted(row["cases"] for row in facts["standings"] if row["verdict"] == "dropped")
    if not after:
        return f"no variant dropped; {names} are left"
    when = f"{after[0]:,}" if after[0] == after[-1] else f"{after[0]:,} to {after[-1]:,}"
    sure = f"{100 * facts['confidence']:g} %"
    dropped = f"{_count(len(after), 'variant')} dropped after {when} cases (none of the best, with {sure} confidence)"
    return f"{names} {'is' if len(left) == 1 else 'are'} left; {dropped}"


def _points(value: float, kind: Kind, interval: Bounds | None) -> str:
    amount = _amount(value, kind, interval) if kind == "number" or interval else f"{100 * value:g}"
    return amount if kind == "number" else f"{amount} point{'' if amount == '1' else 's'}"


def _clause(rows: Sequence[PairedComparison], all_of_them: bool, reference: str, labels: Mapping[str, str]) -> str:
    """What is said of the rows that share a verdict: of a difference, the largest first."""
    verdict = rows[0].verdict
    one = labels.get(rows[0].variant, rows[0].variant)
    if verdict == "not enough data":
        none = f"none of the {len(rows)} other variants can be told from {reference}"
        some = f"{_count(len(rows), 'variant')} {_VERBS[verdict]} {reference}"
        said = f"{one} {_VERBS[verdict]} {reference}" if len(rows) == 1 else none if all_of_them else some
        return said + _more(rows) + _torn(rows)
    if verdict == "unchanged, not measured again":
        return f"{one if len(rows) == 1 else _count(len(rows), 'variant')} {_VERBS[verdict]} {reference}"
    if verdict == "equivalent":
        who = f"{one} is" if len(rows) == 1 else f"{_count(len(rows), 'variant')} are"
        return f"{who} {_VERBS[verdict]} {reference} within {100 * rows[0].margin:g} points"
    top = max(rows, key=lambda row: abs(row.difference or 0))
    others = len(rows) - 1
    more = f", {_count(others, 'other')} by less" if others else ""
    return f"{labels.get(top.variant, top.variant)} {_VERBS[verdict]} {reference} by {_by(top)}{more}"


def _alone(summary: VariantSummary, labels: Mapping[str, str]) -> str:
    name, cases = labels.get(summary.variant, summary.variant), _count(summary.cases, "case")
    if summary.counts:
        label, times = summary.counts[0]
        return f"{name} says {label} most often ({times:,} of {summary.scores:,})"
    if summary.mean is None:
        return f"nothing is scored for {name}"
    mean = _amount(summary.mean, summary.kind, summary.interval) + ("" if summary.kind == "number" else " %")
    if summary.interval is None:
        return f"{name} has a mean of {mean} ({cases}) without an interval: {summary.why}"
    return f"{name} has a mean of {mean} ({_bounds(summary.interval, summary.kind, summary.confidence)}, {cases})"


def _by(row: PairedComparison) -> str:
    amount = _amount(abs(row.difference or 0), row.kind, row.interval)
    unit = "" if row.kind == "number" else " point" if amount == "1" else " points"
    low, high = row.interval or (0.0, 0.0)
    ends = (low, high) if low > 0 else (-high, -low)
    return f"{amount}{unit} ({_bounds(ends, row.kind, row.confidence)}, {_count(row.pairs, 'case')})"


def _bounds(interval: Bounds, kind: Kind, confidence: float) -> str:
    low, high = (_amount(end, kind, interval) for end in interval)
    return f"{100 * confidence:g} % interval {low} to {high}"


def _amount(value: float, kind: Kind, interval: Bounds | None) -> str:
    """In percent or the number's own unit; a decimal where the interval is below two points or touches 0."""
    if kind == "number":
        return f"{value:.3g}"
    fine = interval is not None and (interval[1] - interval[0] < 0.02 or 0 < min(map(abs, interval)) < 0.005)
    return f"{100 * value:.{1 if fine else 0}f}"


def _more(undecided: Sequence[PairedComparison]) -> str:
    """What would settle it."""
    margin = f"{100 * undecided[0].margin:g} points"
    more = max((row.more_cases for row in undecided if row.more_cases is not None), default=None)
    if more is None:
        return f" ({_count(max(row.pairs for row in undecided), 'case')})"
    if more == 0:
        return f", though a true difference of {margin} would most likely have been found"
    return f"; about {_count(more, 'more case')} would find a true difference of {margin}"


def _torn(undecided: Sequence[PairedComparison]) -> str:
    """Where the table shows an interval beside 0 and yet no verdict: the test, which a verdict needs too, says no."""
    rows = [
        row for row in undecided if row.interval and row.p is not None and (row.interval[0] > 0 or row.interval[1] < 0)
    ]
    if not rows:
        return ""
    if len(rows) > 1:
        return f"; the intervals of {_count(len(rows), 'variant')} exclude 0, but their tests are not that sure"
    return f"; its interval excludes 0, but the test is not that sure ({rows[0].test_method}, p = {rows[0].p:.2g})"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
