"""The whole path on one page: plan → reuse → send → keep → score → store.

`prepare` has made the suite ready before, and the views compute statistics from the store after.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event

from workbench.asking import Judging
from workbench.begin import Begun, RunOptions, begin
from workbench.engines.base import Limited
from workbench.flight import AHEAD, Arrived, Flight, Room, raise_first_error
from workbench.gates.foresight import SHOWN
from workbench.judges.judging import RunJudging, compared_with
from workbench.prepare import Prepared, budgets, known_answers
from workbench.records import EMPTY, Json, Output, Request, Score, Trial
from workbench.run.plan import Planned
from workbench.run.reuse import split
from workbench.run.send import Dispatcher
from workbench.scorers.timing import Latency
from workbench.scoring import score_output
from workbench.stats.sequential import MOST_LOOKS
from workbench.stats.tally import Tally
from workbench.stopping import Stopping, read_scores
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.recording import Kept
from workbench.store.runs import run_header
from workbench.store.summaries import keep_summary
from workbench.tracing import about_run, open_spans

LOOKS_WITH_LOADING = 8
"""At most so many looks of `until` and `race` where models of this process take turns, each loaded anew."""


@dataclass(slots=True)
class Progress:
    """How a run stands; one object, brought up to date in place."""

    run: str
    """Empty while passages are looked up, before it is written down."""
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
    tally: dict[str, Tally] = field(default_factory=dict)
    """Scorer → its numbers so far, without those of quarantined cases."""
    failures: Counter[str] = field(default_factory=Counter)
    """The messages of the failures, counted."""
    unscored: Counter[str] = field(default_factory=Counter)
    """What scorers complained of, counted; those scores are made at the next run, without asking a model."""

    judging: Judging = field(default_factory=Judging)
    """What scorers that ask models took: apart from all that is counted above."""
    retrieving: Judging = field(default_factory=Judging)
    """What embedding took before passages were looked up; apart from the rest, too."""
    stopped_by: str = ""
    """Which budget ended the run, in words."""
    tracing: str = ""
    """Why traces that were asked for could not be sent, in words."""
    work: dict[str, dict[str, float]] = field(default_factory=dict)
    """Alias → what its engine counted; filled at the end."""
    stopping: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Of a suite with `until` or `race`: where its question stood at the last look (`Stopping.report`)."""

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
    stop = stop or Event()
    looking = Progress("", 0)

    def look(retrieving: Judging) -> None:
        looking.retrieving = retrieving
        watch(looking)

    begun = begin(prepared, database, options, stop, look)
    prepared = begun.prepared
    progress = Progress(begun.run, begun.planned, retrieving=begun.retrieving)
    going = _Going(prepared, database, progress, stop, watch, begun)
    status = "failed"
    try:
        with going.dispatcher:
            whole = going.go(prepared.blocks(begun.seed, going.stop))
            going.count_work()
            going.measure_latency()
        status = "complete" if whole else "stopped"
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
        self._known = known_answers(database, begun.reuse_after, begun.run)
        own = budgets(prepared, database, begun.run)
        about = about_run(begun.run, prepared.suite)
        title, models = f"run {prepared.suite.name}", prepared.suite.models
        self._spans, progress.tracing = open_spans(title, about, models, prepared.engines)
        room = Room(database, begun.run, prepared.engines, own, begun.reuse_after, stop)
        self.dispatcher = Dispatcher(prepared.engines, ended=self._spans.answered if self._spans else None)
        self._flight = Flight(room)
        self._judges = RunJudging(
            room, prepared.asking, self.dispatcher, progress.judging, lambda: self.watch(self.progress)
        )
        self._waiting: dict[str, list[Planned]] = {}
        """Request id → the trials that wait for it."""
        self._unjudged: dict[str, list[str]] = {}
        """Case → its trials of this stretch."""
        self._numbers = itertools.count()
        """Of blocks."""
        self._untimed: list[tuple[Planned, Kept]] = []
        self._to_time = {v.id: prepared.answers_to_time(v.id) for v in prepared.suite.variants}
        self._looked_at: dict[str, set[str]] = {variant: set() for variant in self._to_time}
        """Variant → the trials, or of many the cases, whose first answers came; no more than are to be timed."""
        self._stopping = self._ends_when_settled() if prepared.suite.until or prepared.suite.race else None
        self._beaten = time.monotonic()
        with database.read() as connection:
            self._scored = recording.score_keys(connection, progress.run)

    def _ends_when_settled(self) -> Stopping:
        """What ends the run of a suite with `until` or `race`. Of several models that compute in this process each is
        loaded again for each look: then it is looked less often."""
        suite, run = self.prepared.suite, self.progress.run
        with self.database.read() as connection:
            self.progress.stopping = run_header(connection, run).get("stopping", EMPTY)
        compared = compared_with({v.id: v for v in suite.variants}, self.prepared.asking).values()
        local = sum(engine.in_process for engine in self.prepared.engines.values())
        most_looks = LOOKS_WITH_LOADING if local > 1 else MOST_LOOKS
        told = self.progress.stopping.get("looks_made", 0)
        scores = partial(read_scores, self.database, run)
        return Stopping(suite, scores, self._note_look, told, set(compared), most_looks)

    def _note_look(self, report: Mapping[str, Json]) -> None:
        """Keeps where the question stands; whoever looks at the run meanwhile reads it in its header."""
        self.progress.stopping = report
        with self.database.write() as connection:
            recording.note(connection, self.progress.run, {"stopping": report})

    @property
    def _ended_early(self) -> bool:
        """By a stop, or by a budget."""
        return self.stop.is_set() or bool(self.progress.stopped_by)

    def go(self, plan: Iterator[list[Planned]]) -> bool:
        """Asks and judges all, or with `until` or `race` look by look as long as the question is open; False where it
        ended before that."""
        for blocks in [plan] if self._stopping is None else self._stopping.stretches(plan):
            self._drive(blocks)
            self._judge()
            judging = self.progress.judging
            left = self.progress.done < self.progress.planned or judging.done < judging.planned
            if self._ended_early and left:  # what is incomplete is not looked at
                return False
        return True

    def _drive(self, blocks: Iterator[list[Planned]]) -> None:
        """Keeps enough lined up until all is answered, or the run is stopped or at its budget."""
        exhausted = False
        while not exhausted or self._waiting:
            while not exhausted and len(self._waiting) < AHEAD and not self.stop.is_set():
                block = next(blocks, None)
                exhausted = block is None
                self._ask(block or [], next(self._numbers))
            ended = self._flight.submit(self.dispatcher) or (self._flight.out_of_time() if self._waiting else "")
            self.progress.stopped_by = self.progress.stopped_by or ended
            if self._ended_early:
                for given_up in self._flight.give_up(self.dispatcher):
                    self._waiting.pop(given_up, None)
                exhausted = True
            self._receive(self._flight.take(wait=0.2))

    def _judge(self) -> None:
        """Scores what was answered since the last time by scorers that ask models."""
        if self._ended_early:
            return
        progress, judging = self.progress, self.progress.judging
        judging.planned = (progress.done - progress.failed) * len(self.prepared.asking)
        trials, self._unjudged = [*itertools.chain(*self._unjudged.values())], {}
        self._judges.judge(trials)
        progress.stopped_by = judging.stopped_by

    def count_work(self) -> None:
        """Notes what the engines counted; what is asked again to measure latency comes after and is left out."""
        self.progress.work = {alias: work for alias, e in self.prepared.engines.items() if (work := e.work())}

    def measure_latency(self) -> None:
        """Answers in a batch have no latency of their own: some trials of each variant, as many as its gates need, are
        asked once more, one at a time, and their outputs are given the times."""
        scorers = [(spec, scorer) for spec, scorer in self.prepared.scorers if isinstance(scorer, Latency)]
        block = itertools.count(1_000_000)
        for planned, kept in self._untimed:
            if self._ended_early:
                return
            output = self.dispatcher.submit(replace(planned.request, alone=True), next(block)).result()
            if not output.failure:
                timed = replace(kept.output, seconds=output.seconds, first_token_seconds=output.first_token_seconds)
                scores = list(score_output(scorers, planned.trial.id, planned.trial.case, timed))
                with self.database.write() as connection:
                    recording.set_latency(connection, kept.number, output)
                    recording.save_scores(connection, self.progress.run, scores)
            self.watch(self.progress)

    def finish(self, status: str) -> None:
        """Keeps what came in while the engines closed, then ends the run's row."""
        self._keep(self._flight.take(wait=0), last=True)
        self._judges.close()
        self.progress.unscored += self.progress.judging.unscored
        with self.database.write() as connection:
            facts = {"limits": self._limit_histories()}
            recording.end_run(connection, self.progress.run, status, self.progress.work, facts)
            keep_summary(connection, self.progress.run)
        if self._spans is not None:
            self.progress.tracing = self._spans.close(status)
        self.watch(self.progress)

    def _limit_histories(self) -> dict[str, Json]:
        """Alias → how its limit of calls moved: [seconds, calls at a time, calls a second, why]."""
        engines = {alias: e for alias, e in self.prepared.engines.items() if isinstance(e, Limited)}
        return {alias: [[c.at, c.window, c.pace, c.reason] for c in e.history()] for alias, e in engines.items()}

    def _ask(self, block: list[Planned], number: int) -> None:
        """Answers what is known, lines up the rest."""
        for planned in block if self.prepared.asking else ():
            self._unjudged.setdefault(planned.trial.case.id, []).append(planned.trial.id)
        parts = split(block, self._known)
        waiting: dict[str, list[Planned]] = {}
        for planned in block:
            waiting.setdefault(planned.request.id, []).append(planned)
        self.progress.reused += sum(len(waiting[i]) for i in parts.answered)
        self._settle([(waiting[i], kept) for i, kept in parts.answered.items()], attach=True)
        for request in parts.to_ask:
            if request.id not in self._waiting:
                self._flight.line_up(number, request)
            self._waiting.setdefault(request.id, []).extend(waiting[request.id])

    def _receive(self, arrived: Arrived) -> None:
        """Commits what has arrived, then scores it; raises what an engine raised."""
        kept = self._keep(arrived)
        self._settle([(self._waiting.pop(k.output.request_id), k) for k in kept], attach=False)
        raise_first_error(arrived)
        self._beat()
        self.watch(self.progress)

    def _keep(self, arrived: Arrived, *, last: bool = False) -> Sequence[Kept]:
        """Commits and counts what has arrived."""
        landed = self._flight.keep(arrived, last=last)
        for cancelled in landed.cancelled:
            self._waiting.pop(cancelled, None)
        for request, kept in zip(landed.requests, landed.kept, strict=True):
            self._count(request, kept.output)
        return landed.kept

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
        """Remembers which of a variant's first answers have no latency; of many, one of each case that counts."""
        trial = planned.trial
        if trial.case.quarantined:
            return
        wanted, looked_at = self._to_time[trial.variant.id], self._looked_at[trial.variant.id]
        one = trial.id if wanted <= SHOWN else trial.case.id
        if len(looked_at) < wanted and one not in looked_at:
            looked_at.add(one)
            if kept.output.seconds is None:
                self._untimed.append((planned, kept))

    def _scores(self, trial: Trial, output: Output) -> Iterator[Score]:
        for score in score_output(self.prepared.scorers, trial.id, trial.case, output):
            if not score.key and not trial.case.quarantined:
                self.progress.unscored[f"scorer '{score.scorer}': {score.reason}"] += 1
            if isinstance(score.value, (int, float)) and not trial.case.quarantined:
                self._tally(score).add(trial.variant.id, trial.case.id, score.value)
            yield score

    def _tally(self, score: Score) -> Tally:
        if score.scorer not in self.progress.tally:
            suite = self.prepared.suite
            variants = [variant.id for variant in suite.variants]
            self.progress.tally[score.scorer] = Tally(score.scorer, score.kind, variants, suite.cases)
        return self.progress.tally[score.scorer]

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > 10:
            self._beaten = time.monotonic()
            with self.database.write() as connection:
                recording.beat(connection, self.progress.run)
