"""What was tried in the playground: each try points to its request and its output, which are kept as a run's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from workbench.records import Json, Output, Prompt, Request
from workbench.store import database as db
from workbench.store.recording import keep, now, output_of

RUN = "playground"
"""Stands where an output names the run that asked for it; no run has that id."""


@dataclass(frozen=True, slots=True)
class Try:
    """One answer to one prompt by one model."""

    number: int
    time: str
    """ISO 8601 in UTC."""
    prompt: str
    """The prompt's name; empty for a draft without one."""
    revision: str
    text: str
    """The prompt's file as it was, saved or not."""
    inputs: Mapping[str, Json]
    model: str
    """The alias."""
    settings: Mapping[str, Json]
    """`params`, `seed`, `repeat`, `answer`, `logprobs` and `tools` of the request."""
    messages: Sequence[Json]
    output: Output


def keep_try(
    connection: sa.Connection, prompt: Prompt, inputs: Mapping[str, Json], request: Request, identity: str, out: Output
) -> int:
    """Stores a try; returns its number."""
    (kept,) = keep(connection, RUN, [(request, identity, out)])
    row: dict[str, Json] = {"time": now(), "prompt": prompt.name, "revision": prompt.revision, "text": prompt.text}
    row |= {"inputs": dict(inputs), "output": kept.number}
    number: int = connection.execute(db.tries.insert().returning(db.tries.c.number), row).scalar_one()
    return number


def list_tries(connection: sa.Connection, limit: int, offset: int = 0) -> list[Try]:
    """Past tries, the newest first."""
    query = _query().order_by(db.tries.c.number.desc()).limit(limit).offset(offset)
    return [_try_of(row) for row in connection.execute(query).mappings()]


def get_tries(connection: sa.Connection, numbers: Sequence[int]) -> list[Try]:
    """The tries of these numbers, as far as they are there, in their order."""
    rows = connection.execute(_query().where(db.tries.c.number.in_(numbers)).order_by(db.tries.c.number))
    return [_try_of(row) for row in rows.mappings()]


def count_tries(connection: sa.Connection) -> int:
    count: int = connection.execute(sa.select(sa.func.count()).select_from(db.tries)).scalar_one()
    return count


def _query() -> sa.Select[Any]:
    t, r, o = db.tries.c, db.requests.c, db.outputs
    own = [t.number.label("try_number"), t.time.label("try_time"), t.prompt, t.revision]
    own += [t.text.label("try_text"), t.inputs, r.model, r.settings, r.messages]
    return (
        sa.select(*own, *o.c)
        .join_from(db.tries, db.outputs, o.c.number == t.output)
        .join(db.requests, r.id == o.c.request)
    )


def _try_of(row: sa.RowMapping) -> Try:
    return Try(
        number=row["try_number"],
        time=row["try_time"],
        prompt=row["prompt"],
        revision=row["revision"],
        text=row["try_text"],
        inputs=row["inputs"],
        model=row["model"],
        settings=row["settings"],
        messages=row["messages"],
        output=output_of(row),
    )
