"""What was retrieved for a case, as a run keeps it: once for each way of finding it, as long as the longest list.

A variant's `vars` say how (`retrieve.search`, …) and how many (`retrieve.k`); fewer are the first of more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from workbench.records import Json, Trial, canonical
from workbench.store import database as db

PREFIX = "retrieve."


def how_found(variables: Mapping[str, Json]) -> tuple[str, int]:
    """The way in which a variant's passages are found, and how many of them it takes at most."""
    asked = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    most = asked.pop(PREFIX + "k", 0)
    return canonical(asked), most if isinstance(most, int) else 0


def gathered(trials: Iterable[Trial], into: str) -> dict[str, Json]:
    """Case → what its row keeps. The trials' cases have their passages among the inputs, under the name `into`."""
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        passages, (how, _) = trial.case.inputs[into], how_found(trial.variant.vars)
        ways = found.setdefault(trial.case.id, {"into": into, "found": {}})["found"]
        if len(passages) >= len(ways.get(how, ())):
            ways[how] = passages
    return found


def passages_of(kept: Json, variables: Mapping[str, Json]) -> dict[str, Json]:
    """The input that a variant's prompt got of what a case's row keeps: `{name: passages}`; empty where none."""
    if not kept:
        return {}
    how, most = how_found(variables)
    return {kept["into"]: kept["found"].get(how, [])[:most]}


def is_kept(value: Json) -> bool:
    """Whether a value from elsewhere has the form of what a row keeps."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"into", "found"} or not isinstance(value["into"], str):
        return False
    ways = value["found"]
    lists = isinstance(ways, dict) and all(isinstance(passages, list) for passages in ways.values())
    return lists and all(isinstance(one, dict) for passages in ways.values() for one in passages)


def indexes_used(connection: sa.Connection) -> set[str]:
    """The indexes that the passages of any run rest on, by the headers of the runs."""
    return {
        name for header in connection.execute(sa.select(db.runs.c.header)).scalars() for name in index_names(header)
    }


def index_names(header: Mapping[str, Json]) -> list[str]:
    """The indexes that a run's passages rest on, by its header."""
    names = header.get("indexes")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
