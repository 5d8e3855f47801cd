"""Reports as files: Markdown for a comment, HTML to read, JSON with everything, CSV for a spreadsheet.

Rows are read as a stream; only the HTML report keeps some of them in memory, and caps how many.

JSON, `workbench-report/1`: {schema, run, reference, quarantined: [case id], variants: [{…, usage, took}], scorers:
[{name, kind, summaries, comparisons, sentence, ranking, sees, power, standing, equal_length}], gates: {answer, results,
notes, quarantined} or null, trials: [{trial_id, …, output, scores}]}; field names are those of the records, what is not
finite or not known is null; `views/schema.py` is its JSON Schema.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from workbench.errors import UnknownName, UseError
from workbench.records import Json
from workbench.store.runs import TrialRow
from workbench.views import format as f
from workbench.views.gates import gate_lines
from workbench.views.html import html_report
from workbench.views.looks import run_looks
from workbench.views.model import RunView, ScorerView
from workbench.views.plain import json_text, plain
from workbench.views.took import Spent, Took, spent_text
from workbench.views.votes import rate_line

Chunks = Iterator[str]


def write_report(view: RunView, rows: Iterable[TrialRow], to: str, target: Path | TextIO) -> None:
    """Write the run's report in the form `to`: `md`, `html`, `json` or `csv`.

    A path is replaced only once the whole report is written. Raises UnknownName for another form, UseError
    where the path can't be written."""
    if to not in WRITERS:
        raise UnknownName("report form", to, WRITERS)
    write_chunks(WRITERS[to](view, rows), target)


def write_chunks(chunks: Chunks, target: Path | TextIO) -> None:
    """Writes a text in pieces; a path is replaced only once all are written. Raises UseError where it can't be."""
    if not isinstance(target, Path):
        _write(chunks, target)
        return
    with _replacing(target) as file:
        _write(chunks, file)


def markdown_report(view: RunView, rows: Iterable[TrialRow]) -> Chunks:
    """Sentences and a table for each scorer; no trials."""
    run = view.run
    yield f"# {markdown_text(run.suite)}\n\n"
    yield f"Run {markdown_text(run.id)}, {run.status}, {markdown_text(run.started)}: "
    yield f"{run.answered:,} of {f.plural(run.planned, 'trial')} answered, {run.failed:,} failed.\n\n"
    if not all(run.status == "complete" for run in view.runs):
        yield "**Incomplete: the numbers may still change.**\n\n"
    if view.quarantined:
        yield f"{f.left_out(len(view.quarantined))} of all numbers: {markdown_text(', '.join(view.quarantined))}\n\n"
    if looks := run_looks(run, view.labels):
        yield "".join(f"- {markdown_text(line)}\n" for line in looks) + "\n"
    for scorer in view.scorers:
        yield markdown_text(scorer.sentence) + "\n\n"
        if scorer.standing:
            yield markdown_text(scorer.standing) + "\n\n"
        for rate in scorer.equal_length:
            yield f"- {markdown_text(rate_line(rate, view.labels.get(rate.player, rate.player)))}\n"
        yield "\n" if scorer.equal_length else ""
        yield from _markdown_table(view, scorer)
        yield f"\n{f.left_out(len(view.quarantined))}\n\n" if view.quarantined else "\n"
    for line in gate_lines(view.gates) if view.gates else ():
        yield f"- {markdown_text(line)}\n"
    yield "\n" if view.gates else ""
    yield "| variant | prompt | model | trials | failed | tokens | cost | time an answer |\n"
    yield "|---|---|---|--:|--:|--:|--:|--:|\n"
    for v in view.variants:
        used, took = view.usage.get(v.id), view.took.get(v.id, Took())
        cells = [markdown_text(v.label), markdown_text(v.prompt), markdown_text(v.model)]
        if used is not None:
            total = f.tokens(used.prompt_tokens + used.output_tokens)
            cells += [f"{used.trials:,}", f"{used.failed:,}"]
            cells += [_of_which(total, took.tokens, "tokens"), _of_which(f.money(used.cost), took.cost, "cost")]
            cells.append(markdown_text(spent_text(took.seconds, "seconds")))
        yield _row(cells + [f.NONE] * (8 - len(cells)))
    if view.took:
        yield "\nWhat an answer took is a mean over cases, with its interval; after the dot the difference to the "
        yield "reference.\n"


def _of_which(total: str, spent: Spent | None, measure: str) -> str:
    """A total, and what an answer took of it."""
    return markdown_text(total if spent is None else f"{total}; an answer {spent_text(spent, measure)}")


def view_json(view: RunView) -> dict[str, Json]:
    """All of a report but the trials."""
    variants = [
        {**plain(v), "usage": plain(view.usage.get(v.id)), "took": plain(view.took.get(v.id))} for v in view.variants
    ]
    head: dict[str, Json] = {"schema": "workbench-report/1", "run": plain(view.run), "reference": view.reference}
    head["quarantined"] = list(view.quarantined)
    gates = None if view.gates is None else {"answer": view.gates.answer, **plain(view.gates)}
    return head | {"variants": variants, "scorers": plain(view.scorers), "gates": gates}


def json_report(view: RunView, rows: Iterable[TrialRow]) -> Chunks:
    """Everything, faithfully; trials stream, one a line."""
    yield json_text(view_json(view))[:-1] + ',"trials":['
    separator = "\n"
    for row in rows:
        yield separator + json_text(plain(row))
        separator = ",\n"
    yield "]}\n"


def csv_report(view: RunView, rows: Iterable[TrialRow]) -> Chunks:
    """A line a trial, a column a scorer. Cells that a spreadsheet would run as a formula begin with `'`;
    control characters are made visible."""
    names = [s.name for s in view.scorers]
    labels, variants = view.labels, {v.id: v for v in view.variants}
    head = ["case", "variant", "prompt", "model", "repeat", "inputs", "expected", "output", "finish_reason"]
    head += ["failure", "prompt_tokens", "output_tokens", "seconds", "cost", *names, "trial", "quarantined"]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(map(csv_cell, head))
    for row in rows:
        output, v = row.output, variants.get(row.variant_id)
        scores = {s.scorer: s.value for s in row.scores}
        label = labels.get(row.variant_id, row.variant_id)
        cells: list[object] = [row.case_id, label, v.prompt if v else "", v.model if v else "", row.repeat]
        cells += [json_text(plain(row.inputs)), _text_of(row.expected)]
        if output is None:
            cells += [None] * 7
        else:
            failure = "" if output.failure is None else f"{output.failure.kind}: {output.failure.message}"
            cells += [output.text, output.finish_reason, failure, output.prompt_tokens, output.output_tokens]
            cells += [output.seconds, output.cost]
        cells += [*(scores.get(name) for name in names), row.trial_id, "yes" if row.quarantined else ""]
        writer.writerow(map(csv_cell, cells))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


WRITERS: Mapping[str, Callable[[RunView, Iterable[TrialRow]], Chunks]] = {
    "md": markdown_report,
    "html": html_report,
    "json": json_report,
    "csv": csv_report,
}


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    guarded = text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or text.lstrip().startswith(("=", "+", "-", "@"))
    return ("'" if guarded else "") + f.printable(text)


def markdown_text(text: str) -> str:
    """Text that stays text in Markdown: no markup, table cells, HTML, links or mentions come of it."""
    text = f.one_line(text)
    for character in "\\`*_{}[]()#|~!":
        text = text.replace(character, "\\" + character)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return text.replace("://", ":&#47;/").replace("www.", "www&#46;")


def _markdown_table(view: RunView, scorer: ScorerView) -> Chunks:
    name = markdown_text(scorer.name)
    labels = view.labels
    compared = {row.variant: row for row in scorer.comparisons}
    yield f"| {name} | mean | difference to reference | p | verdict | cases |\n|---|--:|--:|--:|---|--:|\n"
    for s in scorer.summaries:
        row = compared.get(s.variant)
        cells = [markdown_text(labels.get(s.variant, s.variant)), markdown_text(f.estimate(s))]
        if row is not None:
            cells += [markdown_text(f.difference(row)), markdown_text(f.p_value(row.p)), f.verdict(row)]
        else:
            cells += ["", "", "reference" if s.variant == view.reference else ""]
        yield _row([*cells, f"{s.cases:,}"])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _text_of(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else json_text(plain(value))


def _write(chunks: Chunks, file: TextIO) -> None:
    for chunk in chunks:
        file.write(chunk)


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of `path` when all went well; a link's target, where it is one."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise UseError(f"{path} is no file; choose another place with --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                yield file  # type: ignore[misc]
                file.close()
                temporary.chmod(0o644)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UseError(f"can't write {path}: {error.strerror or error}; choose another place with --out") from error
