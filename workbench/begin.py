"""How a run begins: its id and seed, its header and planned trials written before anything is asked."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from workbench.asking import Judging
from workbench.errors import SuiteError, UseError
from workbench.flight import Room
from workbench.judges.judging import described
from workbench.prepare import Prepared, budgets
from workbench.records import Json, content_id
from workbench.retrieval.lookup import find_passages, using_indexes
from workbench.run.provenance import provenance
from workbench.run.reuse import newest_wanted
from workbench.store import batches, recording, runs
from workbench.store.database import Database
from workbench.store.prompts import record_revision


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, beside what the suite says."""

    resume: str | None = None
    """The id of a run to take up."""
    fresh: bool = False
    """Ask again, reuse nothing; a run seed is drawn where none is given."""
    seed: int | None = None
    """The run seed, in place of the suite's and of a drawn one."""
    batch: bool = False
    """Ask in batches (`workbench.batches.submit`)."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run whose header and trials are in the store."""

    run: str
    seed: int
    planned: int
    reuse_after: str
    """Answers older than this time are not reused; empty: any age."""
    prepared: Prepared
    """The suite that runs: with the passages that were looked up."""
    retrieving: Judging
    """What looking them up took."""


def begin(
    prepared: Prepared,
    database: Database,
    options: RunOptions,
    stop: Event | None = None,
    watch: Callable[[Judging], None] = lambda retrieving: None,
) -> Begun:
    """Looks passages up, telling `watch` how far it is, then writes the run's header, or takes up the run to resume.

    Raises what `retrieval.find_passages` does, and KeyboardInterrupt where `stop` is set before there is a header."""
    suite = prepared.suite
    if options.batch and (suite.until or suite.race):
        raise SuiteError("'until' and 'race' decide after each block, so they can't go with --batch", suite.path)
    oldest = newest_wanted(suite.reuse.get("max_age"))
    if options.resume is not None:
        with database.read() as connection:
            old = runs.get_run(connection, options.resume)
            waiting = batches.list_batches(connection, old.id, only_open=True)
        if waiting and not options.batch:
            raise UseError(
                f"run {old.id} has {len(waiting)} batches under way, which would be asked again; fetch them first with "
                f"'workbench batches collect {old.id}', or end them with 'workbench batches cancel {old.id}'"
            )
        run, seed = old.id, int(old.header["seed"])
        oldest = old.started if old.header["fresh"] else oldest
    else:
        run = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        seed = options.seed if options.seed is not None else suite.seed
        seed = secrets.randbelow(2**31) if options.fresh and options.seed is None else seed
        oldest = recording.now() if options.fresh else oldest
    retrieving = Judging()
    with using_indexes(suite, prepared.root):
        if suite.retrieve:
            room = Room(database, run, prepared.engines, budgets(prepared, database, run), stop=stop or Event())
            prepared = _looked_up(prepared, room, retrieving, partial(watch, retrieving))
        plan = _planned(prepared, seed, stop)
        used: dict[str, Json] = {"indexes": list(prepared.indexes)} if prepared.indexes else {}
        with database.write() as connection:
            for prompt in suite.prompts.values():
                record_revision(connection, prompt)
            if options.resume is not None:
                recording.resume_run(connection, run, plan, {**_judged_by(prepared), **used})
            else:
                header = {**_header(prepared, seed), **_judged_by(prepared), **used, "fresh": options.fresh}
                recording.start_run(connection, run, suite, plan, header)
    return Begun(run, seed, len(plan.trials), oldest, prepared, retrieving)


def _looked_up(prepared: Prepared, room: Room, retrieving: Judging, watch: Callable[[], None]) -> Prepared:
    """With the passages of each case."""
    suite = prepared.suite
    room = replace(room, engines={alias: room.engines[alias] for alias in suite.retrieve["models"]})
    found, indexes = find_passages(suite, room, prepared.root, retrieving, watch)
    return replace(prepared, found=found, indexes=indexes)


def _planned(prepared: Prepared, seed: int, stop: Event | None) -> recording.Plan:
    suite = prepared.suite
    trials = [(p.trial, p.request.id) for block in prepared.blocks(seed, stop) for p in block]
    if stop is not None and stop.is_set():  # hundreds of thousands of trials take a while
        raise KeyboardInterrupt
    rules: list[Json] = [dict(rule) for rule in (suite.until, suite.race) if rule]
    aside = sorted(case.id for case in suite.cases if case.quarantined)
    rules += [{"quarantine": aside}] if aside else []
    return recording.Plan(content_id("pl1", [*([t.id, request] for t, request in trials), *rules]), trials)


def _header(prepared: Prepared, seed: int) -> dict[str, Json]:
    suite = prepared.suite
    models = {
        alias: {"engine": model.engine, "identity": prepared.engines[alias].identity, "settings": dict(model.settings)}
        for alias, model in suite.models.items()
    }
    return {
        "seed": seed,
        "repeats_exactly": all(engine.capabilities.exact for engine in prepared.engines.values()),
        "models": models,
        **({"until": dict(suite.until)} if suite.until else {"race": dict(suite.race)} if suite.race else {}),
        "cases": len(suite.cases),
        **({"expected_field": suite.expected_field} if suite.expected_field else {}),
        "repeats": suite.repeats,
        **({"shard": suite.shard} if suite.shard else {}),
        **({"narrowed": suite.narrowed} if suite.narrowed else {}),
        **provenance(prepared.root),
    }


def _judged_by(prepared: Prepared) -> dict[str, Json]:
    """What of a suite may be another when its run is taken up again: all that asks nothing else."""
    suite = prepared.suite
    return {
        "scorers": [spec.name for spec in suite.scorers],
        "terms": prepared.terms,
        "judges": described(prepared.asking),
        "reference": suite.reference or suite.variants[0].id,
        "margin": suite.margin,
        "gates": [dict(gate) for gate in suite.gates],
        "allow_failed": suite.allow_failed,
        "suite": suite.text,
        "path": suite.path,
        "budget": dict(suite.budget),
    }
