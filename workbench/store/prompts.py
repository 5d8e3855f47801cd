"""Revisions of prompts as runs and people recorded them: an aid to memory, beside git."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from workbench.records import Prompt
from workbench.store.database import revisions


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded revision."""

    name: str
    revision: str
    parent: str | None
    message: str
    author: str
    time: str
    """ISO 8601 in UTC."""
    text: str
    partials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording did."""

    new: bool
    parent: str | None
    """The newest revision of that name that was known before; its own parent where it was known itself."""


def record_revision(
    connection: sa.Connection, prompt: Prompt, message: str = "", author: str = "", time: str = ""
) -> Recorded:
    """Keeps a revision that is not known yet; a known one only takes a new message.

    `time` is ISO 8601 in UTC; empty: now.
    """
    known = history(connection, prompt.name)
    for found in known:
        if found.revision == prompt.revision:
            if message:
                connection.execute(sa.update(revisions).where(*_is(found)).values(message=message, author=author))
            return Recorded(False, found.parent)
    parent = known[0].revision if known else None
    connection.execute(
        sa.insert(revisions).values(
            name=prompt.name,
            revision=prompt.revision,
            parent=parent,
            message=message,
            author=author,
            time=time or datetime.now(UTC).isoformat(),
            text=prompt.text,
            partials=dict(prompt.partials),
        )
    )
    return Recorded(True, parent)


def history(connection: sa.Connection, name: str) -> list[Revision]:
    """All recorded revisions of a prompt, newest first."""
    query = sa.select(revisions).where(revisions.c.name == name).order_by(revisions.c.time.desc())
    return [Revision(**row) for row in connection.execute(query).mappings()]


def find_revision(connection: sa.Connection, name: str, prefix: str) -> list[Revision]:
    """Those whose revision starts with the prefix, given with or without its scheme."""
    start = "pr1-" + prefix.removeprefix("pr1-")
    return [found for found in history(connection, name) if found.revision.startswith(start)]


def _is(found: Revision) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return revisions.c.name == found.name, revisions.c.revision == found.revision
