"""Rows of another store taken in: only what is not there is added, and what is there stays.

A request is known by its id, an output by its request and its time, a run by its id, a score by run, trial and
scorer. So taking the same file in twice adds nothing the second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from workbench.errors import FileError
from workbench.records import Json
from workbench.store import database as db
from workbench.store.check import dangling
from workbench.store.recording import is_alive
from workbench.store.rows import TABLES
from workbench.store.summaries import keep_ended

Row = dict[str, Json]
Check = Callable[[str, Mapping[str, Json]], None]
"""Looks at a row before it is taken in; raises FileError."""


@dataclass
class _Taking:
    """Where the taking stands."""

    connection: sa.Connection
    added: Counter[str] = field(default_factory=Counter)
    numbers: dict[int, int] = field(default_factory=dict)
    """Of outputs: theirs → ours."""
    runs: set[str] = field(default_factory=set)


def take_in(connection: sa.Connection, rows: Iterable[tuple[str, Row]], check: Check) -> Counter[str]:
    """Adds what is not there; gives how many rows of each table were added. One transaction is the caller's.

    Raises FileError for a row that points to nothing, or a run that is here with another plan.
    """
    state = _Taking(connection)
    held: list[Row] = []
    current = ""
    for table, row in rows:
        if held and (table != current or len(held) == db.CHUNK):
            _TAKERS.get(current, _take_new)(state, current, held)
            held = []
        check(table, row)
        current = table
        held.append(row)
    if held:
        _TAKERS.get(current, _take_new)(state, current, held)
    for run in sorted(state.runs):
        for found in dangling(connection, run):
            raise FileError(f"run {run} has {found.what}: {found.example}")
    keep_ended(connection, sorted(state.runs))
    return state.added


def _take_new(state: _Taking, table: str, rows: Sequence[Row]) -> None:
    """Rows with keys of their own."""
    if "run" in TABLES[table].c:
        _check_runs(state, table, rows)
    _insert(state, table, rows)


def _take_runs(state: _Taking, _: str, rows: Sequence[Row]) -> None:
    for given in rows:
        state.runs.add(given["id"])
        # whatever process works on it, it works on another store
        row = {**given, "status": "stopped"} if given["status"] == "running" else given
        mine = state.connection.execute(sa.select(db.runs).where(db.runs.c.id == row["id"])).mappings().first()
        if mine is None:
            _insert(state, "runs", [row])
            continue
        if mine["plan"] != row["plan"]:
            raise FileError(f"run {row['id']} is here with another plan; the two can't be put together")
        alive = mine["status"] == "running" and is_alive(mine)
        if mine["status"] != "complete" and row["status"] == "complete" and not alive:
            values = {name: row[name] for name in ("status", "ended", "header")}
            state.connection.execute(db.runs.update().where(db.runs.c.id == row["id"]).values(values))


def _take_outputs(state: _Taking, _: str, rows: Sequence[Row]) -> None:
    o = db.outputs.c
    asked = {row["request"] for row in rows}
    there = set(state.connection.execute(sa.select(db.requests.c.id).where(db.requests.c.id.in_(asked))).scalars())
    if lost := asked - there:
        raise FileError(f"an output's request {min(lost)} is missing")
    query = sa.select(o.request, o.time, o.number).where(o.request.in_(asked)).order_by(o.number.desc())
    known = {(request, time): number for request, time, number in state.connection.execute(query)}
    new: dict[tuple[str, str], Row] = {}
    for row in rows:
        if (row["request"], row["time"]) not in known:
            new.setdefault((row["request"], row["time"]), row)
    if new:
        insert = db.outputs.insert().returning(o.number, sort_by_parameter_order=True)
        columns = [name for name in db.outputs.columns.keys() if name != "number"]  # noqa: SIM118
        values = [{name: row.get(name) for name in columns} for row in new.values()]
        known |= dict(zip(new, state.connection.execute(insert, values).scalars().all(), strict=True))
        state.added["outputs"] += len(new)
    for row in rows:
        state.numbers[row["number"]] = known[row["request"], row["time"]]


def _take_trials(state: _Taking, _: str, rows: Sequence[Row]) -> None:
    _check_runs(state, "trials", rows)
    rows = [{**row, "output": _number(state, row["output"])} for row in rows]
    _insert(state, "trials", rows)
    t = db.trials.c
    answered = [{"b_run": r["run"], "b_id": r["id"], "b_output": r["output"]} for r in rows if r["output"] is not None]
    if answered:
        same = (t.run == sa.bindparam("b_run"), t.id == sa.bindparam("b_id"), t.output.is_(None))
        state.connection.execute(db.trials.update().where(*same).values(output=sa.bindparam("b_output")), answered)


def _take_reused(state: _Taking, table: str, rows: Sequence[Row]) -> None:
    """Those of runs that are there: what others took is not needed."""
    mine = [{**row, "output": _number(state, row["output"])} for row in rows if row["run"] in state.runs]
    if mine:
        _insert(state, table, mine)


def _take_numbered(state: _Taking, table: str, rows: Sequence[Row]) -> None:
    """Rows whose number is only ours: known by all the rest that is text, a number or a flag."""
    columns = [c for c in TABLES[table].columns if c.name != "number"]
    if table != "tries":
        _check_runs(state, table, rows)
    for given in rows:
        row = {c.name: given.get(c.name) for c in columns}
        if "output" in row:
            row["output"] = _number(state, row["output"])
        same = [c == row[c.name] for c in columns if not isinstance(c.type, sa.JSON)]
        if state.connection.execute(sa.select(TABLES[table].c.number).where(*same).limit(1)).first() is None:
            state.connection.execute(TABLES[table].insert(), row)
            state.added[table] += 1


def _number(state: _Taking, theirs: int | None) -> int | None:
    if theirs is None:
        return None
    if theirs not in state.numbers:
        raise FileError(f"a row points to output {theirs}, which is missing")
    return state.numbers[theirs]


def _check_runs(state: _Taking, table: str, rows: Sequence[Row]) -> None:
    for row in rows:
        if row["run"] not in state.runs:
            raise FileError(f"a row of '{table}' is of a run that is missing")


def _insert(state: _Taking, table: str, rows: Sequence[Row]) -> None:
    """Inserts the rows whose keys are new."""
    names = TABLES[table].columns.keys()
    values = [{name: row.get(name) for name in names} for row in rows]
    done = state.connection.execute(db.insert_new(state.connection, TABLES[table]), values)
    state.added[table] += max(0, done.rowcount)


_TAKERS: Mapping[str, Callable[[_Taking, str, Sequence[Row]], None]] = {
    "runs": _take_runs,
    "outputs": _take_outputs,
    "trials": _take_trials,
    "reused": _take_reused,
    "tries": _take_numbered,
    "notes": _take_numbered,
    "votes": _take_numbered,
}
