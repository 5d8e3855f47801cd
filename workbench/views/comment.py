"""The comment on a pull request, also the step summary: what changed, how it scores, what the gates say.

A forge looks for mentions, references and links in rendered text, everywhere but in code: so all foreign text
stands in code spans and code blocks, whose fences are longer than any run of backticks inside. A comment holds
65,536 characters; what does not fit is left out, and it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench.stats.gates import GateReport
from workbench.views import format as f
from workbench.views.gates import MARKS, numbers
from workbench.views.model import RunView, ScorerView

MOST_CHARS = 60_000
"""Below GitHub's limit of 65,536, which counts some characters twice."""
MOST_ROWS = 50
MOST_DIFF = 12_000
"""Characters of one prompt's diff."""
MOST_CELL = 200


@dataclass(frozen=True, slots=True)
class PromptChange:
    """A prompt that is not the baseline's."""

    name: str
    before: str
    """Revision of the baseline."""
    after: str
    diff: str
    """Unified; empty where the older text is not at hand."""


@dataclass(frozen=True, slots=True)
class NewFailure:
    """A case that was right in the baseline and is wrong now."""

    case: str
    variant: str
    scorer: str
    before: float
    after: float
    """Means over repeats."""
    expected: str
    output: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommentData:
    """All that a comment tells."""

    view: RunView
    report: GateReport | None
    """None: the suite has no gates, or they can't be judged, and `problem` says why."""
    problem: str = ""
    """That, or why the run they judge is not whole."""
    changes: Sequence[PromptChange] = ()
    failures: Sequence[NewFailure] = ()
    """The worst first."""


def comment(data: CommentData) -> str:
    """The comment as Markdown, at most 60,000 characters long. Its first line is a mark to find it again by."""
    suite = data.view.run.suite
    text = f"<!-- workbench {re.sub(r'[^A-Za-z0-9_./ ]', '', suite)} -->\n### {code(suite)}: {_headline(data)}\n\n"
    left_out = 0
    for section in _sections(data):
        if len(text) + len(section) <= MOST_CHARS:
            text += section
        else:
            left_out += 1
    if left_out:
        text += f"*{f.plural(left_out, 'section')} left out: the comment would be too long. See the report.*\n"
    return text


def code(text: str, cell: bool = False) -> str:
    """Foreign text as a code span of one line; in a table's cell, bars are escaped as GFM wants it."""
    text = f.one_line(f.shorten(text, MOST_CELL)) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return fence + pad + (text.replace("|", "\\|") if cell else text) + pad + fence


def code_block(text: str, language: str = "") -> str:
    """Foreign text as a code block."""
    text = f.printable(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _headline(data: CommentData) -> str:
    if data.report is None:
        return "gates could not be judged" if data.problem else "no gates"
    if data.problem and data.report.answer != "fail":
        return "the run is not whole"
    headlines = {"pass": "gates passed", "fail": "a gate failed", "unchanged": "unchanged, not measured again"}
    told = headlines.get(data.report.answer, "not enough data")
    return told + f.left_out(data.report.quarantined, "; ")


def _sections(data: CommentData) -> Iterator[str]:
    if data.problem:
        yield code_block(data.problem) + "\n"
    if data.report is not None:
        yield "".join(_gates(data.report))
    for change in data.changes:
        yield _change(change)
    for scorer in data.view.scorers:
        yield "".join(_scores(data.view, scorer))
    if data.failures:
        yield "".join(_failures(data.failures))
    yield _cost(data.view)


def _gates(report: GateReport) -> Iterator[str]:
    yield "| verdict | gate | variant | numbers |\n|---|---|---|---|\n"
    order = {"fail": 0, "not enough data": 1}
    rows = sorted(report.results, key=lambda r: order.get(r.answer, 2))
    for r in rows[:MOST_ROWS]:
        mark = f"**{MARKS[r.answer]}**" if r.answer == "fail" else MARKS[r.answer]
        yield f"| {mark} | {code(r.gate, True)} | {code(r.label, True)} | {code(numbers(r), True)} |\n"
    yield _more(len(rows))
    yield "\n"
    for note in report.notes:
        yield f"- {code(note)}\n"
    yield "\n" if report.notes else ""


def _change(change: PromptChange) -> str:
    head = f"Prompt {code(change.name)}, {f.short_id(change.before)} → {f.short_id(change.after)}"
    if not change.diff:
        return f"{head}: the older text is not at hand (fetch more of the git history).\n\n"
    return f"{head}:\n\n{code_block(f.shorten(change.diff, MOST_DIFF), 'diff')}\n"


def _scores(view: RunView, scorer: ScorerView) -> Iterator[str]:
    yield f"| {code(scorer.name, True)} | mean | difference to reference | verdict | cases |\n|---|--:|--:|---|--:|\n"
    compared = {row.variant: row for row in scorer.comparisons}
    for s in scorer.summaries[:MOST_ROWS]:
        row = compared.get(s.variant)
        verdict = f.verdict(row) if row else "reference" if len(view.variants) > 1 else ""
        cells = [code(view.labels[s.variant], True), code(f.estimate(s), True)]
        cells += [code(f.difference(row), True) if row else "", verdict, f"{s.cases:,}"]
        yield "| " + " | ".join(cells) + " |\n"
    yield _more(len(scorer.summaries))
    yield f"\n{f.left_out(len(view.quarantined))}\n" if view.quarantined else ""
    yield "\n"


def _failures(failures: Sequence[NewFailure]) -> Iterator[str]:
    yield "Right in the baseline, wrong now:\n\n"
    yield "| case | variant | scorer | before → now | expected | answer | reason |\n|---|---|---|---|---|---|---|\n"
    for one in failures[:10]:
        cells = (one.case, one.variant, one.scorer, f"{one.before:.2g} → {one.after:.2g}")
        told = [code(cell, True) for cell in (*cells, one.expected, one.output, one.reason)]
        yield "| " + " | ".join(told) + " |\n"
    if len(failures) > 10:
        yield f"\n… and {len(failures) - 10:,} more.\n"
    yield "\n"


def _cost(view: RunView) -> str:
    used = list(view.usage.values())
    costs = [u.cost for u in used]
    cost = f.money(None if None in costs else sum(c for c in costs if c is not None))
    tokens = f.tokens(sum(u.prompt_tokens + u.output_tokens for u in used))
    failed = sum(u.failed for u in used)
    return (
        f"{f.plural(sum(u.trials for u in used), 'trial')}, {failed:,} failed, {tokens} tokens, cost {cost} · "
        f"run {code(view.run.id)}\n"
    )


def _more(rows: int) -> str:
    return f"\n… and {rows - MOST_ROWS:,} more rows.\n" if rows > MOST_ROWS else ""
