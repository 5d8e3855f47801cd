"""Every error a user can meet; each message says what is wrong, where, and what to do.

    WorkbenchError                exit code 3, could not finish
    ├── UseError                  exit code 2, wrong use or a bad file
    │   ├── FileError             … with the file and the line
    │   │   ├── PromptError       a prompt can't be read or rendered
    │   │   ├── SuiteError        a suite or workbench.yaml
    │   │   └── DataError         cases
    │   ├── ModelError            no such model, not a model, no key
    │   └── UnknownName           a name that is not registered, with the nearest right one
    ├── EngineError               an engine can't go on
    ├── ScorerError               a scorer can't judge an answer; others may be judged
    └── StoreError                the store can't be read or written

One place prints them: `cli.main`. Errors of other libraries are translated where they enter.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


class WorkbenchError(Exception):
    """An error with a message for people, which is printed as one line."""

    exit_code = 3
    hint = ""
    """What to do next, where that is a line of its own."""


class UseError(WorkbenchError):
    """Wrong use, or a bad file."""

    exit_code = 2


class FileError(UseError):
    """Something is wrong in a file that a person wrote; prints as `file:line: message`."""

    def __init__(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.path, self.line = message, path, line

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}:" + (f"{self.line}:" if self.line else "") + " "
        return place + self.message


class PromptError(FileError):
    """A prompt can't be read or rendered."""


class SuiteError(FileError):
    """A suite or the project's file is wrong."""


class DataError(FileError):
    """The cases are wrong."""


class ModelError(UseError):
    """There is no such model, it is no model, or its key is missing."""


class UnknownName(UseError):
    """A name that nothing is registered or declared under."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {what} '{name}'{suggest(name, known)}")


class EngineError(WorkbenchError):
    """An engine can't go on: no request can be answered."""


class ScorerError(WorkbenchError):
    """A scorer can't judge this answer: its case or the project's own code is wrong, not the model."""


class StoreError(WorkbenchError):
    """The store can't be read or written."""


def named_first(message: str, names: Iterable[str]) -> list[str]:
    """Those of the names that a message holds as words, in the order in which it does."""
    found = ((re.search(rf"\b{re.escape(name)}\b", message), name) for name in names if name)
    return [name for _, name in sorted((place.start(), name) for place, name in found if place)]


def most_often(messages: Counter[str]) -> str:
    """The commonest of some messages, and how often it came; there must be one."""
    message, count = messages.most_common(1)[0]
    return f"most often ({count:,}): {message}"


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest right name, else what there is."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return "; there is none"
    return "; known: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
