"""Whether a run's numbers are whole: every trial that counts has its answer, and every answer its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.errors import most_often
from workbench.records import Run
from workbench.store import database as db
from workbench.store.runs import is_counted, planned_trials


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a run lacks, quarantined cases apart."""

    trials: int
    """Those that were to be asked."""
    failed: int
    """… of which have no answer."""
    unscored: Mapping[str, int]
    """Scorer → how many scores could not be made, or never were: not those of which it has nothing to say."""
    allowed: float
    """How many of both the suite lets pass (`allow_failed`)."""
    failures: Counter[str]
    """Why there was no answer."""
    complaints: Counter[str]
    """What scorers said."""

    @property
    def told(self) -> str:
        """A line on it; empty where nothing lacks."""
        parts = []
        if self.failed:
            parts.append(f"{self.failed:,} of {self.trials:,} trials have no answer, {most_often(self.failures)}")
        if self.unscored:
            count, by = sum(self.unscored.values()), ", ".join(map(repr, self.unscored))
            lack = "score lacks or could not be made" if count == 1 else "scores lack or could not be made"
            said = f", {most_often(self.complaints)}" if self.complaints else ""
            parts.append(f"{count:,} {lack}, by {by}{said}")
        return "; ".join(parts)

    @property
    def problem(self) -> str:
        """Why the run's numbers are not whole; empty where they are, or as whole as the suite asks."""
        return self.told if self.failed + sum(self.unscored.values()) > self.allowed else ""


def lacking(connection: sa.Connection, run: Run, scorers: Sequence[str] = ()) -> Lacking:
    """What an ended run lacks: the scores are those of its own scorers and of `scorers`."""
    t, o, s = db.trials.c, db.outputs.c, db.scores.c
    trials = sum(planned_trials(connection, run.id).values())
    counted = sa.and_(t.run == run.id, is_counted(run.id, t.case))
    answered = sa.select(sa.func.count()).join_from(db.trials, db.outputs, t.output == o.number).where(counted)
    answers = connection.execute(answered.where(o.finish_reason != "failed")).scalar_one()
    failures: Counter[str] = Counter()
    failed = sa.select(o.failure).join_from(db.trials, db.outputs, t.output == o.number).where(counted)
    for failure in connection.execute(failed.where(o.finish_reason == "failed")).scalars():
        failures[str((failure or {}).get("message", ""))] += 1
    joined = sa.join(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial)).join(
        db.outputs, sa.and_(t.output == o.number, o.finish_reason != "failed")
    )
    made = dict.fromkeys([*run.header.get("scorers", ()), *scorers], 0)
    had = sa.select(s.scorer, sa.func.count()).select_from(joined).where(counted, s.key != "").group_by(s.scorer)
    made |= {name: count for name, count in connection.execute(had).all() if name in made}
    said = sa.select(s.scorer, s.reason, sa.func.count()).select_from(joined).where(counted, s.key == "")
    complaints: Counter[str] = Counter()
    for name, reason, count in connection.execute(said.group_by(s.scorer, s.reason)):
        complaints[f"{name}: {reason}"] += count
    return Lacking(
        trials,
        failures.total(),
        {name: answers - count for name, count in made.items() if count < answers},
        float(run.header.get("allow_failed", 0)) * trials,
        failures,
        complaints,
    )


def incomplete(run: Run) -> str:
    """Why a run that did not end has no verdict; empty for a complete one."""
    if run.status == "complete":
        return ""
    return f"run {run.id} is {run.status}; go on with: workbench run {run.header.get('path')} --resume {run.id}"
