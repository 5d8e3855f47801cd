"""What people would say of a run's outputs: a judge's scores, corrected by labels that were drawn at random.

Labels count for the outputs that they were given: those of the run that they were drawn from, and of any run that
has the same trials with the same answers to the drawn ones (`frame`, see `labelling.draw`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.define.baseline import Baseline, BaselineVariant
from workbench.judges.judging import find_reference
from workbench.judges.labelling import Labelled, frame_of, label_files, read_labels
from workbench.records import EMPTY, Json, Run
from workbench.stats.ppi import FEWEST_LABELS, PeopleSample, PredictionPowered
from workbench.stats.ppi_units import FEWEST_UNITS, MOST_UNEVEN, People, PeopleUnits, UnitLabels
from workbench.stats.reduce import ROUNDING, Bounds, Floats
from workbench.store import measures, runs
from workbench.store.database import Database
from workbench.store.runs import TrialFilter, TrialRow


@dataclass(frozen=True, slots=True)
class Labels:
    """All labels of a project that were drawn at random."""

    rows: tuple[Labelled, ...] = ()
    picked: tuple[str, ...] = ()
    """Why labels of a file don't count, in words."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said of one output."""

    case: str
    truth: float
    """As the scorer would score it."""
    judge: float
    """The scorer's own score, or where only that is kept, its mean over the repeats of the case."""
    chance: float | None = None
    """With which it was drawn; None: as all others of its draw."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One variant's scores by a judge, with what people say of the outputs that were drawn."""

    scores: Mapping[str, tuple[float, int]]
    """By case: the mean over its repeats, and how many they are."""
    labels: tuple[Label, ...] = ()
    bounds: Bounds | None = None
    scale: Bounds | None = None
    """The ends of the judge's scale, where its scores are numbers on one."""
    clusters: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """Case → the cluster that it belongs to, where it belongs to one."""
    problem: str = ""
    """Why the labels can't correct the judge."""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Why nothing can be said."""

    why: str
    labels: int | None = None
    """With how many labels something could be; None where labels are not what is lacking."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What people are asked, to estimate the mean of a scorer."""

    scorer: str
    judge: str
    """The scorer that the labels are of: the same, or a judge that the scorer holds with others."""
    share: float
    """By how much the scorer's value moves with the judge's."""
    part: Mapping[str, Json]
    """What the run's header says of the judge."""


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


def judged_variant(connection: Any, run: Run, variant: str, asked: _Question, labels: Labels) -> Judged:
    """A variant of a stored run."""
    rows = [r for r in runs.trial_rows(connection, run.id, TrialFilter((variant,))) if _answered(r)]
    by_trial = {row.trial_id: row for row in rows}
    own = {row.trial_id: value for row in rows if (value := _score(row, asked.scorer)) is not None}
    judge = {row.trial_id: value for row in rows if (value := _score(row, asked.judge)) is not None}
    by_case: dict[str, list[float]] = {}
    counted = {trial: value for trial, value in own.items() if not by_trial[trial].quarantined}
    for trial, value in counted.items():
        by_case.setdefault(by_trial[trial].case_id, []).append(value)
    frames = {frame_of(by_trial), frame_of(judge)}
    chosen: list[_Chosen] = []
    for row in _about(labels, run, asked, _reference(connection, run, asked)):
        for place, text in zip(row.trials, row.outputs, strict=False):
            mine = by_trial.get(place or "")
            if mine is None or mine.trial_id not in counted or mine.trial_id not in judge:
                continue
            of_run = row.run == run.id and not row.frames
            same = mine.output is not None and mine.output.text == text and bool(frames & set(row.frames))
            if of_run or same:
                chosen.append((mine.case_id, mine.trial_id, row, (own[mine.trial_id], judge[mine.trial_id])))
    clusters = {case.id: case.cluster for case in measures.case_rows(connection, run.id) if case.cluster is not None}
    scores = {case: (sum(values) / len(values), len(values)) for case, values in by_case.items()}
    return _judged(Judged(scores, clusters=clusters), chosen, asked)


def judged_blessed(
    connection: Any, run: Run, asked: _Question, labels: Labels, blessed: tuple[Baseline, BaselineVariant]
) -> Judged:
    """A variant of a baseline that a run is held against, with the labels of the run that was blessed."""
    baseline, twin = blessed
    column = baseline.variants.index(twin)

    def kept(scorer: str) -> dict[str, tuple[float, int]]:
        found = {name: case.scores[scorer].of[column] for name, case in baseline.cases.items() if scorer in case.scores}
        return {name: (of[0] / of[1], int(of[1])) for name, of in found.items() if of}

    own, judge = kept(asked.scorer), kept(asked.judge)
    sources = {baseline.run, *(baseline.asked if len(baseline.asked) == 1 else ())}
    chosen: list[_Chosen] = [
        (row.case.id, trial, row, (own[row.case.id][0], judge[row.case.id][0]))
        for row in _about(labels, run, asked, _reference(connection, run, asked))
        for trial, label in zip(row.trials, row.variants, strict=False)
        if row.run in sources and label == twin.label and row.case.id in own and row.case.id in judge
    ]
    clusters = {name: case.cluster for name, case in baseline.cases.items() if case.cluster is not None}
    return _judged(Judged(own, clusters=clusters), chosen, asked)


def people_sample(first: Judged, second: Judged | None = None, only: Collection[str] | None = None) -> People | Unsaid:
    """What people say of one variant, or of its difference to another on their common cases (`only`: on these); or
    why nothing can be said."""
    sides = [first] if second is None else [first, second]
    if problem := next((side.problem for side in sides if side.problem), ""):
        return Unsaid(problem)
    cases = [c for c in first.scores if all(c in s.scores for s in sides) and (only is None or c in only)]
    names = [first.clusters.get(case, ("", case)) for case in cases]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(number) < len(cases) or any(side.scores[case][1] > 1 for side in sides for case in cases):
        return _in_units(sides, {case: number[name] for case, name in zip(cases, names, strict=True)})
    return _independent(sides, cases)


def _independent(sides: Sequence[Judged], cases: Sequence[str]) -> People | Unsaid:
    """One output a case and side, each case by itself."""
    said = [{label.case: label for label in side.labels} for side in sides]
    labelled = [case for case in cases if all(case in of for of in said)]
    if len(labelled) < FEWEST_LABELS:
        return Unsaid(_too_few(len(labelled), len(sides) == 2), FEWEST_LABELS)
    chances = [label.chance for of in said for label in of.values()]
    unequal = any(chance is not None for chance in chances)
    if unequal and len(sides) == 2:
        how = "draw cases: workbench judge sample RUN --cases"
        return Unsaid(f"labels drawn with unequal probabilities can't be paired; {how}")
    others = set(cases) - set(labelled)

    def values(of: Callable[[int, str], float], chosen: Iterable[str]) -> Floats:
        return np.array([of(0, c) - (of(1, c) if len(sides) == 2 else 0.0) for c in chosen], dtype=np.float64)

    return PeopleSample(
        values(lambda side, case: said[side][case].truth, labelled),
        values(lambda side, case: sides[side].scores[case][0], labelled),
        values(lambda side, case: sides[side].scores[case][0], (case for case in cases if case in others)),
        _range(sides[0].bounds, len(sides)),
        np.array([said[0][case].chance for case in labelled], dtype=np.float64) if unequal else None,
    )


def _in_units(sides: Sequence[Judged], unit: Mapping[str, int]) -> People | Unsaid:
    """Repeats of a case, or cases of a cluster. `unit`: of each case."""
    bounds = _range(sides[0].bounds or sides[0].scale, len(sides))
    if bounds is None:
        return Unsaid("the ends of the judge's scale are not kept with this run: workbench score RUN --with SUITE")
    chances = [label.chance for side in sides for label in side.labels if label.chance and label.case in unit]
    if chances and max(chances) > MOST_UNEVEN * min(chances) * (1 + ROUNDING):
        told = f"its labels were drawn with probabilities from {min(chances):g} to {max(chances):g}"
        return Unsaid(f"{told}; of repeats and clusters they may differ {MOST_UNEVEN:g} times at most")
    size = np.bincount(list(unit.values()), minlength=1)
    found = []
    for side in sides:
        means = np.bincount(list(unit.values()), [side.scores[case][0] for case in unit], minlength=1) / size
        labels = [label for label in side.labels if label.case in unit]
        counted = [side.scores[label.case][1] * size[unit[label.case]] * (label.chance or 1.0) for label in labels]
        found.append(
            UnitLabels(
                judge=means,
                unit=np.array([unit[label.case] for label in labels], dtype=np.int64),
                truth=np.array([label.truth for label in labels], dtype=np.float64),
                predicted=np.array([label.judge for label in labels], dtype=np.float64),
                weights=1 / np.array(counted, dtype=np.float64),
            )
        )
    fewest, units = min(len(side.truth) for side in found), min(side.units for side in found)
    if fewest < FEWEST_LABELS:
        return Unsaid(_too_few(fewest, len(sides) == 2), FEWEST_LABELS)
    if units < FEWEST_UNITS:
        word = "clusters" if len(size) < len(unit) else "cases"
        there = f"{len(size)} {word}; cases of more are needed" if len(size) < FEWEST_UNITS else f"{len(size)} {word}"
        told = f"its {fewest} labels lie in {units} {word}, {FEWEST_UNITS} with labels are needed; there are {there}"
        return Unsaid(told, None if len(size) < FEWEST_UNITS else fewest + FEWEST_UNITS - units)
    return PeopleUnits(tuple(found), len(unit), bounds)


def _range(bounds: Bounds | None, sides: int) -> Bounds | None:
    """Of a value, or of a difference."""
    if bounds is None or sides == 1:
        return bounds
    return bounds[0] - bounds[1], bounds[1] - bounds[0]


Other = str | tuple[Baseline, BaselineVariant, set[str]] | None
"""What a variant is held against: another of its run, by id; a baseline's, on these common cases; or nothing."""


def people_would_say(
    connection: Any, run: Run, judged: tuple[str, str], labels: Labels, other: Other
) -> People | Unsaid:
    """What people say of a variant, or of its difference to `other`; or why nothing can be said. `judged`: scorer and
    variant id."""
    scorer, variant = judged
    asked = _question(run.header["judges"], scorer)
    if isinstance(asked, Unsaid):
        return asked
    own = judged_variant(connection, run, variant, asked, labels)
    if other is None:
        return people_sample(own)
    if isinstance(other, str):
        return people_sample(own, judged_variant(connection, run, other, asked, labels))
    baseline, twin, common = other
    return people_sample(own, judged_blessed(connection, run, asked, labels, (baseline, twin)), common)


def _question(judges: Mapping[str, Sequence[Mapping[str, Json]]], scorer: str) -> _Question | Unsaid:
    """Of a judge its own question; of `not` of one, or a weighted mean that holds one, the judge's, where the judge
    stands among the scorers by itself too."""
    parts = judges[scorer]
    if is_judge(parts):
        return _Question(scorer, scorer, 1.0, parts[0])
    held = [part for part in parts if part.get("share")]
    if not held:
        return Unsaid(
            "it is a combination with a judge in it, which labels correct only as 'not' of a judge, or in a 'weighted' "
            "without at_least that holds one judge, unnested; give the judge a gate of its own"
        )
    judge = [{k: v for k, v in part.items() if k not in ("inside", "share")} for part in held]
    alone = next(
        (name for name, found in judges.items() if is_judge(found) and [dict(p) for p in found] == judge), None
    )
    if alone is None:
        return Unsaid(
            "the score of the judge in it is not kept by itself, which labels need to correct it; put the same judge "
            "among the scorers too (its answers are not asked twice): workbench score RUN --with SUITE"
        )
    return _Question(scorer, alone, held[0]["share"], judge[0])


def people_estimates(root: Path, database: Database, run: str) -> dict[tuple[str, str], PredictionPowered]:
    """(scorer, variant id) → the prediction-powered mean, for each judge, or weighted mean with one, and each variant
    of the run with enough labels drawn at random (ruling 25). Raises DataError for a label file that can't be read."""
    with database.read() as connection:
        described = runs.run_header(connection, run).get("judges") or {}
        judges = [name for name, parts in described.items() if any("rubric" in part for part in parts)]
        labels = read_drawn(root) if judges else Labels()
        if len(labels.rows) < FEWEST_LABELS:
            return {}
        found = runs.get_run(connection, run)
        estimates = {}
        for scorer in judges:
            for variant in runs.run_variants(connection, found.id):
                data = people_would_say(connection, found, (scorer, variant.id), labels, None)
                if isinstance(data, People):
                    estimate = data.estimate(0.95)
                    estimates[scorer, variant.id] = replace(estimate, interval=data.ends(0.05))
    return estimates


def is_judge(parts: Sequence[Mapping[str, Json]]) -> bool:
    """A scorer that is one judge or several of one rubric, and no combination of one with others."""
    return bool(parts) and all("rubric" in part and not part.get("inside") for part in parts)


def _about(labels: Labels, run: Run, asked: _Question, reference: str | None) -> Iterator[Labelled]:
    """The labels that answer a judge's question: drawn for it, or where it is the only one of its form, for none.
    Of pairs those with the variant that it compares with."""
    judges: Mapping[str, Sequence[Mapping[str, Json]]] = run.header["judges"]
    pairwise = bool(asked.part.get("pairwise"))
    rivals = [parts for parts in judges.values() if is_judge(parts) and bool(parts[0].get("pairwise")) == pairwise]
    alone = len({parts[0]["rubric"] for parts in rivals}) == 1
    for row in labels.rows:
        wanted = row.scorer == asked.judge or (row.scorer is None and alone)
        if wanted and (len(row.outputs) == 2) == pairwise and (not pairwise or reference in row.variants):
            yield row


def _reference(connection: Any, run: Run, asked: _Question) -> str | None:
    """The label of the variant that a pairwise judge compares with."""
    against = asked.part.get("against")
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


_Chosen = tuple[str, str | None, Labelled, tuple[float, float]]
"""A labelled output: case, trial, row, and its scores by the scorer and by the judge."""


def _judged(judged: Judged, chosen: Sequence[_Chosen], asked: _Question) -> Judged:
    labels: dict[tuple[str, str | None], Label] = {}
    for case, trial, row, (own, judge) in chosen:
        value = _value(row, trial, asked.part)
        if value is None:
            return replace(
                judged, problem=f"the label '{row.label}' of case '{case}' is nothing that the judge can say"
            )
        truth = value if asked.judge == asked.scorer else own + asked.share * (value - judge)
        labels[case, trial] = Label(case, truth, own, row.probability or 1.0 if row.draw is None else None)
    chances = {label.chance for label in labels.values()}
    if len(chances - {None}) <= 1:
        labels = {key: replace(label, chance=None) for key, label in labels.items()}
    elif None in chances:
        return replace(judged, problem="labels of a draw and labels with probabilities of their own can't be mixed")
    told = [asked.part.get(name) for name in ("passes", "at_least", "pairwise")]
    bounded = asked.judge != asked.scorer or any(value not in (None, False) for value in told)
    bounds, ends = (0.0, 1.0) if bounded else None, asked.part.get("range")
    return replace(judged, labels=tuple(labels.values()), bounds=bounds, scale=(ends[0], ends[1]) if ends else None)


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
    if part.get("at_least") is not None:
        return float(number >= part["at_least"])
    lowest, highest = part.get("range") or (number, number)
    return number if lowest <= number <= highest else None


def _answered(row: TrialRow) -> bool:
    return row.output is not None and not row.output.failure


def _score(row: TrialRow, scorer: str) -> float | None:
    return next((float(s.value) for s in row.scores if s.scorer == scorer and isinstance(s.value, (int, float))), None)
