"""The whole path on one page: plan → reuse → send → keep → score → store.

`prepare` has made the suite ready before, and the views compute statistics from the store after.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event

from workbench.asking import Judging, Room
from workbench.begin import Begun, RunOptions, begin
from workbench.engines.base import Limited
from workbench.judging import judge_run
from workbench.prepare import Prepared, budgets, known_answers
from workbench.records import Json, Output, Request, Score, Trial
from workbench.run.plan import Planned
from workbench.run.reuse import split
from workbench.run.send import Dispatcher
from workbench.scorers.timing import Latency
from workbench.scoring import score_output
from workbench.stopping import Stopping, read_scores
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.recording import Kept

AHEAD = 1000
"""How many requests are lined up at least, in whole blocks: enough to keep engines busy, few enough to stay small."""
GATHER_SECONDS = 0.01
"""How long to wait for others after a first answer has come: they are committed together."""
TIMED_TRIALS = 8
"""How many answers of a variant are made once more to measure their latency."""


@dataclass(slots=True)
class Progress:
    """How a run stands; one object, brought up to date in place."""

    run: str
    planned: int
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    """Trials that have an answer or failed."""
    reused: int = 0
    """… of which were answered before this run asked."""
    failed: int = 0
    requests: int = 0
    """Requests that were asked and answered now."""
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    """Requests answered now whose price is unknown."""
    tally: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    """(variant, scorer) → sum and count of the scores so far."""
    failures: Counter[str] = field(default_factory=Counter)
    """The messages of the failures, counted."""
    unscored: Counter[str] = field(default_factory=Counter)
    """What scorers complained of, counted; those scores are made at the next run, without asking a model."""

    judging: Judging = field(default_factory=Judging)
    """What scorers that ask models took: apart from all that is counted above."""
    stopped_by: str = ""
    """Which budget ended the run, in words."""
    work: dict[str, dict[str, float]] = field(default_factory=dict)
    """Alias → what its engine counted; filled at the end."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def run_suite(
    prepared: Prepared,
    database: Database,
    options: RunOptions | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    stop: Event | None = None,
) -> tuple[Progress, str]:
    """Runs a suite; returns how it ended: the counts, and `complete`, `stopped` or `failed`.

    Every answer is committed before it counts. Setting `stop` ends the run cleanly: what is under way is
    given back, what was answered is kept. Raises what makes going on impossible; the run can be resumed.
    """
    options = options or RunOptions()
    begun = begin(prepared, database, options)
    progress = Progress(begun.run, begun.planned)
    going = _Going(prepared, database, progress, stop or Event(), watch, begun)
    status = "failed"
    try:
        with Dispatcher(prepared.engines) as dispatcher:
            going.drive(going.wanted(prepared.blocks(begun.seed)), dispatcher)
            going.judge(dispatcher)
            going.count_work()
            going.measure_latency(dispatcher)
        ended_early = going.stop.is_set() or progress.stopped_by
        left = progress.done < progress.planned or progress.judging.done < progress.judging.planned
        status = "stopped" if ended_early and left else "complete"
    except KeyboardInterrupt:
        status = "stopped"
        raise
    finally:
        going.finish(status)
    return progress, status


class _Going:
    """A run under way: what is open, what is kept, what is scored. Lives in one thread, the store's writer."""

    def __init__(
        self,
        prepared: Prepared,
        database: Database,
        progress: Progress,
        stop: Event,
        watch: Callable[[Progress], None],
        begun: Begun,
    ) -> None:
        self.prepared, self.database, self.progress, self.stop, self.watch = prepared, database, progress, stop, watch
        self._reuse_after = begun.reuse_after
        self._known = known_answers(database, begun.reuse_after)
        self._arrived: SimpleQueue[tuple[Request, Future[Output]]] = SimpleQueue()
        self._budgets = budgets(prepared, database, begun.run)
        self._waiting: dict[str, list[Planned]] = {}
        """Request id → the trials that wait for it."""
        self._pending: deque[tuple[int, Request]] = deque()
        """What is not asked yet, with its block."""
        self._flying: set[str] = set()
        self._untimed: list[tuple[Planned, Kept]] = []
        self._looked_at: Counter[str] = Counter()
        ends_early = prepared.suite.until or prepared.suite.race
        self._stopping = Stopping(prepared.suite, partial(read_scores, database, begun.run)) if ends_early else None
        self._beaten = time.monotonic()
        with database.read() as connection:
            self._scored = recording.score_keys(connection, progress.run)

    def wanted(self, plan: Iterator[list[Planned]]) -> Iterator[list[Planned]]:
        """The blocks that are to be asked: all, or with `until` or `race` as long as the question is open."""
        return plan if self._stopping is None else self._stopping.blocks(plan)

    def drive(self, plan: Iterator[list[Planned]], dispatcher: Dispatcher) -> None:
        """Keeps enough lined up until all is answered, or the run is stopped or at its budget."""
        blocks = enumerate(plan)
        exhausted = False
        ahead = AHEAD if self._stopping is None else 1  # whether there is a next block is known after each
        while not exhausted or self._waiting:
            while not exhausted and len(self._waiting) < ahead and not self.stop.is_set():
                number, block = next(blocks, (-1, []))
                exhausted = number < 0
                self._ask(block, number)
            self._submit(dispatcher)
            self.progress.stopped_by = self.progress.stopped_by or self._out_of_time()
            if self.stop.is_set() or self.progress.stopped_by:
                dispatcher.cancel(calls_too=self.stop.is_set())
                self._give_up_pending()
                exhausted = True
            self._receive(self._take(wait=0.2))

    def _submit(self, dispatcher: Dispatcher) -> None:
        """Asks what waits, as far as the budgets allow; all at once, so that blocks are seen whole."""
        asked: list[tuple[int, Request]] = []
        while self._pending and not self.stop.is_set():
            _, request = self._pending[0]
            why = next((why for budget in self._budgets if (why := budget.passed_by(request))), "")
            if why:  # answers may take less than their worst case: only with none under way it is the end
                self.progress.stopped_by = "" if self._flying else why
                break
            asked.append(self._pending.popleft())
            self._flying.add(request.id)
            for budget in self._budgets:
                budget.ask(request)
        for (_, request), future in zip(asked, dispatcher.submit_all(asked), strict=True):
            future.add_done_callback(partial(self._arrive, request))

    def _out_of_time(self) -> str:
        return next((late for budget in self._budgets if (late := budget.out_of_time)), "") if self._waiting else ""

    def _give_up_pending(self) -> None:
        for _, request in self._pending:
            self._waiting.pop(request.id, None)
        self._pending.clear()

    def judge(self, dispatcher: Dispatcher) -> None:
        """The second wave: scorers that ask models, about the answers that are there."""
        progress, engines = self.progress, self.prepared.engines
        if self.stop.is_set() or progress.stopped_by:
            return
        room = Room(self.database, progress.run, engines, self._budgets, self._reuse_after, self.stop)
        judging = progress.judging
        judge_run(room, self.prepared.asking, dispatcher, judging, lambda: self.watch(progress))
        progress.unscored += judging.unscored
        progress.stopped_by = judging.stopped_by

    def count_work(self) -> None:
        """Notes what the engines counted; what is asked again to measure latency comes after and is left out."""
        self.progress.work = {alias: work for alias, e in self.prepared.engines.items() if (work := e.work())}

    def measure_latency(self, dispatcher: Dispatcher) -> None:
        """Answers in a batch have no latency of their own: a few trials of each variant are asked once more,
        one at a time, and their outputs are given the times."""
        scorers = [(spec, scorer) for spec, scorer in self.prepared.scorers if isinstance(scorer, Latency)]
        if not scorers and all(gate["measure"] != "latency" for gate in self.prepared.suite.gates):
            return
        block = itertools.count(1_000_000)
        for planned, kept in self._untimed:
            if self.stop.is_set() or self.progress.stopped_by:
                return
            output = dispatcher.submit(replace(planned.request, alone=True), next(block)).result()
            if not output.failure:
                timed = replace(kept.output, seconds=output.seconds, first_token_seconds=output.first_token_seconds)
                scores = list(score_output(scorers, planned.trial.id, planned.trial.case, timed))
                with self.database.write() as connection:
                    recording.set_latency(connection, kept.number, output)
                    recording.save_scores(connection, self.progress.run, scores)
            self.watch(self.progress)

    def finish(self, status: str) -> None:
        """Keeps what came in while the engines closed, then ends the run's row."""
        self._keep(self._take(wait=0))
        with self.database.write() as connection:
            facts = {"limits": self._limit_histories()}
            if self._stopping is not None:
                facts["stopping"] = self._stopping.report()
            recording.end_run(connection, self.progress.run, status, self.progress.work, facts)
        self.watch(self.progress)

    def _limit_histories(self) -> dict[str, Json]:
        """Alias → how its limit of calls moved: [seconds, calls at a time, calls a second, why]."""
        engines = {alias: e for alias, e in self.prepared.engines.items() if isinstance(e, Limited)}
        return {alias: [[c.at, c.window, c.pace, c.reason] for c in e.history()] for alias, e in engines.items()}

    def _ask(self, block: list[Planned], number: int) -> None:
        """Answers what is known, lines up the rest."""
        parts = split(block, self._known)
        waiting: dict[str, list[Planned]] = {}
        for planned in block:
            waiting.setdefault(planned.request.id, []).append(planned)
        self.progress.reused += sum(len(waiting[i]) for i in parts.answered)
        self._settle([(waiting[i], kept) for i, kept in parts.answered.items()], attach=True)
        for request in parts.to_ask:
            if request.id not in self._waiting:
                self._pending.append((number, request))
            self._waiting.setdefault(request.id, []).extend(waiting[request.id])

    def _arrive(self, request: Request, future: Future[Output]) -> None:
        self._arrived.put((request, future))

    def _receive(self, arrived: Sequence[tuple[Request, Future[Output]]]) -> None:
        """Commits what has arrived, then scores it; raises what an engine raised."""
        kept = self._keep(arrived)
        self._settle([(self._waiting.pop(k.output.request_id), k) for k in kept], attach=False)
        for _, future in arrived:
            if error := future.exception():
                raise error
        self._beat()
        self.watch(self.progress)

    def _keep(self, arrived: Sequence[tuple[Request, Future[Output]]]) -> list[Kept]:
        """Commits the outputs among what has arrived in one transaction; a cancelled request has none."""
        outputs = [(request, future.result()) for request, future in arrived if future.exception() is None]
        answered = []
        self._flying -= {request.id for request, _ in arrived}
        for request, output in outputs:
            for budget in self._budgets:
                budget.settle(output)
            if output.failure and output.failure.kind == "cancelled":
                self._waiting.pop(request.id, None)
            else:
                answered.append((request, self.prepared.engines[request.model].identity, output))
        if not answered:
            return []
        with self.database.write() as connection:
            kept = recording.keep(connection, self.progress.run, answered)
        for request, _, output in answered:
            self._count(request, output)
        return kept

    def _take(self, wait: float) -> list[tuple[Request, Future[Output]]]:
        """Waits a moment for the first arrival, then takes all that are there."""
        arrived = []
        try:
            arrived.append(self._arrived.get(timeout=wait) if wait else self._arrived.get_nowait())
            if wait:
                time.sleep(GATHER_SECONDS)
            while True:
                arrived.append(self._arrived.get_nowait())
        except Empty:
            return arrived

    def _count(self, request: Request, output: Output) -> None:
        self.progress.requests += 1
        self.progress.output_tokens += output.output_tokens or 0
        self.progress.cost += output.cost or 0.0
        self.progress.unpriced += output.cost is None and not self.prepared.engines[request.model].in_process

    def _settle(self, answers: Sequence[tuple[list[Planned], Kept]], *, attach: bool) -> None:
        """Counts trials as done and stores the scores that they lack."""
        scores = []
        for waiting, kept in answers:
            failure = kept.output.failure
            self.progress.done += len(waiting)
            if failure:
                self.progress.failed += len(waiting)
                self.progress.failures[failure.message] += len(waiting)
            else:
                self._note_untimed(waiting[0], kept)
                scores += [score for planned in waiting for score in self._scores(planned.trial, kept.output)]
        new = [s for s in scores if not s.key or self._scored.get((s.trial_id, s.scorer)) != s.key]
        if new or (attach and answers):
            with self.database.write() as connection:
                if attach:
                    recording.attach(connection, self.progress.run, [kept for _, kept in answers])
                recording.save_scores(connection, self.progress.run, new)

    def _note_untimed(self, planned: Planned, kept: Kept) -> None:
        """Remembers which of a variant's first answers have no latency."""
        variant = planned.trial.variant.id
        self._looked_at[variant] += 1
        if kept.output.seconds is None and self._looked_at[variant] <= TIMED_TRIALS:
            self._untimed.append((planned, kept))

    def _scores(self, trial: Trial, output: Output) -> Iterator[Score]:
        for score in score_output(self.prepared.scorers, trial.id, trial.case, output):
            if not score.key:
                self.progress.unscored[f"scorer '{score.scorer}': {score.reason}"] += 1
            if isinstance(score.value, (int, float)):
                total, count = self.progress.tally.get((trial.variant.id, score.scorer), (0.0, 0))
                self.progress.tally[trial.variant.id, score.scorer] = (total + score.value, count + 1)
            yield score

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > 10:
            self._beaten = time.monotonic()
            with self.database.write() as connection:
                recording.beat(connection, self.progress.run)
