"""What people would say of a run's outputs: a judge's scores, corrected by labels that were drawn at random.

Labels count for the outputs that they were given: those of the run that they were drawn from, and of any run that
has the same trials with the same answers to the drawn ones (`frame`, see `labelling.draw`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.define.baseline import Baseline, BaselineVariant
from workbench.judging import find_reference
from workbench.labelling import Labelled, frame_of, label_files, read_labels
from workbench.records import EMPTY, Json, Run
from workbench.stats.ppi import FEWEST_LABELS, PeopleSample, PredictionPowered
from workbench.store import runs
from workbench.store.database import Database
from workbench.store.runs import TrialFilter, TrialRow

ALONE = "people's labels correct a judge only where each case is asked once and cases don't belong together"


@dataclass(frozen=True, slots=True)
class Labels:
    """All labels of a project that were drawn at random."""

    rows: tuple[Labelled, ...] = ()
    picked: tuple[str, ...] = ()
    """Why labels of a file don't count, in words."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One variant's scores by a judge, with what people say of the outputs that were drawn."""

    scores: Mapping[str, float]
    """By case."""
    labels: Mapping[str, float] = field(default_factory=lambda: EMPTY)
    """By case, as the scorer would score them."""
    chances: Mapping[str, float] = field(default_factory=lambda: EMPTY)
    """With which a case was drawn; empty where all were drawn alike."""
    bounds: tuple[float, float] | None = None
    problem: str = ""
    """Why the labels can't correct the judge."""


def read_drawn(root: Path) -> Labels:
    """The labels of all files that were drawn at random and given in the order of their file, which is random too.

    Of a file where rows before its last label have none, or rows of a draw are gone, someone has chosen what to
    label: such labels are left out, and `picked` says so. Raises DataError."""
    found: list[Labelled] = []
    picked = []
    drawn: Counter[tuple[Json, ...]] = Counter()
    for name in label_files(root):
        rows, _ = read_labels(root, name, all_rows=True)
        given = [row for row in rows if row.drawn]
        drawn.update(row.draw for row in given if row.draw)
        last = max((i for i, row in enumerate(given) if row.label), default=-1)
        skipped = [row.line for row in given[: last + 1] if not row.label]
        if skipped:
            more = f" and {len(skipped) - 1} more" if skipped[1:] else ""
            picked.append(f"{name} was not labelled in its order (line {skipped[0]}{more} has no label)")
        else:
            found += given[: last + 1]
    gone = {draw for draw, count in drawn.items() if isinstance(draw[2], int) and count < draw[2]}
    if gone:
        picked.append("rows of a draw are gone from its file, with or without a label; restore them")
    return Labels(tuple(row for row in found if row.draw not in gone), tuple(picked))


def judged_variant(connection: Any, run: Run, variant: str, scorer: str, labels: Labels) -> Judged:
    """A variant of a stored run."""
    rows = [r for r in runs.trial_rows(connection, run.id, TrialFilter((variant,))) if _answered(r)]
    scored = {row.case_id: value for row in rows if (value := _score(row, scorer)) is not None}
    scores = {row.case_id: scored[row.case_id] for row in rows if row.case_id in scored and not row.quarantined}
    if run.header.get("repeats") != 1 or runs.has_clusters(connection, run.id):
        return Judged(scores, problem=ALONE)
    by_trial = {row.trial_id: row for row in rows}
    frames = {frame_of(by_trial), frame_of(row.trial_id for row in rows if row.case_id in scored)}
    chosen = []
    for row in _about(labels, run, scorer, _reference(connection, run, scorer)):
        for trial, text in zip(row.trials, row.outputs, strict=False):
            mine = by_trial.get(trial or "")
            if mine is None or mine.case_id not in scores:
                continue
            of_run = row.run == run.id and not row.frames
            same = mine.output is not None and mine.output.text == text and bool(frames & set(row.frames))
            if of_run or same:
                chosen.append((mine.case_id, trial, row))
    return _judged(scores, chosen, run.header["judges"][scorer])


def judged_blessed(
    connection: Any, run: Run, scorer: str, labels: Labels, blessed: tuple[Baseline, BaselineVariant]
) -> Judged:
    """A variant of a baseline that a run is held against, with the labels of the run that was blessed."""
    baseline, twin = blessed
    column = baseline.variants.index(twin)
    found = {name: case.scores[scorer].of[column] for name, case in baseline.cases.items() if scorer in case.scores}
    scores = {name: of[0] / of[1] for name, of in found.items() if of}
    if any(of[1] != 1 for of in found.values() if of) or any(c.cluster for c in baseline.cases.values()):
        return Judged(scores, problem=ALONE)
    sources = {baseline.run, *(baseline.asked if len(baseline.asked) == 1 else ())}
    chosen = [
        (row.case.id, trial, row)
        for row in _about(labels, run, scorer, _reference(connection, run, scorer))
        for trial, label in zip(row.trials, row.variants, strict=False)
        if row.run in sources and label == twin.label and row.case.id in scores
    ]
    return _judged(scores, chosen, run.header["judges"][scorer])


def people_sample(
    first: Judged, second: Judged | None = None, only: Collection[str] | None = None
) -> PeopleSample | str:
    """What people say of one variant, or of its difference to another on their common cases (`only`: on these); or
    why nothing can be said, with how many labels are lacking."""
    if problem := first.problem or (second.problem if second else ""):
        return problem
    cases = [c for c in first.scores if (second is None or c in second.scores) and (only is None or c in only)]
    labelled = [c for c in cases if c in first.labels and (second is None or c in second.labels)]
    if len(labelled) < FEWEST_LABELS:
        return _too_few(len(labelled), second is not None)
    if second is not None and (first.chances or second.chances):
        return "labels drawn with unequal probabilities can't be paired; draw cases: workbench judge sample RUN --cases"
    told = set(labelled)
    others = [c for c in cases if c not in told]
    bounds = first.bounds
    if second is not None and bounds is not None:
        bounds = (bounds[0] - bounds[1], bounds[1] - bounds[0])

    def values(side: str, chosen: Iterable[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        own = np.array([getattr(first, side)[c] for c in chosen], dtype=np.float64)
        return own if second is None else own - np.array([getattr(second, side)[c] for c in chosen], dtype=np.float64)

    chances = np.array([first.chances[c] for c in labelled]) if first.chances else None
    return PeopleSample(
        values("labels", labelled), values("scores", labelled), values("scores", others), bounds, chances
    )


Other = str | tuple[Baseline, BaselineVariant, set[str]] | None
"""What a variant is held against: another of its run, by id; a baseline's, on these common cases; or nothing."""


def people_would_say(
    connection: Any, run: Run, judged: tuple[str, str], labels: Labels, other: Other
) -> PeopleSample | str:
    """What people say of a variant, or of its difference to `other`; or why nothing can be said. `judged`: scorer and
    variant id."""
    scorer, variant = judged
    own = judged_variant(connection, run, variant, scorer, labels)
    if other is None:
        return people_sample(own)
    if isinstance(other, str):
        return people_sample(own, judged_variant(connection, run, other, scorer, labels))
    baseline, twin, common = other
    return people_sample(own, judged_blessed(connection, run, scorer, labels, (baseline, twin)), common)


def people_estimates(root: Path, database: Database, run: str) -> dict[tuple[str, str], PredictionPowered]:
    """(scorer, variant id) → the prediction-powered mean, for each judge and each variant of the run with at least 50
    labels drawn at random (ruling 25).

    None is told of a run with repeats or clusters: its outputs are no independent items. Raises DataError for a label
    file that can't be read."""
    with database.read() as connection:
        described = runs.run_header(connection, run).get("judges") or {}
        judges = [name for name, parts in described.items() if is_judge(parts)]
        labels = read_drawn(root) if judges else Labels()
        if len(labels.rows) < FEWEST_LABELS:
            return {}
        found = runs.get_run(connection, run)
        estimates = {}
        for scorer in judges:
            for variant in runs.run_variants(connection, found.id):
                data = people_sample(judged_variant(connection, found, variant.id, scorer, labels))
                if isinstance(data, PeopleSample):
                    estimate = data.estimate(0.95)
                    estimates[scorer, variant.id] = replace(estimate, interval=data.ends(0.05) or estimate.interval)
    return estimates


def is_judge(parts: Sequence[Mapping[str, Json]]) -> bool:
    """A scorer that is one judge or several of one rubric, and no combination of one with others."""
    return bool(parts) and all("rubric" in part and not part.get("inside") for part in parts)


def _about(labels: Labels, run: Run, scorer: str, reference: str | None) -> Iterator[Labelled]:
    """The labels that answer a judge's question: drawn for it, or where it is the only one of its form, for none.
    Of pairs those with the variant that it compares with."""
    judges: Mapping[str, Sequence[Mapping[str, Json]]] = run.header["judges"]
    pairwise = bool(judges[scorer][0].get("pairwise"))
    rivals = [parts for parts in judges.values() if is_judge(parts) and bool(parts[0].get("pairwise")) == pairwise]
    alone = len({parts[0]["rubric"] for parts in rivals}) == 1
    for row in labels.rows:
        asked = row.scorer == scorer or (row.scorer is None and alone)
        if asked and (len(row.outputs) == 2) == pairwise and (not pairwise or reference in row.variants):
            yield row


def _reference(connection: Any, run: Run, scorer: str) -> str | None:
    """The label of the variant that a pairwise judge compares with."""
    against = run.header["judges"][scorer][0].get("against")
    variants = runs.run_variants(connection, run.id)
    if against is None:
        return None
    wanted = find_reference(variants, against)
    return next(v.label for v in variants if v.id == wanted)


def _too_few(labels: int, paired: bool) -> str:
    if paired:
        told = f"{labels} cases whose outputs people labelled on both sides, drawn at random"
        return f"{told}; {FEWEST_LABELS} are needed: workbench judge sample RUN --cases -n 100, with one seed for both"
    told = f"{labels} of its outputs, drawn at random, have a label of people"
    return f"{told}; {FEWEST_LABELS} are needed: workbench judge sample RUN -n 100"


def _judged(
    scores: Mapping[str, float], chosen: Sequence[tuple[str, str | None, Labelled]], parts: Sequence[Mapping[str, Json]]
) -> Judged:
    part = parts[0]
    labels: dict[str, float] = {}
    chances: dict[str, float] = {}
    for case, trial, row in chosen:
        value = _value(row, trial, part)
        if value is None:
            problem = f"the label '{row.label}' of case '{case}' is nothing that the judge can say"
            return Judged(scores, problem=problem)
        labels[case] = value
        if row.draw is None:
            chances[case] = row.probability or 1.0
    bounded = part.get("passes") is not None or part.get("at_least") is not None or part.get("pairwise")
    if len(set(chances.values())) <= 1:
        chances = {}
    elif len(chances) < len(labels):
        return Judged(scores, problem="labels of a draw and labels with probabilities of their own can't be mixed")
    return Judged(scores, labels, chances, (0.0, 1.0) if bounded else None)


def _value(row: Labelled, trial: str | None, part: Mapping[str, Json]) -> float | None:
    """A person's label as the scorer would score it; None where it can't be a score of its kind."""
    if part.get("pairwise"):
        said = {"first": 1.0, "tie": 0.5, "second": 0.0}.get(row.label)
        return said if said is None or row.trials[0] == trial else 1 - said
    if part.get("passes") is not None:
        return float(row.label in part["passes"])
    try:
        number = float(row.label)
    except ValueError:
        return None
    return number if part.get("at_least") is None else float(number >= part["at_least"])


def _answered(row: TrialRow) -> bool:
    return row.output is not None and not row.output.failure


def _score(row: TrialRow, scorer: str) -> float | None:
    return next((float(s.value) for s in row.scores if s.scorer == scorer and isinstance(s.value, (int, float))), None)
