"""Never ask the same thing twice: which requests of a block have an answer, which are to be asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from workbench.errors import SuiteError
from workbench.records import Request
from workbench.run.plan import Planned

Answer = TypeVar("Answer")
Known = Callable[[Iterable[str]], Mapping[str, Answer]]
"""Looks request ids up in the store."""


@dataclass(frozen=True, slots=True)
class Split(Generic[Answer]):
    """A block, divided."""

    answered: Mapping[str, Answer]
    """Request id → the answer that is there already."""
    to_ask: Sequence[Request]
    """Each request once, however many trials wait for it."""


def split(block: Sequence[Planned], known: Known[Answer]) -> Split[Answer]:
    """Divides a block by a look-up of all its request ids."""
    requests = {p.request.id: p.request for p in block}
    answered = known(requests)
    return Split(answered, [r for i, r in requests.items() if i not in answered])


def newest_wanted(max_age: str | None) -> str:
    """The oldest time (ISO 8601, UTC) of an answer that may be reused; empty: any. Raises SuiteError."""
    if max_age is None:
        return ""
    match = re.fullmatch(r"(\d+)([smhd])", max_age)
    if not match:
        raise SuiteError(f"reuse: max_age must be like 12h or 7d, not '{max_age}'")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return (datetime.now(UTC) - timedelta(**{unit: int(match[1])})).isoformat(timespec="milliseconds")
