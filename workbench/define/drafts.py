"""What is being written in the app and not saved yet: a small file for each draft, in `.workbench/drafts`.

A draft belongs to the files of this checkout, so it lies beside them, not in the store, which checkouts may share.
Each state of a draft has a stamp, and whoever writes names the stamp that he has seen: of two windows on the same
draft the second one to write is told of the first one's text, and nothing is overwritten unseen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from workbench.define.files import own_file, replace_text
from workbench.define.project import Project
from workbench.errors import UseError

DraftKind = Literal["prompt", "suite", "inputs"]

FOLDER = Path(".workbench", "drafts")
MOST_BYTES = 8 << 20
"""A larger file is none of ours."""


@dataclass(frozen=True, slots=True)
class KeptDraft:
    """One state of a draft."""

    kind: DraftKind
    name: str
    """Of the prompt or suite; empty for inputs, which all prompts share."""
    was: str | None
    """The file's text when the draft was begun; None where there is no file yet."""
    text: str
    title: str = ""
    """The name that a new suite is to have."""
    stamp: str = ""
    """Tells this state from all others; given when it is kept."""
    time: str = ""
    """When it was kept, ISO 8601 in UTC."""


def kept_draft(project: Project, kind: DraftKind, name: str) -> KeptDraft | None:
    """The draft that is kept; None where there is none, or its file can't be read as one.

    Raises UseError where the file is reached by a link."""
    return _read(_file(project, kind, name), kind, name)


def keep_draft(project: Project, draft: KeptDraft, after: str) -> KeptDraft:
    """Keeps a draft in place of the state with the stamp `after`; gives what is kept now.

    Where another state stands there, with another text, it stays and is what is given. Raises UseError where the
    project's folder can't be written."""
    file = _file(project, draft.kind, draft.name)
    with _only_one(project):
        there = _read(file, draft.kind, draft.name)
        if there is not None and (there.stamp != after or _says(there) == _says(draft)):
            return there
        new = replace(draft, stamp=secrets.token_hex(8), time=datetime.now(UTC).isoformat(timespec="seconds"))
        replace_text(file, json.dumps(asdict(new)))
        return new


def drop_draft(project: Project, kind: DraftKind, name: str, stamp: str) -> None:
    """Removes the state with this stamp; a later one, of another window, stays. Raises UseError as above."""
    file = _file(project, kind, name)
    with _only_one(project):
        there = _read(file, kind, name)
        if there is not None and there.stamp == stamp:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UseError(f"{file} can't be removed: {error.strerror}") from error


def _says(draft: KeptDraft) -> tuple[str | None, str, str]:
    return draft.was, draft.text, draft.title


def _file(project: Project, kind: DraftKind, name: str) -> Path:
    """Named by a hash: a prompt's name may be no file's name, and `*` stands for a suite without one."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return own_file(project, FOLDER / f"{kind}-{digest}.json")


def _read(file: Path, kind: DraftKind, name: str) -> KeptDraft | None:
    try:
        with file.open("rb") as open_file:
            found = KeptDraft(**json.loads(open_file.read(MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    told = (found.text, found.title, found.stamp, found.time, found.was or "")
    sound = all(isinstance(value, str) for value in told) and (found.kind, found.name) == (kind, name)
    return found if sound else None


@contextmanager
def _only_one(project: Project) -> Iterator[None]:
    """One writer at a time, of all threads and processes."""
    lock = own_file(project, FOLDER / "writer.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UseError(f"{lock} can't be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
