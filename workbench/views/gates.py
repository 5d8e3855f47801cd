"""What gates say, in words: the verdict and the numbers that led to it. Foreign text is made printable."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.stats.gates import GateReport, GateResult
from workbench.views import format as f

MARKS = {"pass": "pass", "fail": "FAIL", "not enough data": "not enough data", "new": "new", "unchanged": "unchanged"}


def gate_lines(report: GateReport) -> Iterator[str]:
    """A line a gate and variant, the notes, what the run lacks, and a line on the whole."""
    for result in report.results:
        yield f"{MARKS[result.answer]}: {f.one_line(result.gate)} · {f.one_line(result.label)}: {numbers(result)}"
    for note in report.notes:
        yield f"note: {f.one_line(note)}"
    if report.problem:
        yield f"not whole: {f.one_line(report.problem)}"
    yield summary_line(report)


def summary_line(report: GateReport) -> str:
    """`gates: fail (1 fail, 5 pass)`, with how many cases are in quarantine."""
    standings = [result.answer for result in report.results]
    counts = [f"{standings.count(s)} {s}" for s in ("fail", "not enough data", "pass", "unchanged", "new")
              if s in standings]  # fmt: skip
    aside = f.left_out(report.quarantined, "; ") + ("; the run is not whole" if report.problem else "")
    return f"gates: {report.answer} ({', '.join(counts) or 'none was judged'}){aside}"


def numbers(result: GateResult) -> str:
    """What was measured, the bound that decided, what it was held to, and how many cases are left out of it."""
    return _measured(result) + f.left_out(result.quarantined, "; ")


def _measured(result: GateResult) -> str:
    decision = result.decision
    if decision.value is None:
        told = f.one_line(result.why)
        if result.answer == "unchanged" and result.value is not None:
            told += f", not measured again ({amount(result.value, result)})"
        return told or "nothing was measured"
    paired = result.rule == "no_worse_than"
    cases = f.plural(decision.cases, "case")
    if decision.labels is not None:
        write = _signed if paired else amount
        alone = f"the judge alone {write(decision.judge or 0.0, result)}"
        what = f"{write(decision.value, result)} by people's labels of {decision.labels:,} ({alone})"
    elif paired:
        what = f"{_signed(decision.value, result)} ({_of(result.value, result)} after {_of(result.other, result)})"
    else:
        what = amount(decision.value, result)
    return f"{what} on {cases}; {_bounds(result)}"


def amount(value: float, result: GateResult) -> str:
    """A mean in the unit of what is measured."""
    if result.kind == "dollars":
        return f.money(value)
    if result.kind == "seconds":
        return f.seconds(value)
    if result.kind == "number":
        return f.number(value)
    return f"{100 * value:.1f} %"


def _bounds(result: GateResult) -> str:
    decision, paired = result.decision, result.rule == "no_worse_than"
    if decision.lower is None or decision.upper is None:
        return f"without bounds: {decision.why}"
    write = _signed if paired else amount
    at_most = result.rule == "at_most"
    held = _held(result)
    if result.answer == "not enough data":
        told = f"between {write(decision.lower, result)} and {write(decision.upper, result)}, {held}: nothing is shown"
        return told + _needed(result)
    from_below = (result.answer == "pass") != at_most
    name = "lower" if from_below else "upper"
    bound = decision.lower if from_below else decision.upper
    alpha = 1 - result.confidence if result.answer == "pass" else decision.fail_alpha
    method = "" if decision.labels is None else f"{decision.method} "
    told = f"{name} {method}{100 * (1 - alpha):.3g} % bound {write(bound, result)}"
    if paired and result.answer == "fail":
        return f"{told}, below 0"
    return f"{told}, {held}"


def _needed(result: GateResult) -> str:
    """What would settle it."""
    labels, cases = result.labels_needed or 0, result.cases_needed or 0
    would = "would do" if result.rule == "no_worse_than" else "would bring these half as near to each other"
    if result.decision.labels is not None and labels > result.decision.labels and cases:
        return f"; about {f.plural(labels, 'label')} in {f.plural(cases, 'case')} {would}"
    if result.decision.labels is not None and labels > result.decision.labels:
        return f"; about {f.plural(labels, 'label')} {would}"
    if cases > result.decision.cases:
        each = "" if result.decision.labels is None else ", each with a label,"
        return f"; about {f.plural(cases, 'case')}{each} {would}"
    return ""


def _held(result: GateResult) -> str:
    if result.rule == "no_worse_than":
        return f"accepted {_signed(-result.bound, result)}"
    return f"{result.rule.replace('_', ' ')} {amount(result.bound, result)}"


def _of(value: float | None, result: GateResult) -> str:
    return f.NONE if value is None else amount(value, result)


def _signed(value: float, result: GateResult) -> str:
    """A difference in points."""
    text = f"{100 * value:+.1f}".replace("-", f.MINUS)
    return ("0.0" if text[1:] == "0.0" else text) + " points"
