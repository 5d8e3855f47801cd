"""Scorers that ask models: a second wave of requests, about outputs that are there.

Judging goes the way of the first wave: request id → store → dispatcher → committed before it counts. A scorer
is tried; where it lacks answers (`Wanting`) these are looked up or asked, then it is tried again, so that parts
of other scorers ask no more than they need, and a run that is taken up asks only for what is missing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from workbench.define.library import Library
from workbench.define.project import Project, load_project
from workbench.define.prompt import render_prompt
from workbench.engines.base import Engine
from workbench.errors import UseError, WorkbenchError
from workbench.flight import AHEAD, Arrived, Flight, Room, raise_first_error
from workbench.models import open_models, with_price
from workbench.records import Json, Model, Output, Prompt, Request
from workbench.run.budget import Budget, Use, worst_use
from workbench.run.plan import Asked, identified
from workbench.run.send import Dispatcher, Ended
from workbench.scorers.base import Rubric, Wanting
from workbench.spending import project_budget
from workbench.store import recording
from workbench.store.database import Database
from workbench.tracing import open_spans

AT_ONCE = 256
"""How many jobs are tried together: their requests are looked up at once, and seen as one block."""
FIRST_BLOCK = 2_000_000
"""Blocks of the first wave and of latency measurements have lower numbers."""

Ask = Callable[[Sequence[Request]], list[Output]]
Job = Callable[[Ask], None]
"""Does its work with what it asks for; raises Wanting for what is lacking, and is tried again when that is there."""


@dataclass(slots=True)
class Judging:
    """What asking for judgements took; one object, brought up to date in place."""

    planned: int = 0
    """Scores to make."""
    made: int = 0
    kept: int = 0
    """Scores that were there already, on the same terms: nothing was asked for them."""
    requests: int = 0
    """Requests that were asked and answered now, failures among them."""
    reused: int = 0
    """Requests that the store had an answer to."""
    failed: int = 0
    tokens: int = 0
    cost: float = 0.0
    """US dollars."""
    unpriced: int = 0
    """Requests answered now whose price is unknown."""
    stopped_by: str = ""
    """Which budget ended it, in words."""
    unscored: Counter[str] = field(default_factory=Counter)
    """What scorers complained of, counted; such scores are made at the next run."""
    tracing: str = ""
    """Why traces that were asked for could not be sent, in words."""

    @property
    def done(self) -> int:
        return self.made + self.kept + self.unscored.total()


@contextmanager
def traced(
    root: tuple[str, Mapping[str, Json]], models: Mapping[str, Model], engines: Mapping[str, Engine], judging: Judging
) -> Iterator[Ended | None]:
    """What a dispatcher of these engines is to tell of its requests, inside a span of that title and attributes; None
    where no traces are asked for."""
    spans, judging.tracing = open_spans(*root, models, engines)
    status = "failed"
    try:
        yield spans.answered if spans else None
        status = "stopped" if judging.stopped_by else "complete"
    finally:
        if spans is not None:
            judging.tracing = spans.close(status)


class Desk:
    """`scorers.base.Desk` of a project: opens a model, or reads a prompt, when a scorer first names it."""

    def __init__(self, root: Path, models: Mapping[str, Model]) -> None:
        """`models` are a suite's own, which go before the project's."""
        self._root = root
        self.models = dict(models)
        """By alias: those given, and those that were asked for."""
        self.engines: dict[str, Engine] = {}
        self.prompts: dict[str, Prompt] = {}
        """By revision."""

    @cached_property
    def _project(self) -> Project:
        return load_project(self._root)

    def engine(self, alias: str) -> Engine:
        if alias not in self.engines:
            self.models[alias] = with_price(self.models.get(alias) or self._project.model(alias))
            self.engines |= open_models({alias: self.models[alias]})
        return self.engines[alias]

    def rubric(self, name: str) -> Rubric:
        prompt = Library(self._project.library_root, self._project.references).find(name)
        self.prompts[prompt.revision] = prompt
        return Rubric(
            prompt.name,
            prompt.revision,
            {i.name: i.default for i in prompt.inputs},
            frozenset(i.name for i in prompt.inputs if i.required and i.default is None and prompt.strict),
            prompt.options,
            partial(render_prompt, prompt),
        )

    def traced(self, title: str, about: Mapping[str, Json], judging: Judging) -> AbstractContextManager[Ended | None]:
        """See `traced`, for a dispatcher of the desk's engines."""
        return traced((title, about), self.models, self.engines, judging)

    def worst_case(self, request: Request) -> Use:
        engine = self.engines[request.model]
        return worst_use(request, None if engine.in_process else self.models[request.model].price)


@dataclass(slots=True, eq=False)
class _Open:
    """A job that waits for answers."""

    job: Job
    told: dict[str, Output] = field(default_factory=dict)
    lacking: dict[str, Request] = field(default_factory=dict)


class Asker:
    """Does jobs that ask. Lives in one thread, the store's writer."""

    def __init__(self, room: Room, dispatcher: Dispatcher, judging: Judging) -> None:
        self._room, self._dispatcher, self._judging = room, dispatcher, judging
        self._asked = {alias: Asked(e.identity, e.capabilities) for alias, e in room.engines.items()}
        self._waiting: dict[str, list[_Open]] = {}
        """Request id → the jobs that wait for it."""
        self._flight = Flight(room)
        self._blocks = itertools.count(FIRST_BLOCK)

    def drive(self, jobs: Iterable[Job], each_turn: Callable[[], None] = lambda: None) -> None:
        """Does all jobs, or as many as can be done before the stop or a budget's end."""
        left = iter(jobs)
        try:
            self._drive(left, each_turn)
        except WorkbenchError:
            self._dispatcher.cancel()
            while self._flight.flying:  # what comes in while the engines give back is kept
                self._keep(self._flight.take(0.2))
            raise

    def close(self) -> None:
        """Keeps what came in after the last job was left."""
        self._keep(self._flight.take(0), last=True)

    def _drive(self, jobs: Iterator[Job], each_turn: Callable[[], None]) -> None:
        exhausted = False
        while not exhausted or self._waiting:
            while not exhausted and len(self._waiting) < AHEAD and not self._room.stop.is_set():
                batch = [_Open(job) for job in itertools.islice(jobs, AT_ONCE)]
                exhausted = not batch
                self._try(batch)
                each_turn()
            ended = self._flight.submit(self._dispatcher) or (self._flight.out_of_time() if self._waiting else "")
            self._judging.stopped_by = self._judging.stopped_by or ended
            if self._room.stop.is_set() or self._judging.stopped_by:
                for given_up in self._flight.give_up(self._dispatcher):
                    self._waiting.pop(given_up, None)
                exhausted = True
            if self._waiting:
                self._receive(self._flight.take(0.2))
            each_turn()

    def _try(self, batch: Sequence[_Open]) -> None:
        """Tries jobs until each is done or waits for answers that the store lacks."""
        block = next(self._blocks)
        while batch:
            wanting = [waits for waits in batch if self._lacks(waits)]
            known = self._known([i for waits in wanting for i in waits.lacking if i not in self._waiting])
            self._judging.reused += len(known)
            batch = []
            for waits in wanting:
                waits.told |= {i: known[i] for i in waits.lacking if i in known}
                waits.lacking = {i: request for i, request in waits.lacking.items() if i not in known}
                for missing, request in waits.lacking.items():
                    if missing not in self._waiting:
                        self._flight.line_up(block, request)
                    self._waiting.setdefault(missing, []).append(waits)
                if not waits.lacking:
                    batch.append(waits)

    def _lacks(self, waits: _Open) -> bool:
        """Tries a job; what it lacks is noted with it."""

        def ask(requests: Sequence[Request]) -> list[Output]:
            asked = [identified(request, self._asked[request.model]) for request in requests]
            missing = [request for request in asked if request.id not in waits.told]
            if missing:
                raise Wanting(missing)
            return [waits.told[request.id] for request in asked]

        try:
            waits.job(ask)
        except Wanting as wanting:
            waits.lacking = {request.id: request for request in wanting.requests}
            return True
        return False

    def _known(self, ids: Sequence[str]) -> dict[str, Output]:
        if not ids:
            return {}
        with self._room.database.write() as connection:
            return recording.reuse(connection, self._room.run, ids, self._room.newer_than)

    def _receive(self, arrived: Arrived) -> None:
        """Commits what has arrived, then tries the jobs that waited for it; raises what an engine raised."""
        ready: dict[_Open, None] = {}
        for output in self._keep(arrived):
            for waits in self._waiting.pop(output.request_id, ()):
                waits.told[output.request_id] = output
                waits.lacking.pop(output.request_id, None)
                if not waits.lacking:
                    ready[waits] = None
        self._try(list(ready))
        raise_first_error(arrived)

    def _keep(self, arrived: Arrived, *, last: bool = False) -> list[Output]:
        """Commits and counts what has arrived; nobody waits any more for what was cancelled."""
        landed = self._flight.keep(arrived, last=last)
        for cancelled in landed.cancelled:
            self._waiting.pop(cancelled, None)
        for request, kept in zip(landed.requests, landed.kept, strict=True):
            self._count(request, kept.output)
        return [kept.output for kept in landed.kept]

    def _count(self, request: Request, output: Output) -> None:
        judging = self._judging
        judging.requests += 1
        judging.failed += output.failure is not None
        judging.tokens += (output.prompt_tokens or 0) + (output.output_tokens or 0)
        judging.cost += output.cost or 0.0
        judging.unpriced += output.cost is None and not self._room.engines[request.model].in_process


def run_budgets(
    own: Mapping[str, Json], limits: Mapping[str, Json], run: str, database: Database, desk: Desk
) -> list[Budget]:
    """The budgets of a stored run, `own`, and of the project, with what both have spent. Raises UseError where one is
    in cost and a model of the desk has no price."""
    for alias, engine in desk.engines.items() if "cost" in {*own, *limits} else ():
        if not engine.in_process and desk.models[alias].price is None:
            raise UseError(
                f"a budget in cost needs the price of '{alias}', which is in no table; write it into workbench.yaml: "
                "price: {input: …, output: …} (US dollars for a million tokens)"
            )
    with database.read() as connection:
        spent = Use(*recording.spent(connection, run))
    budgets = project_budget(limits, desk.worst_case, run)
    return [Budget(own.get("cost"), own.get("tokens"), own.get("time"), desk.worst_case, spent), *budgets]
