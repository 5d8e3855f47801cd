"""Rows from elsewhere, checked before they enter the store: an export, or another store, may hold anything.

Nothing of a row is run. Every value has the type of its column, every JSON value the shape that its readers rely on,
every text and line a bound; a run's id can be no path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from workbench.errors import FileError
from workbench.records import Json, Message
from workbench.store import database as db
from workbench.store.retrieved import is_kept

TABLES: Mapping[str, sa.Table] = {
    table.name: table
    for table in (
        db.revisions, db.runs, db.requests, db.outputs, db.variants, db.cases, db.trials, db.scores, db.reused,
        db.batches, db.tries, db.notes, db.votes,
    )
}  # fmt: skip
"""All tables, each after those that its rows point to."""

MAX_TEXT = 64 * 2**20
"""Characters of one value."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KINDS = ("pass", "fraction", "number", "label")
_STATUS = ("running", "waiting", "complete", "stopped", "failed")


def checked_row(table: str, row: Json) -> dict[str, Json]:
    """The row, fit for its table; raises FileError, which says what is wrong with it."""
    columns = TABLES[table].columns
    if not isinstance(row, dict) or (unknown := row.keys() - columns.keys()):
        what = f"unknown columns: {', '.join(sorted(map(str, unknown)))}" if isinstance(row, dict) else "no object"
        raise FileError(f"a row of '{table}' has {what}")
    for column in columns:
        value = row.get(column.name)
        if value is None and not isinstance(column.type, sa.JSON):
            if not column.nullable:
                raise FileError(f"a row of '{table}' has no '{column.name}'")
        elif not isinstance(column.type, sa.JSON) and not _fits(column.type, value):
            raise FileError(f"a row of '{table}' has a '{column.name}' that is no {_named(column.type)}")
    for (where, name), check in _CHECKS.items():
        if where == table and not check(row.get(name)):
            raise FileError(f"a row of '{table}' has a '{name}' that can't be one")
    return row


def _fits(kind: Any, value: Json) -> bool:
    if isinstance(kind, sa.Boolean):
        return isinstance(value, bool)
    if isinstance(kind, sa.Integer):
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if isinstance(kind, sa.Float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str) and len(value) <= MAX_TEXT and _encodes(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(kind: Any) -> str:
    return {sa.Boolean: "yes or no", sa.Integer: "whole number", sa.Float: "number"}.get(type(kind), "text")


def _messages(value: Json) -> bool:
    try:
        return isinstance(value, list) and all(isinstance(Message.from_json(item).text, str) for item in value)
    except (KeyError, TypeError, AttributeError):
        return False


def _failure(value: Json) -> bool:
    return value is None or (
        isinstance(value, dict)
        and set(value) == {"kind", "message", "retry"}
        and isinstance(value["kind"], str)
        and isinstance(value["message"], str)
        and isinstance(value["retry"], bool)
    )


def _details(value: Json) -> bool:
    shapes = {"logprobs": list, "tool_calls": list, "extra": dict}
    return isinstance(value, dict) and all(name in shapes and isinstance(v, shapes[name]) for name, v in value.items())


def _typed(**kinds: type) -> Callable[[Json], bool]:
    """A mapping with at least these keys, each of its type."""
    return lambda value: (
        isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())
    )


def _settings(value: Json) -> bool:
    """How a request is asked: see `recording.keep_requests`."""
    kinds = _typed(params=dict, repeat=int, answer=dict, logprobs=int, tools=list)
    return kinds(value) and "seed" in value and (value["seed"] is None or isinstance(value["seed"], int))


def _header(value: Json) -> bool:
    named = isinstance(value, dict) and _texts(value.get("scorers", []))
    return named and isinstance(value.get("seed"), int) and isinstance(value.get("models", {}), dict)


def _run_id(value: Json) -> bool:
    return isinstance(value, str) and value != "latest" and _RUN_ID.fullmatch(value) is not None


def _texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text_mapping(value: Json) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_CHECKS: Mapping[tuple[str, str], Callable[[Json], bool]] = {
    ("revisions", "partials"): _text_mapping,
    ("runs", "id"): _run_id,
    ("runs", "status"): lambda value: value in _STATUS,
    ("runs", "header"): _header,
    ("requests", "messages"): _messages,
    ("requests", "settings"): _settings,
    ("outputs", "failure"): _failure,
    ("outputs", "details"): _details,
    ("variants", "settings"): _typed(params=dict, vars=dict, answer=dict),
    ("cases", "tags"): _texts,
    ("cases", "inputs"): _typed(),
    ("cases", "retrieved"): is_kept,
    ("scores", "kind"): lambda value: value in _KINDS,
    ("batches", "requests"): _texts,
    ("batches", "price"): lambda value: value is None or isinstance(value, dict),
    ("tries", "inputs"): _typed(),
}
