"""The runs of a suite's shards become one run, which the store keeps beside them.

Nothing is asked and no answer is copied: the new run's trials point to the same outputs.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from workbench.errors import UseError
from workbench.records import Json, Run, content_id
from workbench.store import database as db
from workbench.store.recording import now
from workbench.store.runs import get_run, run_variants
from workbench.store.summaries import keep_summary

SAME = {
    "suite": "the suite's file",
    "seed": "the run seed",
    "repeats": "the number of repeats",
    "models": "the models",
    "scorers": "the scorers",
    "terms": "the scorers' settings or files",
    "judges": "the judges",
}
"""Parts of a header that shards of one run share, as people call them."""


def join_runs(connection: sa.Connection, ids: Sequence[str]) -> str:
    """Makes one run of the runs of all shards of a suite, gives its id; the same shards give the same run.

    Raises UnknownName; UseError where a shard is missing, given twice or not complete, or where they are not of one
    suite as it stood at one time.
    """
    found = {run.id: run for run in (get_run(connection, one) for one in ids)}
    runs = sorted(found.values(), key=lambda run: _shard(run)[0])
    _check(connection, runs)
    joined = f"{runs[0].id[:15]}-joined-{content_id('jr1', [run.id for run in runs]).rpartition('-')[2][:8]}"
    if connection.execute(sa.select(db.runs.c.id).where(db.runs.c.id == joined)).first() is None:
        _write(connection, joined, runs)
    return joined


def _shard(run: Run) -> tuple[int, int]:
    """Which shard of how many a run is; raises UseError where it is none."""
    number, slash, count = str(run.header.get("shard", "")).partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise UseError(f"run {run.id} is no shard; only runs made with --shard are joined")
    return int(number), int(count)


def _check(connection: sa.Connection, runs: Sequence[Run]) -> None:
    first, count = runs[0], _shard(runs[0])[1]
    for run in runs:
        if run.status != "complete":
            how = f"{run.header.get('path')} --shard {run.header['shard']} --resume {run.id}"
            raise UseError(f"run {run.id} is {run.status}; go on with: workbench run {how}")
        if _shard(run)[1] != count or run.suite != first.suite:
            raise UseError(f"runs {first.id} and {run.id} are not shards of one suite, split alike")
        for key, name in SAME.items():
            if run.header.get(key) != first.header.get(key):
                raise UseError(f"runs {first.id} and {run.id} can't be joined: {name} changed between them")
        if {v.id for v in run_variants(connection, run.id)} != {v.id for v in run_variants(connection, first.id)}:
            raise UseError(f"runs {first.id} and {run.id} can't be joined: their variants are not the same")
    numbers = [_shard(run)[0] for run in runs]
    missing = [f"{n}/{count}" for n in range(1, count + 1) if n not in numbers]
    if missing:
        raise UseError(f"shards are missing: {', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}")
    if twice := [f"{n}/{count}" for n, times in Counter(numbers).items() if times > 1]:
        raise UseError(f"shard {twice[0]} is given twice; name one run of it")


def _write(connection: sa.Connection, joined: str, runs: Sequence[Run]) -> None:
    first = runs[0]
    rows = [dict(connection.execute(sa.select(db.runs).where(db.runs.c.id == run.id)).mappings().one()) for run in runs]
    row: dict[str, Any] = {
        **rows[0], "id": joined, "started": now(), "ended": now(), "heartbeat": time.time(), "pid": os.getpid(),
        "host": socket.gethostname(), "planned": sum(run.planned for run in runs),
        "plan": content_id("pl1", [row["plan"] for row in rows]), "header": _header(runs),
    }  # fmt: skip
    connection.execute(db.runs.insert(), row)
    _copy(connection, db.variants, first.id, joined)
    position = 0
    for run in runs:
        _copy(connection, db.cases, run.id, joined, position=db.cases.c.position + position)
        position += int(run.header["cases"])
        _copy(connection, db.trials, run.id, joined)
        _copy(connection, db.scores, run.id, joined)
        _reuse(connection, run.id, joined)
    keep_summary(connection, joined)


def _copy(connection: sa.Connection, table: sa.Table, run: str, joined: str, **other: Any) -> None:
    """A run's rows of a table, as rows of the joined run."""
    values = {"run": sa.literal(joined), **other}
    columns = [values.get(column.name, column) for column in table.c]
    connection.execute(table.insert().from_select(list(table.c), sa.select(*columns).where(table.c.run == run)))


def _reuse(connection: sa.Connection, run: str, joined: str) -> None:
    """The joined run takes what a shard asked for beside its trials, and what the shard took from others."""
    o, own = db.outputs.c, sa.select(db.trials.c.request).where(db.trials.c.run == run)
    taken = o.number.in_(sa.select(db.reused.c.output).where(db.reused.c.run == run))
    rows = sa.select(sa.literal(joined), o.number).where(sa.or_(taken, sa.and_(o.run == run, o.request.not_in(own))))
    connection.execute(db.insert_new(connection, db.reused).from_select(["run", "output"], rows))


def _header(runs: Sequence[Run]) -> dict[str, Json]:
    """The first shard's, with what all did together; how limits moved is told by the shards' own."""
    work: dict[str, Counter[str]] = {}
    for run in runs:
        for alias, counts in run.header.get("work", {}).items():
            work.setdefault(alias, Counter()).update(counts)
    header = {name: value for name, value in runs[0].header.items() if name not in ("shard", "limits")}
    together = {"cases": sum(int(run.header["cases"]) for run in runs), "joined": [run.id for run in runs]}
    together["reuse_noted"] = all(run.header.get("reuse_noted") for run in runs)
    return {**header, **together, "work": {alias: dict(counts) for alias, counts in work.items()}}
