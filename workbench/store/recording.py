"""What a run writes while it goes: its header first, each answer before it counts, scores beside it."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import sqlalchemy as sa

from workbench.errors import StoreError, UseError
from workbench.records import EMPTY, Failure, Json, Output, Request, Score, Suite, Trial
from workbench.store import database as db
from workbench.store.kept import forget, forget_users
from workbench.store.retrieved import gathered

STALE_SECONDS = 120.0
"""A running row of another machine without a heartbeat for so long is interrupted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An output as the store has it."""

    number: int
    output: Output


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start_run(connection: sa.Connection, run: str, suite: Suite, plan: Plan, header: Mapping[str, Json]) -> None:
    """Writes the header, the variants, the cases and the trials of a new run.

    Raises StoreError where another live process runs a suite of that name in this store.
    """
    _refuse_second(connection, suite.name, run)
    header = {**header, "reuse_noted": True}
    row: dict[str, Any] = {"id": run, "suite": suite.name, "stage": suite.stage, "status": "running", "started": now()}
    row |= {"planned": len(plan.trials), "plan": plan.id, "header": header, **alive()}
    connection.execute(db.runs.insert(), row)
    connection.execute(db.variants.insert(), [_variant_row(run, i, v) for i, v in enumerate(suite.variants)])
    found = gathered((t for t, _ in plan.trials), suite.retrieve["into"]) if suite.retrieve else {}
    connection.execute(
        db.cases.insert(), [{**_case_row(run, i, c), "retrieved": found.get(c.id)} for i, c in enumerate(suite.cases)]
    )
    rows = [
        {"run": run, "id": t.id, "variant": t.variant.id, "case": t.case.id, "repeat": t.repeat, "request": request}
        for t, request in plan.trials
    ]
    connection.execute(db.trials.insert(), rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials of a run, each with the id of the request that answers it."""

    id: str
    trials: Sequence[tuple[Trial, str]]


def resume_run(connection: sa.Connection, run: str, plan: Plan, facts: Mapping[str, Json]) -> None:
    """Takes up a run that was stopped, interrupted or left unfinished. `facts`: what its header says from now on of
    scorers, gates, indexes and the like; scorers of `workbench score` stay.

    Raises UseError where it is not known or its plan has changed since.
    """
    row = connection.execute(_locked(run)).mappings().first()
    if row is None:
        raise UseError(f"there is no run '{run}' to resume; see 'workbench runs'")
    if row["plan"] != plan.id:
        raise UseError(
            f"run {run} can't be resumed: its suite, prompts, cases or models have changed since; start a new run "
            "(answers to unchanged requests are reused)"
        )
    _refuse_second(connection, row["suite"], "")
    forget(connection, run)

    def judged_by(old: Mapping[str, Json]) -> Mapping[str, Json]:
        both = {name: {**old.get(name, {}), **facts[name]} for name in ("terms", "judges")}
        return {**facts, **both, "scorers": list(dict.fromkeys([*facts["scorers"], *old.get("scorers", [])]))}

    _change_header(connection, run, judged_by, status="running", ended=None, **alive())


def take_up(connection: sa.Connection, run: str) -> str:
    """Makes this process the one that works on a run, whatever its plan; gives the run's status before.

    Raises StoreError where another one lives."""
    row = connection.execute(_locked(run)).mappings().one()
    if row["status"] == "running" and row["pid"] != os.getpid() and is_alive(row):
        raise StoreError(f"run {run} is at work in process {row['pid']} on {row['host']}; wait for it to end")
    forget(connection, run)
    connection.execute(db.runs.update().where(db.runs.c.id == run).values(status="running", ended=None, **alive()))
    return str(row["status"])


def put_down(connection: sa.Connection, run: str, status: str) -> None:
    """Ends this process's work on a run."""
    connection.execute(db.runs.update().where(db.runs.c.id == run).values(status=status, ended=now()))


def note(connection: sa.Connection, run: str, facts: Mapping[str, Json]) -> None:
    """Puts into the run's header what is known only while it goes, in place of what stood there under these names:
    `stopping`, where the question of `until` or `race` stands."""
    _change_header(connection, run, lambda old: facts)


def _change_header(
    connection: sa.Connection,
    run: str,
    change: Callable[[Mapping[str, Json]], Mapping[str, Json]],
    **values: Any,
) -> None:
    """Puts what `change` makes of a run's header into it, with other values of the row. Everything that changes a
    header goes this way: from the reading to the transaction's end nobody else writes the row."""
    old = connection.execute(_locked(run)).mappings().one()["header"]
    header = {**old, **change(old)}
    connection.execute(db.runs.update().where(db.runs.c.id == run).values(header=header, **values))


def _locked(run: str) -> sa.Select[Any]:
    """A run's row, held to the transaction's end: by PostgreSQL; in SQLite whoever writes holds all."""
    return sa.select(db.runs).where(db.runs.c.id == run).with_for_update()


def beat(connection: sa.Connection, run: str) -> None:
    connection.execute(db.runs.update().where(db.runs.c.id == run).values(heartbeat=time.time()))


def end_run(
    connection: sa.Connection, run: str, status: str, work: Json, facts: Mapping[str, Json] | None = None
) -> None:
    """Ends the run's row; `work` is what each engine counted, added up over the times the run was taken up;
    `facts`, what else its header is to say of the last time: `limits`, how the limit of each hosted model moved."""

    def added_up(old: Mapping[str, Json]) -> Mapping[str, Json]:
        total = {alias: Counter(counts) for alias, counts in old.get("work", {}).items()}
        for alias, counts in work.items():
            total.setdefault(alias, Counter()).update(counts)
        return {"work": {alias: dict(counts) for alias, counts in total.items()}, **(facts or {})}

    _change_header(connection, run, added_up, status=status, ended=now())


def set_latency(connection: sa.Connection, number: int, output: Output) -> None:
    """Gives a stored output the times of the same request served alone."""
    forget_users(connection, number)
    times = {"seconds": output.seconds, "first_token_seconds": output.first_token_seconds}
    connection.execute(db.outputs.update().where(db.outputs.c.number == number).values(times))


def spent(connection: sa.Connection, run: str | None = None) -> tuple[float, int]:
    """US dollars and tokens of all stored outputs, or of those that one run asked for, with what a budget counted them
    with beyond what they tell (`Flight.keep`); other unknown costs are left out."""
    query = sa.select(*_spendings())
    if run is not None:
        query = query.where(db.outputs.c.run == run)
    cost, count = connection.execute(query).one()
    return float(cost), int(count)


def spent_since(connection: sa.Connection, after: int) -> tuple[int, float, int]:
    """The number of the newest output, then dollars and tokens, as in `spent`, of those beyond the number `after`."""
    o = db.outputs.c
    newest = connection.execute(sa.select(sa.func.coalesce(sa.func.max(o.number), 0))).scalar_one()
    cost, count = connection.execute(sa.select(*_spendings()).where(o.number > after)).one()
    return int(newest), float(cost), int(count)


def _spendings() -> list[sa.ColumnElement[Any]]:
    """Sums of US dollars and of tokens over outputs."""
    o = db.outputs.c
    beyond = o.details["extra"]["beyond"]
    cost = sa.func.coalesce(o.cost, 0.0) + sa.func.coalesce(beyond["cost"].as_float(), 0.0)
    tokens = sa.func.coalesce(o.prompt_tokens, 0) + sa.func.coalesce(o.output_tokens, 0)
    tokens += sa.func.coalesce(beyond["tokens"].as_integer(), 0)
    return [sa.func.coalesce(sa.func.sum(cost), 0.0), sa.func.coalesce(sa.func.sum(tokens), 0)]


def known(connection: sa.Connection, ids: Iterable[str], newer_than: str = "", run: str = "") -> dict[str, Kept]:
    """The newest answer to each request that has one; failures are no answers. Those that `run` has asked for, or
    taken, count whatever their time: its clock may have been set back, or they may have grown old meanwhile."""
    found: dict[str, Kept] = {}
    wanted = list(dict.fromkeys(ids))
    o, t = db.outputs.c, db.trials.c
    taken = sa.exists().where(t.run == run, t.request == o.request, t.output == o.number)
    reused = sa.exists().where(db.reused.c.run == run, db.reused.c.output == o.number)
    fits = sa.or_(o.time >= newer_than, o.run == run, taken, reused) if newer_than else sa.true()
    for start in range(0, len(wanted), db.CHUNK):
        query = (
            sa.select(db.outputs)
            .where(o.request.in_(wanted[start : start + db.CHUNK]), o.finish_reason != "failed", fits)
            .order_by(o.number)
        )
        for row in connection.execute(query).mappings():
            found[row["request"]] = Kept(row["number"], output_of(row))
    return found


def reuse(connection: sa.Connection, run: str, ids: Iterable[str], newer_than: str = "") -> dict[str, Output]:
    """What is `known`, for a run that takes it for its scorers or to look passages up: as long as the run is kept, so
    are these, whoever asked for them. One transaction is the caller's, so that none is removed in between."""
    found = known(connection, ids, newer_than, run)
    numbers = [kept.number for kept in found.values()]
    for start in range(0, len(numbers), db.CHUNK):
        o = db.outputs.c
        theirs = sa.select(sa.literal(run), o.number).where(
            o.number.in_(numbers[start : start + db.CHUNK]), o.run != run
        )
        connection.execute(db.insert_new(connection, db.reused).from_select(["run", "output"], theirs))
    return {i: kept.output for i, kept in found.items()}


def keep(connection: sa.Connection, run: str, answered: Iterable[tuple[Request, str, Output]]) -> list[Kept]:
    """Stores outputs, each with its request and the model's identity, and gives them to the run's trials."""
    rows = list(answered)
    keep_requests(connection, [(request, identity) for request, identity, _ in rows])
    return keep_outputs(connection, run, [output for _, _, output in rows])


def keep_requests(connection: sa.Connection, asked: Sequence[tuple[Request, str]]) -> None:
    """Stores requests, each with the model's identity; those that are there stay as they are."""
    if asked:
        insert = db.insert_new(connection, db.requests)
        connection.execute(insert, [_request_row(request, identity) for request, identity in asked])


def keep_outputs(connection: sa.Connection, run: str, outputs: Sequence[Output]) -> list[Kept]:
    """Stores outputs of requests that are there, and gives them to the run's trials."""
    if not outputs:
        return []
    rows = [{"request": output.request_id, "run": run, "time": now(), **_output_row(output)} for output in outputs]
    insert = db.outputs.insert().returning(db.outputs.c.number, sort_by_parameter_order=True)
    numbers = connection.execute(insert, rows).scalars().all()
    kept = [Kept(number, output) for number, output in zip(numbers, outputs, strict=True)]
    attach(connection, run, kept)
    return kept


def attach(connection: sa.Connection, run: str, kept: Iterable[Kept]) -> None:
    """Gives each answer to all trials of the run that asked for it."""
    rows = [{"b_run": run, "b_request": k.output.request_id, "b_output": k.number} for k in kept]
    if rows:
        statement = (
            db.trials.update()
            .where(db.trials.c.run == sa.bindparam("b_run"), db.trials.c.request == sa.bindparam("b_request"))
            .values(output=sa.bindparam("b_output"))
        )
        forget(connection, run)
        connection.execute(statement, rows)


def save_scores(connection: sa.Connection, run: str, scores: Sequence[Score]) -> None:
    """Stores scores, in place of older ones of the same trial and scorer."""
    rows = [
        {
            "run": run, "trial": s.trial_id, "scorer": s.scorer, "key": s.key, "kind": s.kind, "reason": s.reason,
            "number": s.value if isinstance(s.value, (int, float)) else None,
            "label": s.value if isinstance(s.value, str) else None,
        }
        for s in scores
    ]  # fmt: skip
    if not rows:
        return
    forget(connection, run)
    match = [db.scores.c[name] == sa.bindparam(f"b_{name}") for name in ("run", "trial", "scorer")]
    old = [{f"b_{name}": row[name] for name in ("run", "trial", "scorer")} for row in rows]
    connection.execute(db.scores.delete().where(*match), old)
    connection.execute(db.scores.insert(), rows)


def add_scorers(
    connection: sa.Connection, run: str, terms: Mapping[str, str], judges: Mapping[str, Json] = EMPTY
) -> None:
    """Notes in the run's header by which further scorers it was scored, on which terms, and what those that ask models
    rest on."""

    def scored_by(old: Mapping[str, Json]) -> Mapping[str, Json]:
        both = {"terms": {**old.get("terms", {}), **terms}, "judges": {**old.get("judges", {}), **judges}}
        return {"scorers": list(dict.fromkeys([*old.get("scorers", []), *terms])), **both}

    _change_header(connection, run, scored_by)


def score_keys(connection: sa.Connection, run: str) -> dict[tuple[str, str], str]:
    """(trial, scorer) → key, of the scores that the run has."""
    query = sa.select(db.scores.c.trial, db.scores.c.scorer, db.scores.c.key).where(db.scores.c.run == run)
    return {(trial, scorer): key for trial, scorer, key in connection.execute(query)}


def is_alive(row: sa.RowMapping) -> bool:
    """Whether the process of a running row still lives."""
    if row["host"] == socket.gethostname():
        return bool(psutil.pid_exists(row["pid"]) and _started_before(row))
    return bool(time.time() - row["heartbeat"] < STALE_SECONDS)


def _started_before(row: sa.RowMapping) -> bool:
    """A pid is used again after a while: its process must be older than the row's last heartbeat."""
    try:
        process = psutil.Process(row["pid"])
        return bool(process.create_time() <= row["heartbeat"] + 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def at_work(connection: sa.Connection) -> list[str]:
    """The runs that live processes work on."""
    rows = connection.execute(sa.select(db.runs).where(db.runs.c.status == "running")).mappings()
    return [row["id"] for row in rows if is_alive(row)]


def _refuse_second(connection: sa.Connection, suite: str, run: str) -> None:
    query = sa.select(db.runs).where(db.runs.c.suite == suite, db.runs.c.status == "running", db.runs.c.id != run)
    for row in connection.execute(query).mappings():
        if is_alive(row):
            raise StoreError(
                f"suite '{suite}' is being run in this store by process {row['pid']} on {row['host']} "
                f"(run {row['id']}); wait for it, or stop it with Ctrl-C there"
            )


def alive() -> dict[str, Any]:
    """By which `is_alive` knows this process."""
    return {"heartbeat": time.time(), "pid": os.getpid(), "host": socket.gethostname()}


def _variant_row(run: str, position: int, variant: Any) -> dict[str, Any]:
    settings = {"params": dict(variant.params), "vars": dict(variant.vars), "answer": dict(variant.answer)}
    return {
        "run": run, "id": variant.id, "position": position, "label": variant.label, "prompt": variant.prompt,
        "revision": variant.revision, "model": variant.model, "settings": settings,
    }  # fmt: skip


def _case_row(run: str, position: int, case: Any) -> dict[str, Any]:
    return {
        "run": run, "id": case.id, "position": position, "key": case.key, "cluster": case.cluster,
        "tags": list(case.tags), "inputs": dict(case.inputs), "expected": case.expected,
        "quarantined": case.quarantined,
    }  # fmt: skip


def _request_row(request: Request, identity: str) -> dict[str, Any]:
    settings = {
        "params": dict(request.params), "seed": request.seed, "repeat": request.repeat,
        "answer": dict(request.answer), "logprobs": request.logprobs, "tools": list(request.tools),
    }  # fmt: skip
    messages = [m.to_json() for m in request.messages]
    return {"id": request.id, "model": request.model, "identity": identity, "messages": messages, "settings": settings}


def _output_row(output: Output) -> dict[str, Any]:
    failure = output.failure
    details = {"logprobs": list(output.logprobs), "tool_calls": list(output.tool_calls), "extra": dict(output.extra)}
    return {
        "text": output.text, "finish_reason": output.finish_reason, "prompt_tokens": output.prompt_tokens,
        "output_tokens": output.output_tokens, "seconds": output.seconds,
        "first_token_seconds": output.first_token_seconds, "cost": output.cost,
        "failure": failure and {"kind": failure.kind, "message": failure.message, "retry": failure.retry},
        "details": {name: value for name, value in details.items() if value},
    }  # fmt: skip


def output_of(row: sa.RowMapping) -> Output:
    """The record of a row of `outputs`."""
    details, failure = row["details"], row["failure"]
    return Output(
        request_id=row["request"], text=row["text"], finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"], output_tokens=row["output_tokens"], seconds=row["seconds"],
        first_token_seconds=row["first_token_seconds"], cost=row["cost"],
        logprobs=tuple(details.get("logprobs", ())), tool_calls=tuple(details.get("tool_calls", ())),
        extra=details.get("extra", {}), failure=Failure(**failure) if failure else None,
    )  # fmt: skip
