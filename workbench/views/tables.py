"""Tables and panels for the terminal. Foreign text enters as `Text` of printable characters, never as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from workbench.records import Json, Run
from workbench.stats.paired import PairedComparison
from workbench.store.runs import TrialRow, VariantRow
from workbench.views import format as f
from workbench.views.charts import axis, text_bar
from workbench.views.model import RunView, ScorerView
from workbench.views.plain import plain
from workbench.views.took import took_parts
from workbench.views.votes import rate_line

STATUS_STYLE = {"complete": "green", "running": "cyan", "stopped": "yellow", "interrupted": "yellow", "failed": "red"}
VERDICT_STYLE = {"better": "green", "worse": "red", "not enough data": "dim"}
WHOLE_FROM = 72
"""Columns of a terminal from which on numbers are never folded."""
DRAWN_FROM = 110
"""… from which on intervals are drawn beside them."""
OUTPUT_CHARS = 20_000
"""A longer answer is cut in a terminal; `report --to json` has all of it."""


def run_tables(view: RunView, width: int = 80) -> list[Table]:
    """A table for each scorer: every variant's mean with its interval, and its difference to the reference.
    `width` is the terminal's."""
    if not view.scorers:
        return [variants_table(view.variants)]
    return [_score_table(view, scorer, width >= WHOLE_FROM) for scorer in view.scorers]


def run_line(view: RunView) -> Text:
    """The run in a line: trials, failures, tokens, cost; says so while it is not complete."""
    used = list(view.usage.values())
    costs = [u.cost for u in used]
    parts = [
        f.plural(sum(u.trials for u in used), "trial"),
        f"{sum(u.failed for u in used):,} failed",
        f"{f.tokens(sum(u.prompt_tokens + u.output_tokens for u in used))} tokens",
        f"cost {f.money(None if None in costs else sum(c for c in costs if c is not None))}",
    ]
    parts += [f.left_out(len(view.quarantined))] if view.quarantined else []
    parts.append(
        "repeats exactly" if all(r.header.get("repeats_exactly") for r in view.runs) else "repeats in distribution"
    )
    for facts in (run.header.get("stopping") for run in view.runs if run.status == "complete"):
        if facts and facts["cases_asked"] < facts["cases"]:
            parts.append(f"{f.plural(facts['cases'] - facts['cases_asked'], 'case')} of {facts['cases']:,} not asked")
    open_runs = [f"{f.one_line(run.id)} is {run.status}" for run in view.runs if run.status != "complete"]
    if open_runs:
        parts.append(f"incomplete ({', '.join(open_runs)}): these numbers may still change")
    return Text(" · ".join(parts), "yellow" if open_runs else "dim")


def compare_table(view: RunView, scorer: ScorerView, width: int = 80) -> Table:
    """Each variant against the reference by one scorer: difference, p-value, verdict, and the interval drawn where
    the terminal has room (`width` columns); below it which one is best, and what these cases can show."""
    unit = "" if scorer.kind == "number" else ", points"
    reference = f.one_line(view.labels.get(view.reference or "", "–"))
    table = _table(
        f"{f.one_line(scorer.name)}: difference to {reference}{unit}{f.left_out(len(view.quarantined), ' · ')}"
    )
    wide = width >= DRAWN_FROM
    _columns(table, "variant", "difference", *[""] * wide, "p", "won, lost, tied", "cases", "verdict")
    ends = axis([row.interval for row in scorer.comparisons if row.interval], symmetric=True)
    for row in scorer.comparisons:
        table.add_row(
            _text(view.labels[row.variant]),
            Text(f.difference(row), no_wrap=width >= WHOLE_FROM),
            *[_drawn(row, ends)] * wide,
            f.p_value(row.p),
            f"{row.wins}/{row.losses}/{row.ties}",
            f"{row.pairs:,}",
            Text(f.verdict(row), VERDICT_STYLE.get(row.verdict, "")),
        )
    if scorer.standing:
        table.caption, table.caption_justify = Text(scorer.standing, "dim"), "left"
    return table


def _drawn(row: PairedComparison, ends: tuple[float, float]) -> Text:
    if row.interval is None or row.difference is None:
        return Text("")
    return Text(text_bar(row.interval[0], row.difference, row.interval[1], *ends), no_wrap=True)


def effect_lines(view: RunView, scorer: ScorerView) -> list[Text]:
    """How large each difference is beside its own spread, a line a variant."""
    told = [(view.labels[row.variant], f.effect(row)) for row in scorer.comparisons]
    return [Text(f"effect of {f.one_line(label)}: {effect}", "dim") for label, effect in told if effect]


def took_lines(view: RunView) -> list[Text]:
    """What an answer of each variant took, and by how much more or less than one of the reference, a line a variant."""
    told = [(view.labels[v], took_parts(took)) for v, took in view.took.items()]
    return [Text(f"an answer of {f.one_line(label)} took {', '.join(parts)}", "dim") for label, parts in told if parts]


def power_lines(scorer: ScorerView) -> list[Text]:
    """How small a difference these cases can show, in a line; none where nothing is compared."""
    return [Text(scorer.power, "dim")] if scorer.power else []


def length_lines(view: RunView, scorer: ScorerView) -> list[Text]:
    """Of a judge of pairs, each variant's win rate beside that at equal length."""
    told = [rate_line(rate, view.labels.get(rate.player, rate.player)) for rate in scorer.equal_length]
    return [Text(f"{f.one_line(scorer.name)}, {line}", "dim") for line in told]


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
    if row.retrieved:
        parts += [Rule("retrieved", align="left", style="dim"), Text("\n".join(f.retrieved(row.retrieved)))]
    if row.expected is not None:
        parts += [Rule("expected", align="left", style="dim"), _block(row.expected)]
    parts += [Rule("answer", align="left", style="bold"), _answer(row)]
    for score in row.scores:
        value = f.NONE if score.value is None else str(score.value)
        parts.append(_text(f"{score.scorer}: {value} ({score.kind}) – {score.reason}"))
    title = f"{f.short_id(row.trial_id)} · case {row.case_id} · {label} · repeat {row.repeat}"
    title += " · quarantined" if row.quarantined else ""
    return Panel(Group(*parts), title=_text(title), title_align="left")


def trial_json(row: TrialRow, label: str) -> Json:
    """One trial as JSON, with the variant's short name."""
    return {"variant": label, **plain(row)}


def _score_table(view: RunView, scorer: ScorerView, whole: bool) -> Table:
    """Numbers and verdicts are kept whole; the variants' names fold where the terminal is narrow."""
    table = Table(title=_title(view, scorer), title_justify="left", header_style="bold")
    table.add_column("variant", overflow="fold", min_width=10 if whole else None)
    for name in ("mean", "difference"):
        table.add_column(name, no_wrap=whole, overflow="fold")
    table.add_column("verdict", overflow="fold", min_width=10 if whole else None)
    table.add_column("cases", justify="right", no_wrap=whole)
    compared = {row.variant: row for row in scorer.comparisons}
    for variant, summary in zip(view.variants, scorer.summaries, strict=True):
        row = compared.get(variant.id)
        verdict = row.verdict if row else "reference" if len(view.variants) > 1 else ""
        table.add_row(
            _text(variant.label),
            Text(f.estimate(summary)),
            Text(f.difference(row) if row else ""),
            Text(f.verdict(row) if row else verdict, VERDICT_STYLE.get(verdict, "")),
            f"{summary.cases:,}",
        )
    unknown = {row.why for row in scorer.summaries if row.interval is None}
    unknown |= {row.why for row in scorer.comparisons if row.interval is None}
    if scorer.kind != "label" and unknown:
        table.caption, table.caption_justify = Text(f"[?]: {'; '.join(sorted(unknown))}", "dim"), "left"
    return table


def _answer(row: TrialRow) -> RenderableType:
    if row.output is None:
        return Text("not asked yet", "dim")
    if row.output.failure is not None:
        return Text(f.printable(f"failed ({row.output.failure.kind}): {row.output.failure.message}"), "red")
    return _block(row.output.text)


def _block(content: object) -> Text:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
    return Text(f.printable(f.shorten(text, OUTPUT_CHARS)))


def _title(view: RunView, scorer: ScorerView) -> Text:
    confidence = scorer.summaries[0].confidence if scorer.summaries else 0.95
    runs = ", ".join(f.one_line(run.id) for run in view.runs)
    name = f"{f.one_line(view.run.suite)} · {f.one_line(scorer.name)}"
    return Text(f"{name} · {100 * confidence:g} % intervals · {runs}{f.left_out(len(view.quarantined), ' · ')}")


def _table(title: str | None) -> Table:
    return Table(title=None if title is None else Text(title), title_justify="left", header_style="bold")


def _columns(table: Table, first: str, *rest: str) -> None:
    """The first column may be folded; the rest are kept whole as long as there is room."""
    table.add_column(Text(first), overflow="fold")
    for name in rest:
        table.add_column(Text(name), overflow="fold", justify="right" if name in _NUMERIC else "left")


_NUMERIC = {"p", "cases", "failed", "tokens", "cost", "time", "answered", "won, lost, tied"}


def _text(text: str) -> Text:
    return Text(f.one_line(text))
