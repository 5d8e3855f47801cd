"""The cases of a run that deserve a look, each list a plain record; computed anew from the store each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from workbench.errors import UseError
from workbench.records import Json, Kind
from workbench.stats import cases as kernels
from workbench.stats.cases import CaseValues
from workbench.store.casequeries import CaseRow, answer_counts, case_rows, counted_values, said
from workbench.store.runs import VariantRow, get_run, run_scorers, run_variants
from workbench.views import format as f
from workbench.views.model import find_variant

WIDTH = 60
"""Characters of inputs, expected and given answers that a table shows."""


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """One case of a list."""

    case: str
    figure: float | None
    """What the list is ordered by; `CaseList.figure` says what it is."""
    variants: int
    """How many variants it rests on."""
    note: str
    """What there is to see, in words; it may hold foreign text."""
    inputs: Mapping[str, Json]
    expected: Json


@dataclass(frozen=True, slots=True)
class CaseList:
    """Cases that have something in common."""

    run: str
    what: str
    """`hardest`, `disagree`, `flaky`, `suspicious`, or `not asked`."""
    scorer: str
    """Empty where none has a part in it."""
    figure: str
    """What `CaseFinding.figure` is."""
    rows: tuple[CaseFinding, ...]
    found: int
    """How many there are in all."""
    cases: int
    """Of how many."""
    note: str = ""
    """What else is to be known, in words."""
    left_out: tuple[str, ...] = ()
    """Ids of the cases in quarantine, which count in no figure."""


@dataclass(frozen=True, slots=True)
class DuplicateCases:
    """Cases whose inputs nearly say the same."""

    run: str
    groups: tuple[tuple[str, ...], ...]
    """Ids of the cases that belong together, the largest group first."""
    inputs: tuple[Mapping[str, Json], ...]
    """Of the first case of each group."""
    cases: int
    different: int
    """Cases that are left when each group counts once."""
    effective: float
    """How many independent cases they are worth if those of a group always score alike; the truth lies between
    this and `cases`."""
    alike: float

    @property
    def note(self) -> str:
        """By how much they inflate n."""
        if not self.groups:
            return (
                f"no two of {self.cases:,} cases are near-duplicates" if self.cases != 1 else "there is one case only"
            )
        inflated = f.percent(self.cases / self.effective - 1)
        return (
            f"{self.cases:,} cases, of which {self.different:,} say something of their own: where near-duplicates "
            f"score alike they are worth {self.effective:,.0f} independent ones (n is inflated by {inflated} %); take "
            "the copies out, or give the cases of a group one 'cluster'"
        )


def hardest_cases(connection: Any, run_id: str, scorer: str | None = None, limit: int = 20) -> CaseList:
    """Cases with the lowest mean over all variants. Raises UnknownName, UseError for labels."""
    read = Reading.of(connection, run_id, scorer, ordered=True)
    order, means, variants = kernels.hardest(read.values)
    rows = [read.row(i, m, int(n), "") for i, m, n in zip(order[:limit], means, variants, strict=False)]
    word = "lowest" if read.kind == "number" else "hardest"
    return read.list("hardest", "mean over variants", rows, len(order), f"{word} first, by scorer {read.scorer}")


def disputed_cases(
    connection: Any, run_id: str, first: str, second: str, scorer: str | None = None, limit: int = 20
) -> CaseList:
    """Cases on which two variants (ids, beginnings of ids, or labels) differ most."""
    read = Reading.of(connection, run_id, scorer, ordered=True)
    a, b = (read.variant_at(name) for name in (first, second))
    order, gaps = kernels.disputed(read.values, a, b)
    names = [read.variants[i].label for i in (a, b)]
    rows = []
    for i, gap in zip(order[:limit], gaps, strict=False):
        told = ", ".join(f"{n} {read.values.means[v, i]:.3g}" for n, v in zip(names, (a, b), strict=True))
        rows.append(read.row(i, gap, 2, told))
    wins = int((gaps > 0).sum())
    note = f"{names[0]} is higher on {wins:,}, {names[1]} on {len(gaps) - wins:,}"
    return read.list("disagree", f"{names[0]} − {names[1]}", rows, len(order), note)


def flaky_cases(connection: Any, run_id: str, scorer: str | None = None, limit: int = 20) -> CaseList:
    """Cases whose repeats are scored differently. Raises UseError where no case has repeats."""
    read = Reading.of(connection, run_id, scorer, ordered=False)
    if not (read.values.counts > 1).any():
        raise UseError(f"run {read.run} has no scored repeats; flaky cases need 'repeats: 2' or more")
    order, chances, differing = kernels.flaky(read.values)
    rows = [
        read.row(i, c, int(n), f"repeats of {f.plural(int(n), 'variant')} differ")
        for i, c, n in zip(order[:limit], chances, differing, strict=False)
    ]
    note = f"the chance that two repeats of a variant are scored differently, by scorer {read.scorer}"
    return read.list("flaky", "flakiness", rows, len(order), note)


def suspicious_cases(connection: Any, run_id: str, scorer: str | None = None, limit: int = 20) -> CaseList:
    """Cases that every strong variant fails: look at their label. Raises UseError for numbers and labels."""
    read = Reading.of(connection, run_id, scorer, ordered=True)
    if read.kind == "number":
        raise UseError(f"scorer '{read.scorer}' gives numbers, of which none is a failure; name another with --scorer")
    strong = kernels.strong_variants(read.values)
    order, surprise = kernels.suspicious(read.values, strong)
    shown = order[:limit]
    answers: dict[str, Counter[str]] = {}
    ids = [read.cases[i].id for i in shown]
    for case, text, count in answer_counts(connection, read.run, ids, [read.variants[i].id for i in strong]):
        answers.setdefault(case, Counter())[text] += count
    there = (read.values.counts[strong] > 0).sum(axis=0)
    rows = [
        read.row(i, s, int(there[i]), _same_answer(answers.get(read.cases[i].id, Counter())))
        for i, s in zip(shown, surprise, strict=False)
    ]
    weak = f"no variant has a mean of at least {kernels.STRONG:g}, so none can tell"
    note = f"failed by {strong_ones(len(strong))}: look at the expected answer"
    return read.list("suspicious", "surprise, bits", rows, len(order), note if len(strong) else weak)


def strong_ones(count: int) -> str:
    """Who fails a suspicious case."""
    return "the one strong variant" if count == 1 else f"all of {count:,} strong variants"


def duplicate_cases(connection: Any, run_id: str, alike: float = kernels.ALIKE) -> DuplicateCases:
    """Cases whose inputs nearly say the same."""
    run = get_run(connection, run_id).id
    rows = case_rows(connection, run)
    groups = kernels.near_duplicates([said(row.inputs) for row in rows], alike)
    sizes = [len(group) for group in groups]
    return DuplicateCases(
        run=run,
        groups=tuple(tuple(rows[i].id for i in group) for group in groups),
        inputs=tuple(rows[group[0]].inputs for group in groups),
        cases=len(rows),
        different=len(rows) - sum(sizes) + len(sizes),
        effective=kernels.effective_cases(sizes, len(rows)),
        alike=alike,
    )


def cases_not_asked(connection: Any, run_id: str, limit: int = 20) -> CaseList:
    """Cases of which no trial has an output: the run ended before, or is not there yet."""
    run = get_run(connection, run_id)
    rows = case_rows(connection, run.id)
    left = [row for row in rows if not row.asked]
    shown = tuple(CaseFinding(row.id, None, 0, "", row.inputs, row.expected) for row in left[:limit])
    why = str(run.header.get("stopping", {}).get("reason", "")) or f"the run is {run.status}"
    return CaseList(run.id, "not asked", "", "", shown, len(left), len(rows), why)


def cases_table(found: CaseList) -> Table:
    """A list for the terminal."""
    title = f"{found.found:,} of {f.plural(found.cases, 'case')} {found.what}"
    table = Table(title=Text(f.one_line(title)), title_justify="left", header_style="bold")
    table.add_column("case", overflow="fold")
    if found.figure:
        table.add_column(Text(f.one_line(found.figure)), justify="right")
        table.add_column("variants", justify="right")
    for name in ("inputs", "expected", *(["seen"] if any(row.note for row in found.rows) else [])):
        table.add_column(name, overflow="fold")
    for row in found.rows:
        cells = [_text(row.case)]
        if found.figure:
            cells += [Text(f.NONE if row.figure is None else f"{row.figure:.3g}"), Text(f"{row.variants:,}")]
        cells += [_text(said(row.inputs)), _text("" if row.expected is None else str(row.expected))]
        table.add_row(*cells, *([_text(row.note)] if len(table.columns) > len(cells) else []))
    return table


def duplicates_table(found: DuplicateCases, limit: int = 20) -> Table:
    """The groups for the terminal."""
    title = f"{f.plural(len(found.groups), 'group')} of near-duplicates (similarity at least {found.alike:g})"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    table.add_column("cases", justify="right")
    table.add_column("ids", overflow="fold")
    table.add_column("inputs of the first", overflow="fold")
    for group, inputs in list(zip(found.groups, found.inputs, strict=True))[:limit]:
        table.add_row(Text(f"{len(group):,}"), _text(", ".join(group[:8])), _text(said(inputs)))
    return table


@dataclass(frozen=True)
class Reading:
    """A scorer's values with what names their places."""

    run: str
    scorer: str
    kind: Kind
    variants: Sequence[VariantRow]
    cases: Sequence[CaseRow]
    values: CaseValues
    labels: tuple[str, ...]
    """Of labels: their texts; a value is a position in them."""

    @classmethod
    def of(cls, connection: Any, run_id: str, scorer: str | None, ordered: bool, quarantined: bool = False) -> Reading:
        """By the first scorer whose values can be ordered (or, with `ordered` False, by the first) where none is
        named; with `quarantined` also those of quarantined cases. Raises UseError where there is none, or the named
        one gives labels."""
        run = get_run(connection, run_id).id
        kinds = run_scorers(connection, run)
        fitting = [name for name, kind in kinds if not (ordered and kind == "label")]
        if scorer is None and not fitting:
            raise UseError(f"run {run} has no scores to go by; add some with 'workbench score {run} --with SCORER'")
        name = fitting[0] if scorer is None else scorer
        found = counted_values(connection, run, name, quarantined)
        if ordered and found.kind == "label":
            raise UseError(f"scorer '{name}' gives labels, which have no mean; name another with --scorer")
        variants, cases = run_variants(connection, run), case_rows(connection, run)
        at_variant, at_case = {v.id: i for i, v in enumerate(variants)}, {c.id: i for i, c in enumerate(cases)}
        labels = tuple(dict.fromkeys(value for value in found.value if isinstance(value, str)))
        number = {value: float(i) for i, value in enumerate(labels)}
        values = CaseValues(
            len(variants),
            len(cases),
            np.array([at_variant[v] for v in found.variant], dtype=np.int64),
            np.array([at_case[c] for c in found.case], dtype=np.int64),
            np.array([number[v] if isinstance(v, str) else v for v in found.value], dtype=np.float64),
            np.array(found.count, dtype=np.int64),
        )
        return cls(run, name, found.kind, variants, cases, values, labels)

    def variant_at(self, name: str) -> int:
        found = find_variant(self.variants, name)
        return next(i for i, v in enumerate(self.variants) if v.id == found)

    def row(self, case: int, figure: float, variants: int, note: str) -> CaseFinding:
        about = self.cases[case]
        return CaseFinding(about.id, float(figure), variants, note, about.inputs, about.expected)

    def list(self, what: str, figure: str, rows: Sequence[CaseFinding], found: int, note: str) -> CaseList:
        aside = tuple(case.id for case in self.cases if case.quarantined)
        told = note + f.left_out(len(aside), "; ")
        return CaseList(self.run, what, self.scorer, figure, tuple(rows), found, len(self.cases), told, aside)


def _same_answer(answers: Counter[str]) -> str:
    """The most frequent answer and how many agree on it: a common one speaks against the label."""
    if not answers:
        return ""
    text, count = answers.most_common(1)[0]
    return f"{count:,} of {answers.total():,} answers: {f.shorten(text, WIDTH)}"


def _text(text: str) -> Text:
    return Text(f.one_line(text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"))
