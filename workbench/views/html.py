"""The HTML report: one file that needs nothing else, no script, and lets nothing in an answer become markup.

Jinja escapes every value; the page's content security policy allows only its own style sheet, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workbench.records import Json
from workbench.stats.paired import PairedComparison
from workbench.stats.summary import VariantSummary
from workbench.store.runs import TrialRow
from workbench.views import format as f
from workbench.views.charts import axis, interval_svg
from workbench.views.gates import MARKS, numbers, summary_line
from workbench.views.looks import run_looks
from workbench.views.marks import mark
from workbench.views.model import RunView, ScorerView
from workbench.views.took import spent_text
from workbench.views.votes import rate_line

MOST_CASES = 500
MOST_CELLS = 10_000
"""Cases × variants shown; a browser stays quick with so many."""
OUTPUT_CHARS = 4_000
"""A longer answer is cut, with a note."""


@dataclass(frozen=True, slots=True)
class CaseBlock:
    """One case with what every variant made of it."""

    id: str
    inputs: str
    expected: str | None
    quarantined: bool
    trials: dict[str, list[TrialRow]] = field(default_factory=dict)
    """By variant id, one for each repeat."""


def html_report(view: RunView, rows: Iterable[TrialRow]) -> Iterator[str]:
    """The page in pieces. Above 500 cases (fewer with many variants) only the first are shown, and it says so."""
    cases, left_out = _first_cases(rows, max(10, min(MOST_CASES, MOST_CELLS // max(1, len(view.variants)))))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "printable": f.printable, "one_line": f.one_line, "hash": _style_hash, "estimate": f.estimate,
        "difference": f.difference, "p_value": f.p_value, "seconds": f.seconds, "money": f.money,
        "tokens": f.tokens, "short_id": f.short_id, "mark": mark, "text": _text,
        "settings": _settings, "minute": _minute, "numbers": numbers, "gates_said": summary_line,
        "rate_line": rate_line, "left_out": f.left_out, "spent": spent_text,
    }  # fmt: skip
    template = environment.get_template("report.html")
    header = dict(view.run.header)
    suite_text = header.pop("suite", None)
    return template.generate(
        view=view, labels=view.labels, cases=cases, left_out=left_out, suite_text=suite_text, marks=MARKS,
        looks=run_looks(view.run, view.labels),
        header=json.dumps(header, ensure_ascii=False, indent=1, default=str),
        drawn={s.name: _drawn(s) for s in view.scorers},
        marked=[s.name for s in view.scorers if s.kind in ("pass", "fraction")],
    )  # fmt: skip


def _first_cases(rows: Iterable[TrialRow], most: int) -> tuple[list[CaseBlock], int]:
    """The first cases with their trials, and how many trials of other cases there are."""
    cases: dict[str, CaseBlock] = {}
    left_out = 0
    for row in rows:
        block = cases.get(row.case_id)
        if block is None:
            if len(cases) >= most:
                left_out += 1
                continue
            expected = None if row.expected is None else _text(row.expected)
            block = cases[row.case_id] = CaseBlock(row.case_id, _text(dict(row.inputs)), expected, row.quarantined)
        block.trials.setdefault(row.variant_id, []).append(row)
    return list(cases.values()), left_out


def _drawn(scorer: ScorerView) -> dict[str, dict[str, str]]:
    """For a scorer the drawings of its means and of its differences, by variant."""
    means = [s for s in scorer.summaries if s.interval is not None]
    ends = axis([s.interval for s in means if s.interval], symmetric=False) if scorer.kind == "number" else (0.0, 1.0)
    differences = [c for c in scorer.comparisons if c.interval is not None]
    reach = axis([c.interval for c in differences if c.interval], symmetric=True)
    return {
        "mean": {s.variant: _svg(s, s.mean, ends) for s in means},
        "difference": {c.variant: _svg(c, c.difference, reach) for c in differences},
    }


def _svg(row: VariantSummary | PairedComparison, middle: float | None, ends: tuple[float, float]) -> str:
    low, high = row.interval or (0.0, 0.0)
    return interval_svg(low, middle or 0.0, high, *ends)


def _text(value: object) -> str:
    """A JSON value or an answer as text to read, cut where it is too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return f.printable(f.shorten(text, OUTPUT_CHARS))


def _settings(settings: Mapping[str, Json]) -> str:
    """A variant's settings on a line; what is not set is left out."""
    return f.one_line(
        json.dumps({name: value for name, value in settings.items() if value not in ({}, None)}, ensure_ascii=False)
    )


def _minute(time: str) -> str:
    """`2026-01-31 10:00` of an ISO time."""
    return f.one_line(time[:16].replace("T", " "))


def _style_hash(style: str) -> str:
    """The source expression of a style sheet for a content security policy (CSP level 3, §2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
