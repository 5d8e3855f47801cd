"""Gates: a stored run is held against bounds, its reference or a baseline. Nothing is asked of a model.

What the verdicts mean stands in `stats.gates`. A variant's counterpart in the baseline has the same prompt
name, model alias and parameters; cases are compared where id and content are the same. Scores are compared
only where their keys are equal: the same scorer, on the same terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.define.baseline import Baseline, BaselineVariant, place, short_key
from workbench.define.gates import Gate
from workbench.define.shards import narrowed, refuse_shard
from workbench.errors import SuiteError
from workbench.judges.calibrate import licence_state
from workbench.judges.estimates import Labels, Other, people_would_say, read_drawn
from workbench.records import Run, ScoreColumns
from workbench.stats.distributions import z_upper
from workbench.stats.gates import Claim, Decision, GateReport, GateResult, cases_to_show, decide
from workbench.stats.needed import POWER
from workbench.stats.ppi_units import People
from workbench.stats.reduce import CaseTable, PairedSample, Sample, paired_sample, reduce_repeats, sample
from workbench.store import measures, whole
from workbench.store.runs import VariantRow, quarantined_cases, run_variants, score_columns

KINDS = {"cost": "dollars", "latency": "seconds", "errors": "share"}
MOST_NAMED = 5
"""Cases and variants that a note names one by one."""
NOTHING = "no trial of it has what this gate judges"


@dataclass(slots=True)
class _Run:
    """What is read of a run, once for all its gates."""

    connection: Any
    run: Run
    variants: Sequence[VariantRow]
    cases: Sequence[measures.CaseRow]
    asked: Mapping[str, set[str]]
    quarantined: Sequence[str]
    """Ids of the cases that no gate counts."""
    labels: Labels = field(default_factory=Labels)
    """Of people; read where a gate is on a judge."""
    columns: dict[str, ScoreColumns] = field(default_factory=dict)
    tables: dict[str, CaseTable] = field(default_factory=dict)

    def of(self, gate: Gate) -> tuple[ScoreColumns, CaseTable]:
        """The columns that a gate judges, and their case means."""
        key = gate.scorer or f"{gate.measure} {gate.bound if gate.quantile else ''}"
        if key not in self.columns:
            self.columns[key] = self._read(gate)
            self.tables[key] = reduce_repeats(self.columns[key])
        return self.columns[key], self.tables[key]

    def judges(self, gate: Gate) -> Sequence[Mapping[str, Any]]:
        """What the run's header says of the judges that a gate's scores are of; empty where they are of none."""
        parts = (self.run.header.get("judges") or {}).get(gate.scorer) or ()
        return [part for part in parts if "rubric" in part]

    def _read(self, gate: Gate) -> ScoreColumns:
        if gate.measure == "scorer":
            return score_columns(self.connection, self.run.id, gate.scorer or "")
        found = measures.measure_columns(self.connection, self.run.id, gate.measure)
        if gate.quantile is None:
            return found
        return replace(found, kind="pass", value=[float(v > gate.bound) for v in found.value])


@dataclass(slots=True)
class _Open:
    """A result that waits for its decision."""

    result: GateResult
    claim: Claim | None


def check_gates(
    connection: Any, run: Run, gates: Sequence[Gate], baseline: Baseline | None, root: Path, shown: str = ""
) -> GateReport:
    """How each gate stands for each variant of a stored run; `root` is the project, where judges' licences lie,
    `shown` names the suite's file in messages.

    Raises SuiteError, with the gate's line, where it can't be judged: no baseline, scores on other terms, a
    scorer whose values have no mean or no good direction, a bound that no score can reach, a judge without a
    licence. Raises UseError for the run of one shard."""
    refuse_shard(run)
    read = _Run(
        connection,
        run,
        run_variants(connection, run.id),
        measures.case_rows(connection, run.id),
        measures.asked_by(connection, run.id),
        quarantined_cases(connection, [run.id]).get(run.id, ()),
    )
    notes = dict.fromkeys([*narrowed(run), *_quarantine_notes(read.quarantined)])
    if any(read.judges(gate) for gate in gates):
        read.labels = read_drawn(root)
        notes |= dict.fromkeys(f"labels that don't count: {why}" for why in read.labels.picked)
    open_results: list[_Open] = []
    for gate in gates:
        if problem := _problem(gate, read, baseline) or _unlicensed(gate, read, root):
            raise SuiteError(problem, shown or None, gate.line)
        open_results += [_open(gate, v, read, baseline, notes) for v in _chosen(gate, read)]
        open_results += [_absent(gate, name) for name in gate.variants or () if name not in _ids(read)]
    if baseline is not None and any(gate.against == "baseline" for gate in gates):
        notes |= dict.fromkeys(_baseline_notes(read, baseline))
    aside = len(read.quarantined)
    results = [replace(result, quarantined=aside) for result in _settled(open_results)]
    lacking = whole.lacking(connection, run, [gate.scorer for gate in gates if gate.scorer])
    return GateReport(tuple(results), tuple(notes), aside, whole.incomplete(run) or lacking.problem)


def _quarantine_notes(names: Sequence[str]) -> Iterator[str]:
    """Which cases count in no gate, so that nobody has to look for them."""
    if names:
        yield f"in quarantine, so counted in no gate, though asked and shown: {len(names):,} ({_named(names)})"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")


def _problem(gate: Gate, read: _Run, baseline: Baseline | None) -> str:
    """Why a gate can't be judged; empty where it can."""
    columns, _ = read.of(gate)
    if gate.against == "baseline" and baseline is None:
        return missing_baseline(read.run.suite, read.run.id)
    if columns.kind == "label" and columns.value:
        return f"scorer '{gate.scorer}' gives labels, which have no mean"
    if gate.rule == "no_worse_than" and columns.kind == "number" and columns.value:
        unknown = "gives numbers of which neither more nor less is known to be better"
        return f"scorer '{gate.scorer}' {unknown}; use at_least or at_most"
    if gate.measure == "scorer" and columns.kind != "number" and not 0 <= gate.bound <= 1:
        return f"'{gate.name}' can't be judged: '{gate.scorer}' lies within 0 and 1 (80 % is 0.8)"
    return _other_terms(gate, read, baseline) if gate.against == "baseline" and baseline else ""


def _unlicensed(gate: Gate, read: _Run, root: Path) -> str:
    """Why a judge may not decide; empty where it may."""
    for part in () if gate.unlicensed else read.judges(gate):
        state = licence_state(root, *(str(part[name]) for name in ("rubric", "identity", "revision", "form")))
        if state.state != "licensed":
            advice = "calibrate it, or write 'unlicensed: allow' into the gate"
            return f"scorer '{gate.scorer}' is a judge that is {state.state}: {state.reason}; {advice}"
    return ""


def missing_baseline(suite: str, run: str = "RUN") -> str:
    """What to do where a gate needs a baseline and there is none."""
    return f"there is no baseline evals/baselines/{suite}.json; make one with: workbench baseline bless {run}"


def _other_terms(gate: Gate, read: _Run, baseline: Baseline) -> str:
    """Why scores of run and baseline can't be compared; empty where they can."""
    name = gate.scorer or ""
    kind = baseline.scorers.get(name)
    columns, _ = read.of(gate)
    if kind is not None and columns.value and kind != columns.kind:
        return f"scorer '{name}' gives another kind of value ({columns.kind}) than in the baseline ({kind}); bless anew"
    now = measures.case_score_keys(read.connection, read.run.id, name)
    common = [c for c in read.cases if _same_case(c, baseline) and c.id in now]
    changed = [
        c.id
        for c in common
        if name in (scores := baseline.cases[c.id].scores) and scores[name].key != short_key(now[c.id])
    ]
    if not changed:
        return ""
    return (
        f"scorer '{name}' judges on other terms than in the baseline (its settings, version or expected answers "
        f"changed, on {len(changed):,} of {len(common):,} common cases, such as '{changed[0]}'); bless a run "
        "that is scored as now"
    )


def _chosen(gate: Gate, read: _Run) -> list[VariantRow]:
    reference = read.run.header.get("reference") if gate.against == "reference" else None
    return [v for v in read.variants if v.id != reference and (gate.variants is None or v.id in gate.variants)]


def _ids(read: _Run) -> set[str]:
    return {v.id for v in read.variants}


def _absent(gate: Gate, variant: str) -> _Open:
    result = _result(gate, variant, variant, KINDS.get(gate.measure, "fraction"))
    return _Open(replace(result, why="this variant is not in the run"), None)


def _result(gate: Gate, variant: str, label: str, kind: str) -> GateResult:
    """Still without an answer."""
    return GateResult(
        gate=gate.name,
        line=gate.line,
        measure=gate.scorer or gate.measure,
        kind="share" if gate.quantile is not None else kind,
        rule=gate.rule,
        bound=gate.bound if gate.quantile is None else 1 - gate.quantile,
        confidence=gate.confidence,
        variant=variant,
        label=label,
        answer="not enough data",
        decision=Decision("not enough data"),
        against=gate.against,
    )


def _open(gate: Gate, variant: VariantRow, read: _Run, baseline: Baseline | None, notes: dict[str, None]) -> _Open:
    """A gate for one variant: the claim to decide, or why there is none."""
    columns, table = read.of(gate)
    at = columns.variants.index(variant.id)
    if columns.missing and (missing := columns.missing[at]):
        of = f"{missing:,} of {missing + columns.variant.count(at):,} trials of {variant.label}"
        notes[f"scorer '{gate.scorer}': {of} have no value, and count for nothing"] = None
    result = _result(gate, variant.id, variant.label, KINDS.get(gate.measure, columns.kind))
    alpha = 1 - gate.confidence
    data: Sample | PairedSample | None
    if gate.rule != "no_worse_than":
        data = sample(table, at)
        claim = Claim(data, gate.rule, result.bound, alpha)
        found = replace(result, value=_mean(data), why="" if data else NOTHING)
        return _by_people(_Open(found, claim), gate, read, None, notes)
    other: Other
    if gate.against == "reference":
        other = read.run.header["reference"]
        data = paired_sample(table, at, columns.variants.index(other))
    else:
        assert baseline is not None
        twin = counterpart(baseline, variant)
        if twin is None or gate.scorer not in baseline.scorers:
            what = "this variant" if twin is None else f"scorer '{gate.scorer}'"
            return _Open(replace(result, answer="new", why=f"the baseline has no counterpart of {what}"), None)
        if twin.identity != read.run.header["models"][variant.model]["identity"]:
            notes[f"model '{variant.model}' is another one than the baseline's ({twin.identity})"] = None
        other = (baseline, twin, {case.id for case in read.cases if _same_case(case, baseline)})
        data = _with_baseline(table, at, gate.scorer or "", read, (baseline, baseline.variants.index(twin)))
        same = twin.id == variant.id and read.asked.get(variant.id, set()) <= set(baseline.asked)
        if same and data is not None:
            found = replace(result, value=_mean(data.first), other=_mean(data.second))
            return _Open(replace(found, answer="unchanged", why="the baseline's own answers"), None)
    if data is None:
        return _Open(replace(result, why="no case has scores of both"), Claim(None, gate.rule, gate.bound, alpha))
    found = replace(result, value=_mean(data.first), other=_mean(data.second), cases_needed=_needed(data, gate))
    return _by_people(_Open(found, Claim(data, gate.rule, gate.bound, alpha)), gate, read, other, notes)


def _by_people(one: _Open, gate: Gate, read: _Run, other: Other, notes: dict[str, None]) -> _Open:
    """Where a judge scores: held to what people would say, by their labels of some outputs (ruling 25). Without
    enough of them there is no claim, but where the suite allows a judge that nobody has measured."""
    if not read.judges(gate) or one.claim is None or one.claim.data is None:
        return one
    name = gate.scorer or ""
    data = people_would_say(read.connection, read.run, (name, one.result.variant), read.labels, other)
    if isinstance(data, People):
        labels, cases = _would_do(data, gate)
        return _Open(replace(one.result, labels_needed=labels, cases_needed=cases), replace(one.claim, data=data))
    if gate.unlicensed:
        notes[f"scorer '{name}': the judge's own mean decides, as 'unlicensed: allow' has it; {data.why}"] = None
        return one
    told = replace(one.result, why=data.why, labels_needed=data.labels, cases_needed=None)
    return _Open(told, replace(one.claim, data=None))


def _would_do(data: People, gate: Gate) -> tuple[int | None, int | None]:
    """`labels_needed` and `cases_needed` of a result."""
    error = data.estimate(gate.confidence).error / 2
    if gate.rule == "no_worse_than":
        error = gate.bound / (z_upper(1 - gate.confidence) + z_upper(1 - POWER))
    return data.needed(error) if error else (None, None)


def _needed(pair: PairedSample, gate: Gate) -> int | None:
    """Cases to pass with where nothing changed; clusters count by their mean size."""
    units = pair.differences.values
    if len(units) < 2:
        return None
    needed = cases_to_show(float(units.std(ddof=1)), gate.bound, 1 - gate.confidence)
    return None if needed is None else round(needed * pair.first.cases / len(units))


def counterpart(baseline: Baseline, variant: VariantRow) -> BaselineVariant | None:
    """The baseline's variant of the same prompt name, model alias and parameters; of several revisions the
    same one, else the first. None: the variant is new."""
    wanted = place(variant.prompt, variant.model, variant.settings)
    found = [v for v in baseline.variants if v.place == wanted]
    return next((v for v in found if v.revision == variant.revision), found[0] if found else None)


def _same_case(case: measures.CaseRow, baseline: Baseline) -> bool:
    return not case.quarantined and case.id in baseline.cases and baseline.cases[case.id].key == short_key(case.key)


def _with_baseline(
    table: CaseTable, at: int, scorer: str, read: _Run, base: tuple[Baseline, int]
) -> PairedSample | None:
    """A variant of the run against one of the baseline, on the cases that are the same in both."""
    baseline, column = base
    sums, counts = np.zeros(len(read.cases)), np.zeros(len(read.cases), dtype=np.int64)
    for i, case in enumerate(read.cases):
        scores = baseline.cases[case.id].scores.get(scorer) if _same_case(case, baseline) else None
        found = scores.of[column] if scores else None
        if found is not None:
            sums[i], counts[i] = found
    means = np.stack([table.means[at], sums / np.maximum(counts, 1)])
    both = CaseTable(means, np.stack([table.counts[at], counts]), table.clusters, table.bounds, table.binary)
    return paired_sample(both, 0, 1)


@dataclass(frozen=True, slots=True)
class CaseChange:
    """A case whose score by one scorer is another than in the baseline."""

    case: str
    variant: str
    """Id of the run's variant."""
    scorer: str
    before: float
    after: float
    """Means over repeats."""


def case_changes(connection: Any, run: Run, baseline: Baseline) -> list[CaseChange]:
    """What changed on common cases, the largest losses first; only scores on the same terms."""
    variants, rows = run_variants(connection, run.id), measures.case_rows(connection, run.id)
    read = _Run(connection, run, variants, rows, {}, ())
    found = []
    for name, kind in baseline.scorers.items():
        gate = Gate("scorer", "no_worse_than", 0.0, name, "baseline")
        _, table = read.of(gate)
        if kind == "number" or _other_terms(gate, read, baseline):
            continue
        for at, variant in enumerate(variants):
            twin = counterpart(baseline, variant)
            if twin is None:
                continue
            column = baseline.variants.index(twin)
            for i, case in enumerate(rows):
                scores = baseline.cases[case.id].scores.get(name) if _same_case(case, baseline) else None
                old = scores.of[column] if scores else None
                if old is not None and table.counts[at, i]:
                    before, after = old[0] / old[1], float(table.means[at, i])
                    if before != after:
                        found.append(CaseChange(case.id, variant.id, name, before, after))
    return sorted(found, key=lambda c: (c.after - c.before, c.case, c.variant))


def _baseline_notes(read: _Run, baseline: Baseline) -> list[str]:
    notes = []
    now = {case.id for case in read.cases}
    counted = [case for case in read.cases if not case.quarantined]
    common = sum(_same_case(case, baseline) for case in counted)
    gone = sum(name not in now for name in baseline.cases)
    new = sum(case.id not in baseline.cases for case in counted)
    changed = len(counted) - common - new
    if gone or new or changed:
        told = [f"{n} {word}" for n, word in ((changed, "changed"), (new, "new"), (gone, "gone")) if n]
        notes.append(f"cases differ from the baseline's ({', '.join(told)}): compared on the {common:,} common ones")
    twins = {t.id for v in read.variants if (t := counterpart(baseline, v))}
    lost = [v.label for v in baseline.variants if v.id not in twins]
    if lost:
        notes.append(f"in the baseline, but not in this run: {_named(lost)}")
    return notes


def _settled(open_results: Sequence[_Open]) -> list[GateResult]:
    """With the decisions, which are made together."""
    waiting = [o for o in open_results if o.claim is not None]
    decisions = dict(zip(map(id, waiting), decide([o.claim for o in waiting if o.claim]), strict=True))
    settled = []
    for one in open_results:
        decision = decisions.get(id(one))
        if decision is None:
            settled.append(one.result)
        else:
            settled.append(replace(one.result, answer=decision.answer, decision=decision))
    return settled


def _mean(data: Sample | None) -> float | None:
    return None if data is None else float(data.values.mean())
