"""Outputs to scores, while a run goes or later: what a scorer needs, gets and gives. No model is asked."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.define.template import render_value
from workbench.errors import DataError, ScorerError, WorkbenchError
from workbench.records import Case, Json, Judgement, Output, Score, ScorerSpec
from workbench.scorers.base import Answered, Desk, Scorer, countable
from workbench.scorers.build import build_scorer, score_key, scorer_terms
from workbench.store import recording, runs
from workbench.store.database import Database
from workbench.store.summaries import keep_ended

Scorers = Sequence[tuple[ScorerSpec, Scorer]]

AT_ONCE = 500
"""Scores that are committed together."""


def build_scorers(specs: Sequence[ScorerSpec], root: Path, path: str | None, desk: Desk | None = None) -> Scorers:
    """Each spec with its scorer; those that ask models find them at the desk. Raises UseError for a setting that
    can't be."""
    return [(spec, build_scorer(spec, root, path, desk)) for spec in specs]


def expected_answer(spec: ScorerSpec, case: Case) -> Json:
    """The expected answer of a case for a scorer: the scorer's template over the inputs, or the case's own."""
    if spec.expected is None:
        return case.expected
    return render_value(spec.expected, {**case.inputs, "expected": case.expected})


def check_expected(scorers: Scorers, cases: Sequence[Case]) -> None:
    """Raises DataError for a case without the expected answer that a scorer needs."""
    for (spec, _), case in itertools.product([pair for pair in scorers if pair[1].needs_expected], cases):
        try:
            found = expected_answer(spec, case)
        except WorkbenchError as error:
            raise DataError(f"scorer '{spec.name}': {error} (case '{case.id}')", *case.place) from error
        if found is None or found == "":
            raise DataError(
                f"case '{case.id}' has no expected answer, which scorer '{spec.name}' needs; give the case one, map "
                "it with 'cases: {expected: FIELD}', or give the scorer its own: 'expected: \"{{ FIELD }}\"'",
                *case.place,
            )


def score_output(scorers: Scorers, trial_id: str, case: Case, output: Output) -> Iterator[Score]:
    """The scores of one answer. A scorer that complains, or could not judge, gives a score without a value and without
    a key, so that it is made anew at the next occasion."""
    for spec, scorer in scorers:
        expected = expected_answer(spec, case)
        try:
            judged = countable(scorer(Answered(output, case, expected)))
            key = "" if judged.failed else score_key(spec, scorer, expected)
        except ScorerError as error:
            judged, key = Judgement(None, "pass", str(error), failed=True), ""
        yield Score(trial_id, spec.name, key, judged.value, judged.kind, judged.reason)


def case_of(row: runs.TrialRow) -> Case:
    """The case of a stored trial, as far as scorers see it."""
    return Case(row.case_id, {**row.inputs, **row.retrieved}, row.expected, row.tags)


@dataclass(slots=True)
class Rescored:
    """What scoring a stored run did."""

    made: int = 0
    kept: int = 0
    """Scores that were there already, by the same scorer on the same terms."""
    unscored: Counter[str] = field(default_factory=Counter)
    """What scorers complained of, counted."""


def score_run(database: Database, run: str, scorers: Scorers) -> Rescored:
    """Scores a stored run; scores that are there on the same terms are kept. Raises DataError, UnknownName."""
    done = Rescored()
    with database.read() as connection:
        found = runs.get_run(connection, run)
        old = recording.score_keys(connection, found.id)
        fresh: list[Score] = []
        for row in runs.trial_rows(connection, found.id):
            if row.output is None or row.output.failure:
                continue
            case = case_of(row)
            check_expected(scorers, [case])
            for score in score_output(scorers, row.trial_id, case, row.output):
                if score.key and old.get((score.trial_id, score.scorer)) == score.key:
                    done.kept += 1
                    continue
                fresh.append(score)
            if len(fresh) >= AT_ONCE:
                _save(database, found.id, fresh, done)
        _save(database, found.id, fresh, done)
    with database.write() as connection:
        recording.add_scorers(connection, found.id, scorer_terms(scorers))
        keep_ended(connection, [found.id])
    return done


def _save(database: Database, run: str, fresh: list[Score], done: Rescored) -> None:
    with database.write() as connection:
        recording.save_scores(connection, run, fresh)
    done.made += sum(bool(score.key) for score in fresh)
    done.unscored.update(f"scorer '{score.scorer}': {score.reason}" for score in fresh if not score.key)
    fresh.clear()
