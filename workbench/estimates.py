"""What people would say of a run's outputs: a judge's scores, corrected by labels that were drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.labelling import Labelled, label_files, read_labels
from workbench.records import Json
from workbench.stats.ppi import FEWEST_LABELS, PredictionPowered, ppi_mean
from workbench.store import runs
from workbench.store.database import Database


def people_estimates(root: Path, database: Database, run: str) -> dict[tuple[str, str], PredictionPowered]:
    """(scorer, variant id) → the prediction-powered mean, for each judge that gives numbers or passes and each variant
    of the run with at least 50 labels drawn at random (ruling 25).

    None is told of a run with repeats or clusters: its outputs are no independent items. Raises DataError for a label
    file that can't be read."""
    with database.read() as connection:
        found = runs.get_run(connection, run)
        judges = {name: parts for name, parts in (found.header.get("judges") or {}).items() if _single(parts)}
        labels = _labels_of(root, found.id) if judges else {}
        if len(labels) < FEWEST_LABELS or found.header.get("repeats") != 1 or runs.has_clusters(connection, found.id):
            return {}
        estimates = {}
        for scorer, parts in judges.items():
            by_variant: dict[str, list[tuple[str, float]]] = {}
            for trial, variant, value in runs.values_by_trial(connection, found.id, scorer):
                by_variant.setdefault(variant, []).append((trial, value))
            for variant, scores in by_variant.items():
                estimate = _estimate(scores, labels, parts[0])
                if estimate is not None:
                    estimates[scorer, variant] = estimate
    return estimates


def _single(parts: Json) -> bool:
    """A scorer that is one judge or several of one rubric, of single answers."""
    return bool(parts) and all("rubric" in part and not part.get("pairwise") for part in parts)


def _labels_of(root: Path, run: str) -> dict[str, Labelled]:
    """Trial → its label, of all files of the project."""
    found = {}
    for name in label_files(root):
        for row in read_labels(root, name)[0]:
            if row.run == run and row.trial and row.drawn:
                found[row.trial] = row
    return found


def _estimate(
    scores: list[tuple[str, float]], labels: Mapping[str, Labelled], part: Mapping[str, Json]
) -> PredictionPowered | None:
    told = [(_value(labels[trial].label, part), value, labels[trial]) for trial, value in scores if trial in labels]
    truth = [value for value, _, _ in told if value is not None]
    if len(truth) < max(FEWEST_LABELS, len(told)):  # too few, or labels that the scorer's scale lacks
        return None
    others = [value for trial, value in scores if trial not in labels]
    chances = [row.probability or 1.0 for _, _, row in told]
    passes = part.get("passes") is not None or part.get("at_least") is not None
    return ppi_mean(truth, [value for _, value, _ in told], others, chances, (0.0, 1.0) if passes else None)


def _value(label: str, part: Mapping[str, Json]) -> float | None:
    """A person's label as the scorer would score it; None where it can't be a score of its kind."""
    if part.get("passes") is not None:
        return float(label in part["passes"])
    try:
        number = float(label)
    except ValueError:
        return None
    return number if part.get("at_least") is None else float(number >= part["at_least"])
