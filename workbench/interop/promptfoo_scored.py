"""An assertion of promptfoo as a scorer of a suite, and what it takes to have it there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.records import EMPTY, Json


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer of the suite."""

    entry: Mapping[str, Json]
    """As a suite writes it, without its name."""
    fields: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """What the case must hold for it."""
    note: str = ""
    """What is only approximated."""
    files: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """Files that the project must have for it: path → text."""
    judge: str = ""
    """The alias of the model that it asks."""
    aside: bool = False
    """It tells more of the assertion, or compares variants: the test's score is made without it."""
    name: str = ""
    weight: float = 1.0
    kind: str = ""
    """promptfoo's word for the assertion, without `not-`."""


def name_of(text: str) -> str:
    """A scorer's name from any text."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "assertion"


def negated(entry: Mapping[str, Json]) -> Mapping[str, Json]:
    return {"not": entry}
