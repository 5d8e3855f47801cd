"""Outputs for people to judge: drawn from a run at random, written to a file, read back with their labels.

A row keeps the probability with which it was drawn: estimates that rest on labels need it, and labels of outputs
that someone picked are for reading only.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from workbench.define.files import replace_text
from workbench.errors import DataError, UseError
from workbench.judges.judging import find_reference
from workbench.records import Case, Json, Run, content_id
from workbench.scorers.base import MOST_VALUE
from workbench.scorers.judge import SIDES
from workbench.store import runs
from workbench.store.database import Database
from workbench.store.runs import TrialRow

FOLDER = "evals/labels"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One output, or pair of outputs, that a person has judged."""

    case: Case
    outputs: tuple[str, ...]
    """One, or the first and the second."""
    label: str
    models: tuple[str | None, ...]
    """Who wrote each."""
    probability: float | None
    """With which it was drawn at random; None: picked, for reading only."""
    line: int
    run: str | None = None
    trials: tuple[str | None, ...] = ()
    """Of each output."""
    variants: tuple[str | None, ...] = ()
    """Its variant's label."""
    frames: tuple[str, ...] = ()
    """What could have been drawn of its variant (`frame_of`)."""
    draw: tuple[Json, ...] | None = None
    """Which draw it is of: (run, seed, rows drawn, rows to draw from). None: a row that someone else wrote."""
    scorer: str | None = None
    """The judge that it was drawn for; None: any."""

    @property
    def drawn(self) -> bool:
        return self.probability is not None


@dataclass(frozen=True, slots=True)
class Sample:
    """What is drawn of a run for people to label."""

    count: int = 100
    """How many outputs, pairs or cases."""
    seed: int = 0
    """Which ones; the same seed draws the same cases of any run that has the same cases."""
    scorer: str | None = None
    """Only answers that it has scored."""
    against: str | None = None
    """Draw pairs: each answer with this variant's, in random order."""
    cases: bool = False
    """Draw cases, each with all its answers, one after the other: what paired differences need."""


def draw(database: Database, run: str, sample: Sample) -> list[dict[str, Json]]:
    """Rows to label: a random sample of a run's answers without replacement, each with the probability with which it
    was drawn. Raises UnknownName, UseError."""
    if sample.cases and sample.against is not None:
        raise UseError("--cases draws single outputs, --against pairs; give one of the two")
    rng = random.Random(sample.seed)  # noqa: S311 - a sample, no secret
    with database.read() as connection:
        found, frame = _drawn_from(connection, run, sample)
        units = sorted({case for _, case, _ in frame}) if sample.cases else [trial for trial, _, _ in frame]
        order = rng.sample(units, min(sample.count, len(units)))
        chosen = set(order)
        trials = {trial for trial, case, _ in frame if (case if sample.cases else trial) in chosen}
        drawn = _rows(connection, found.id, sample, frame, trials, rng)
    rng.shuffle(drawn)
    if sample.cases:
        drawn.sort(key=lambda row: order.index(row["case"]))
    about = {"probability": len(order) / len(units), "of": len(frame), "drawn": len(drawn)}
    return [{**row, **about, "seed": sample.seed} for row in drawn]


def frame_of(trials: Iterable[str]) -> str:
    """A short name for a set of trials."""
    return content_id("fr1", sorted(trials))[:20]


_Frame = list[tuple[str, str, str]]
"""(trial, case, variant) of all that can be drawn."""


def _drawn_from(connection: Any, run: str, sample: Sample) -> tuple[Run, _Frame]:
    found = runs.get_run(connection, run)
    rows = _frame(runs.trial_rows(connection, found.id), sample, runs.run_variants(connection, found.id))
    frame = [(row.trial_id, row.case_id, row.variant_id) for row, _ in rows]
    if not frame:
        raise UseError(f"run {found.id} has no answer to draw from; see 'workbench show {found.id}'")
    return found, frame


def _rows(
    connection: Any, run: str, sample: Sample, frame: _Frame, chosen: set[str], rng: random.Random
) -> list[dict[str, Json]]:
    """The rows of the trials that were drawn, in the order of the run."""
    variants = {v.id: v for v in runs.run_variants(connection, run)}
    frames = {name: frame_of(trial for trial, _, variant in frame if variant == name) for name in variants}
    about = {"run": run, **({"scorer": sample.scorer} if sample.scorer else {})}
    return [
        {**_row(row, other, variants, rng), "frame": frames[row.variant_id], **about}
        for row, other in _frame(runs.trial_rows(connection, run), sample, list(variants.values()))
        if row.trial_id in chosen
    ]


def _frame(
    rows: Iterator[TrialRow], sample: Sample, variants: Sequence[runs.VariantRow]
) -> Iterator[tuple[TrialRow, TrialRow | None]]:
    """The answers that can be drawn, each with the one that it is paired with."""
    reference = None if sample.against is None else find_reference(variants, sample.against)
    for _, of_case in groupby(rows, key=lambda row: row.case_id):
        answered = [row for row in of_case if row.output is not None and not row.output.failure]
        others = {row.repeat: row for row in answered if row.variant_id == reference}
        for row in answered:
            if sample.scorer is not None and all(score.scorer != sample.scorer for score in row.scores):
                continue
            if reference is None:
                yield row, None
            elif row.variant_id != reference and row.repeat in others:
                yield row, others[row.repeat]


def _row(
    row: TrialRow, other: TrialRow | None, variants: Mapping[str, runs.VariantRow], rng: random.Random
) -> dict[str, Json]:
    told: dict[str, Json] = {"label": None, "prompt": "\n\n".join(_shown(m) for m in row.messages)}
    if other is None:
        told["output"] = row.output.text if row.output else ""
    pair = [row] if other is None else rng.sample([row, other], 2)
    for side, one in zip(SIDES, pair, strict=False):
        prefix = "" if other is None else f"{side}_"
        if other is not None:
            told[side] = one.output.text if one.output else ""
        told |= {f"{prefix}model": variants[one.variant_id].model, f"{prefix}variant": variants[one.variant_id].label}
        told[f"{prefix}trial"] = one.trial_id
    return {**told, "expected": row.expected, "inputs": dict(row.inputs), "case": row.case_id}


def _shown(message: Mapping[str, Json]) -> str:
    content = message.get("content")
    return f"{message.get('role')}: {content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)}"


def read_labels(root: Path, name: str, all_rows: bool = False) -> tuple[list[Labelled], str]:
    """The labelled rows of a file, and its content's hash; rows without a label are left out, or with `all_rows`
    have an empty one. Raises DataError."""
    place = inside(root, name)
    try:
        raw = place.read_bytes()
        lines = raw.decode("utf-8").split("\n")  # splitlines would cut at U+2028 inside a text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("can't be read as UTF-8 text; draw one with 'workbench judge sample'", name) from error
    rows = [_labelled(line, name, number) for number, line in enumerate(lines, 1) if line.strip()]
    return [row for row in rows if all_rows or row.label], hashlib.sha256(raw).hexdigest()


_PLAIN = ("run", "seed", "drawn", "of", "scorer", "frame", *(
    f"{side}{about}" for about in ("model", "trial", "variant") for side in ("", "first_", "second_")
))  # fmt: skip


def _labelled(line: str, name: str, number: int) -> Labelled:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no JSON: {error}", name, number) from error
    if not isinstance(row, dict):
        raise DataError("must be an object with a 'label'", name, number)
    label = "" if row.get("label") is None else row["label"]
    sides = ("output",) if "output" in row else SIDES[:2]
    if not all(isinstance(row.get(side), str) for side in sides):
        raise DataError("needs an 'output', or 'first' and 'second', as text", name, number)
    if isinstance(label, bool) or not isinstance(label, (str, int, float)) or not _countable(label):
        raise DataError(f"the label {str(label)[:40]!r} must be a point of the scale: a text or a number", name, number)
    if odd := [key for key in _PLAIN if isinstance(row.get(key), (list, dict))]:
        raise DataError(f"'{odd[0]}' must be a text or a number", name, number)
    if not isinstance(row.get("inputs") or {}, dict):
        raise DataError("'inputs' must be an object", name, number)
    chance = row.get("probability")
    known = isinstance(chance, (int, float)) and not isinstance(chance, bool) and 0 < chance <= 1
    case = Case(str(row.get("case", f"line {number}")), row.get("inputs") or {}, row.get("expected"))
    models, trials, variants = (
        tuple(row.get(about if side == "output" else f"{side}_{about}") for side in sides)
        for about in ("model", "trial", "variant")
    )
    draw = tuple(row.get(key) for key in ("run", "seed", "drawn", "of"))
    return Labelled(
        case=case,
        outputs=tuple(row[side] for side in sides),
        label=label.strip() if isinstance(label, str) else f"{label:g}",
        models=models,
        probability=chance if known else None,
        line=number,
        run=row.get("run"),
        trials=trials,
        variants=variants,
        frames=(str(row["frame"]),) if row.get("frame") else (),
        draw=draw if isinstance(row.get("of"), int) else None,
        scorer=row.get("scorer"),
    )


def _countable(label: str | float) -> bool:
    return isinstance(label, str) or abs(label) <= MOST_VALUE


def label_files(root: Path) -> list[str]:
    """The files of labels of a project."""
    return [f"{FOLDER}/{place.name}" for place in sorted((root / FOLDER).glob("*.jsonl"))]


def write_labels(root: Path, name: str, rows: Sequence[Mapping[str, Json]]) -> Path:
    """Writes rows to label, one a line, `label` first; no file is overwritten: it may hold labels. Raises UseError."""
    place = inside(root, name)
    if place.exists():
        raise UseError(f"{name} is there already, perhaps with labels; choose another with --out")
    replace_text(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return place


def inside(root: Path, name: str) -> Path:
    """A file of the project, there or to be; raises UseError where it, or a folder on the way, leads out of it."""
    place = root / name
    if not place.resolve().is_relative_to(root.resolve()) or place.is_symlink() or place.resolve() == root.resolve():
        raise UseError(f"'{name}' must be a file in {root}, and no link")
    return place
