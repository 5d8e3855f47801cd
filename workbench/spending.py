"""The project's budget, from which several processes spend: the store knows what is spent, and what each has in flight.

Who wants to ask takes a turn: one transaction in which it reads both, chooses what it can ask, and reserves that at
its worst case. The transaction that stores answers lowers the reservation by theirs. So at any moment what is spent and
what is reserved stay within the limit together; a process that died has nothing reserved.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

from workbench.records import Json, Output, Request
from workbench.run.budget import Budget, Use
from workbench.store import batches, recording, reservations
from workbench.store.database import Connection, Database


@dataclass(slots=True, kw_only=True)
class SharedBudget(Budget):
    """What it has in flight is reserved. `spent` is only what has arrived and is not stored yet."""

    run: str
    """What is asked for."""
    account: str = field(default_factory=lambda: secrets.token_hex(8))
    _newest: int = 0
    """The newest output that is counted."""
    _stored: Use = field(default_factory=Use)

    def count(self, connection: Connection) -> None:
        """Counts what was stored since the last time."""
        newest, cost, tokens = recording.spent_since(connection, self._newest)
        if newest < self._newest:  # outputs were removed, and their numbers are given again
            newest, cost, tokens = recording.spent_since(connection, 0)
            self._stored = Use()
        self._newest = newest
        self._stored += Use(cost, tokens)

    def look(self, connection: Connection) -> None:
        """Brings up to date what all have spent, and others have in flight, batches included."""
        self.count(connection)
        cost, tokens, runs = reservations.reserved_by_others(connection, self.account)
        self.awaited = ", ".join(runs)
        self._elsewhere = self._stored + Use(*batches.in_flight(connection)) + Use(cost, tokens)

    def reserve(self, connection: Connection) -> None:
        """Puts what is in flight now in place of what was."""
        if self._in_flight:
            reservations.reserve(connection, self.account, self.run, self._open.cost, self._open.tokens)
        else:
            reservations.release(connection, self.account)


def project_budget(limits: Mapping[str, Json], worst: Callable[[Request], Use], run: str) -> list[SharedBudget]:
    """The project's budget, for what is asked for a run; none where it has no limit in cost or tokens."""
    if not limits.keys() & {"cost", "tokens"}:
        return []
    return [SharedBudget(limits.get("cost"), limits.get("tokens"), None, worst, what="the project's budget", run=run)]


@contextmanager
def turn(database: Database, budgets: Sequence[Budget]) -> Iterator[None]:
    """Meanwhile no other process chooses; what is in flight at its end is reserved."""
    shared = [budget for budget in budgets if isinstance(budget, SharedBudget)]
    if not shared:
        yield
        return
    with database.read() as connection:  # the more there is, the longer it takes: before anybody has to wait
        for budget in shared:
            budget.count(connection)
    with database.write() as connection:
        reservations.hold(connection)
        for budget in shared:
            budget.look(connection)
        yield
        for budget in shared:
            budget.reserve(connection)


def settled(output: Output, budgets: Sequence[Budget]) -> Output:
    """The output, counted in each budget: as it is to be stored, with what it counts with beyond what it tells."""
    for beyond in {budget.settle(output): None for budget in budgets}:
        if beyond != Use():  # kept, for those who count what was spent before
            output = replace(output, extra={**output.extra, "beyond": asdict(beyond)})
    return output


@contextmanager
def landing(database: Database, budgets: Sequence[Budget]) -> Iterator[Connection]:
    """The transaction that stores outputs: with its end they are spent, and not reserved any more."""
    shared = [budget for budget in budgets if isinstance(budget, SharedBudget)]
    with database.write() as connection:
        if shared:
            reservations.hold(connection)
        yield connection
        for budget in shared:
            budget.reserve(connection)
    for budget in shared:
        budget.spent = Use()
