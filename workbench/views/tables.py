"""Tables and panels for the terminal. Foreign text enters as `Text` of printable characters, never as markup."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from workbench.records import Json, Run
from workbench.store.runs import TrialRow, VariantRow
from workbench.views import format as f
from workbench.views.charts import axis, text_bar
from workbench.views.model import RunView, ScorerView
from workbench.views.plain import plain

STATUS_STYLE = {"complete": "green", "running": "cyan", "stopped": "yellow", "interrupted": "yellow", "failed": "red"}
VERDICT_STYLE = {"better": "green", "worse": "red", "not enough data": "dim"}
OUTPUT_CHARS = 20_000
"""A longer answer is cut in a terminal; `report --to json` has all of it."""


def run_table(view: RunView, width: int | None = None) -> Table:
    """Variants × scorers with intervals, and what each variant took.

    `width` is the terminal's: where the table does not fit in it, it has a row for each variant and scorer
    instead of a column for each scorer."""
    table = _wide_table(view)
    if width is not None and _width(table) > width:
        return _long_table(view)
    return table


def compare_table(view: RunView, scorer: ScorerView) -> Table:
    """Each variant against the reference by one scorer: difference, interval drawn, p-value, verdict."""
    unit = "" if scorer.kind == "number" else ", points"
    reference = f.one_line(view.labels.get(view.reference or "", "–"))
    table = _table(f"{f.one_line(scorer.name)}: difference to {reference}{unit}")
    _columns(table, "variant", "difference", "", "p", "won/lost/tied", "cases", "verdict")
    drawn = axis([row.interval for row in scorer.comparisons if row.interval], symmetric=True)
    for row in scorer.comparisons:
        bar = ""
        if row.interval is not None and row.difference is not None:
            bar = text_bar(row.interval[0], row.difference, row.interval[1], *drawn)
        more = f" ({row.more_cases:,} more cases)" if row.more_cases else ""
        table.add_row(
            _text(view.labels[row.variant]),
            f.difference(row),
            bar,
            f.p_value(row.p),
            f"{row.wins}/{row.losses}/{row.ties}",
            f"{row.pairs:,}",
            Text(row.verdict + more, VERDICT_STYLE.get(row.verdict, "")),
        )
    return table


def runs_table(runs: Iterable[Run]) -> Table:
    """Runs, one a line."""
    table = _table(None)
    _columns(table, "run", "suite", "stage", "status", "started", "answered", "failed")
    for run in runs:
        table.add_row(
            Text(f.one_line(run.id), no_wrap=True),
            _text(run.suite),
            _text(run.stage),
            Text(run.status, STATUS_STYLE.get(run.status, "")),
            run.started[:16].replace("T", " "),
            f"{run.answered:,} of {run.planned:,}",
            f"{run.failed:,}" if run.failed else f.NONE,
        )
    return table


def variants_table(variants: Iterable[VariantRow]) -> Table:
    """What each variant is."""
    table = _table(None)
    _columns(table, "variant", "prompt", "revision", "model", "settings")
    for v in variants:
        settings = json.dumps({k: x for k, x in v.settings.items() if x not in ({}, 0, None)}, ensure_ascii=False)
        table.add_row(_text(v.label), _text(v.prompt), f.short_id(v.revision), _text(v.model), _text(settings))
    return table


def trial_panel(row: TrialRow, label: str) -> Panel:
    """One trial whole: the exact messages, the answer or why there is none, scores with their reasons."""
    parts: list[RenderableType] = []
    for message in row.messages:
        parts += [Rule(_text(str(message.get("role", ""))), align="left", style="dim"), _block(message.get("content"))]
    if row.expected is not None:
        parts += [Rule("expected", align="left", style="dim"), _block(row.expected)]
    parts += [Rule("answer", align="left", style="bold"), _answer(row)]
    for score in row.scores:
        value = f.NONE if score.value is None else str(score.value)
        parts.append(_text(f"{score.scorer}: {value} ({score.kind}) – {score.reason}"))
    title = f"{f.short_id(row.trial_id)} · case {row.case_id} · {label} · repeat {row.repeat}"
    return Panel(Group(*parts), title=_text(title), title_align="left")


def trial_json(row: TrialRow, label: str) -> Json:
    """One trial as JSON, with the variant's short name."""
    return {"variant": label, **plain(row)}


def _wide_table(view: RunView) -> Table:
    table = _table(_title(view), _note(view))
    names = [f.one_line(s.name) for s in view.scorers]
    _columns(table, "variant", *names, "cases", "failed", "tokens", "cost", "time")
    for i, variant in enumerate(view.variants):
        estimates = [f.estimate(s.summaries[i]) for s in view.scorers]
        cases = max((s.summaries[i].cases for s in view.scorers), default=0)
        table.add_row(_label(view, variant), *map(Text, estimates), f"{cases:,}", *_took(view, variant))
    return table


def _long_table(view: RunView) -> Table:
    table = _table(_title(view), _note(view))
    _columns(table, "variant", "scorer", "mean", "cases")
    for i, variant in enumerate(view.variants):
        for j, scorer in enumerate(view.scorers):
            summary = scorer.summaries[i]
            label = Text() if j else _label(view, variant)
            table.add_row(label, _text(scorer.name), Text(f.estimate(summary)), f"{summary.cases:,}")
        if not view.scorers:
            table.add_row(_label(view, variant), f.NONE, f.NONE, "0")
    return table


def _took(view: RunView, variant: VariantRow) -> list[str]:
    used = view.usage.get(variant.id)
    if used is None:
        return [f.NONE] * 4
    failed = f"{used.failed:,}" if used.failed else f.NONE
    return [failed, f.tokens(used.prompt_tokens + used.output_tokens), f.money(used.cost), f.seconds(used.seconds)]


def _answer(row: TrialRow) -> RenderableType:
    if row.output is None:
        return Text("not asked yet", "dim")
    if row.output.failure is not None:
        return Text(f.printable(f"failed ({row.output.failure.kind}): {row.output.failure.message}"), "red")
    return _block(row.output.text)


def _block(content: object) -> Text:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
    return Text(f.printable(f.shorten(text, OUTPUT_CHARS)))


def _label(view: RunView, variant: VariantRow) -> Text:
    mark = " (reference)" if variant.id == view.reference and len(view.variants) > 1 else ""
    return _text(variant.label + mark)


def _title(view: RunView) -> str:
    confidence = next((s.summaries[0].confidence for s in view.scorers if s.summaries), 0.95)
    runs = ", ".join(f.one_line(run.id) for run in view.runs)
    return f"{f.one_line(view.run.suite)} · {runs} · {100 * confidence:g} % intervals"


def _table(title: str | None, note: str | None = None) -> Table:
    return Table(
        title=None if title is None else Text(title),
        title_justify="left",
        caption=None if note is None else Text(note, "yellow"),
        caption_justify="left",
        header_style="bold",
    )


def _note(view: RunView) -> str | None:
    """An unfinished run says so."""
    open_runs = [f"{f.one_line(run.id)} is {run.status}" for run in view.runs if run.status != "complete"]
    return f"incomplete ({', '.join(open_runs)}): these numbers may still change" if open_runs else None


def _columns(table: Table, first: str, *rest: str) -> None:
    """The first column may be folded; the rest are kept whole as long as there is room."""
    table.add_column(Text(first), overflow="fold")
    for name in rest:
        table.add_column(Text(name), overflow="fold", justify="right" if name in _NUMERIC else "left")


_NUMERIC = {"p", "cases", "failed", "tokens", "cost", "time", "answered", "won/lost/tied"}


def _text(text: str) -> Text:
    return Text(f.one_line(text))


def _width(table: Table) -> int:
    console = Console(width=10_000, file=io.StringIO())
    return Measurement.get(console, console.options, table).maximum
