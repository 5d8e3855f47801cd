"""Runs whose answers come later: plan → reuse → submit; another day `collect`.

A provider's batch can't be taken back unseen, so each step is committed before the next: chunks are planned in
one transaction, then each is uploaded, noted, begun, noted. Every batch carries the run's and the chunk's id.
Where a process may have died between a step and its note, the provider's list is searched first, so that no
request is submitted twice. Rights and words as in `evaluate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain, product
from tempfile import TemporaryFile

from workbench.begin import RunOptions, begin
from workbench.define.places import in_file_of
from workbench.engines.base import BatchHost, Batching, BatchState, Engine, failed
from workbench.engines.price import batch_price
from workbench.errors import EngineError, ModelError, SuiteError, WorkbenchError
from workbench.models import open_models
from workbench.prepare import Plan, Prepared, budgets, known_answers, plan_suite
from workbench.records import Model, Output, Request, content_id
from workbench.run.budget import most_tokens
from workbench.run.chunks import Chunk, Chunks
from workbench.run.reuse import split
from workbench.scoring import score_run
from workbench.spending import landing, turn
from workbench.store import batches, recording
from workbench.store.batches import BatchRow
from workbench.store.database import Database
from workbench.store.summaries import keep_summary

TRIES = 3
"""How often a batch is tried to be begun; before each further time it is looked for."""
PAUSE_SECONDS = 1.0
"""Between these tries: a batch that has just begun must have time to be listed."""

FindModel = Callable[[str], Model]
"""An alias → its model, as workbench.yaml has it now. Raises UnknownName."""


@dataclass(slots=True)
class Submitted:
    """What became of a run that asks in batches."""

    run: str
    planned: int
    """Its trials."""
    reused: int = 0
    """Trials that had an answer already."""
    elsewhere: int = 0
    """Requests that are on their way in batches of other runs."""
    left: int = 0
    """Requests that were not submitted, because of a budget."""
    stopped_by: str = ""
    """Which budget, in words."""
    batches: list[BatchRow] = field(default_factory=list)
    """The run's open batches, those of an earlier time included."""
    status: str = ""
    asking: tuple[str, ...] = ()
    """Scorers that ask models: when it is collected."""


def submit_batches(prepared: Prepared, database: Database, options: RunOptions | None = None) -> Submitted:
    """Submits what a suite has to ask, or what is left of a run to resume.

    Raises ModelError where a model's provider takes no batches, SuiteError for a budget without a price or for
    a rule that stops a run early.
    """
    with ExitStack() as stack:
        hosts = _hosts(prepared, stack)
        with in_file_of(prepared.suite):
            prepared = _at_batch_price(prepared, hosts)
        begun = begin(prepared, database, replace(options or RunOptions(), batch=True))
        prepared = begun.prepared
        done = Submitted(begun.run, begun.planned, asking=tuple(spec.name for spec, _ in prepared.asking))
        try:
            with database.read() as connection:
                before = {row.id for row in batches.list_batches(connection, begun.run, only_open=True)}
            _plan(prepared, database, begun.seed, begun.reuse_after, hosts, done)
            if done.reused:
                score_run(database, begun.run, prepared.scorers)
            with database.read() as connection:
                rows = batches.list_batches(connection, begun.run, only_open=True)
            for row in rows:
                _submit(row, hosts[row.model], database, maybe=row.id in before)
        finally:
            done.status = put_down(database, begun.run)
    with database.read() as connection:
        done.batches = batches.list_batches(connection, begun.run, only_open=True)
    return done


def plan_batches(prepared: Prepared, database: Database | None) -> Plan:
    """What `submit_batches` would ask, at the price of batches; raises as it does. `cost` is None where that price is
    unknown; nothing is sent."""
    with ExitStack() as stack, in_file_of(prepared.suite):
        return plan_suite(_at_batch_price(prepared, _hosts(prepared, stack)), database)


def cancel_batches(database: Database, run: str, find_model: FindModel, *, forget: bool = False) -> list[BatchRow]:
    """Asks the provider to end the run's batches; what they have answered by then can be collected.

    With `forget` they count as ended at once, whatever the provider does: what they answer is lost, and may be
    paid for and asked again.
    """
    with database.write() as connection:
        recording.take_up(connection, run)
    try:
        if forget:
            with database.write() as connection:
                for row in batches.list_batches(connection, run, only_open=True):
                    batches.note(connection, row.id, status="cancelled", said="forgotten")
        else:
            for row, _, host in hosted(database, run, find_model):
                state = find_batch(row, host)
                if state is None:
                    note(database, row, status="cancelled", said="never submitted")
                else:
                    note(database, row, status="submitted", batch=state.id, said=host.cancel(state.id).said)
    finally:
        put_down(database, run)
    with database.read() as connection:
        return batches.list_batches(connection, run)


def show_batches(database: Database, run: str | None, find_model: FindModel) -> Iterator[tuple[BatchRow, str]]:
    """The batches of a run, or of all, brought up to date at their providers, each with why that was not
    possible; empty where it was. Nothing is fetched."""
    with database.read() as connection:
        rows = batches.list_batches(connection, run)
    with ExitStack() as stack:
        hosts: dict[str, BatchHost | WorkbenchError] = {}
        for row in rows:
            if row.status != "submitted":
                yield row, ""
                continue
            try:
                if row.identity not in hosts:
                    hosts[row.identity] = _opened(row.model, _reopened(row, find_model), stack)
                host = hosts[row.identity]
                if isinstance(host, WorkbenchError):
                    raise host
                state = host.state(str(row.batch))
                counts = {"said": state.said, "answered": state.answered, "failed": state.failed}
                note(database, row, **counts)
                yield replace(row, **counts), ""  # type: ignore[arg-type]
            except WorkbenchError as error:
                hosts[row.identity] = error
                yield row, str(error)


def _opened(alias: str, engine: object, stack: ExitStack) -> BatchHost:
    if not isinstance(engine, Batching):
        raise ModelError(
            f"model '{alias}' can't be asked in batches: only hosted models whose provider takes them can; run it "
            f"apart, as with `--only model={alias}` and without --batch"
        )
    return stack.enter_context(engine.open_batches())


def _reopened(row: BatchRow, find_model: FindModel) -> Engine:
    """The engine of a batch that was planned before. The address that gets the key is workbench.yaml's, never
    one that the store names."""
    model = replace(find_model(row.model), price=row.price or {})
    engine = open_models({row.model: model})[row.model]
    if engine.identity != row.identity:
        raise ModelError(
            f"model '{row.model}' was {row.identity} when batch {row.number} of run {row.run} was submitted, and is "
            f"{engine.identity} now; give it back its address and name in workbench.yaml"
        )
    return engine


def hosted(database: Database, run: str, find_model: FindModel) -> Iterator[tuple[BatchRow, Engine, BatchHost]]:
    """The run's open batches, each with its engine and its host."""
    with database.read() as connection:
        rows = batches.list_batches(connection, run, only_open=True)
    with ExitStack() as stack:
        opened: dict[tuple[str, str], tuple[Engine, BatchHost]] = {}
        for row in rows:
            key = (row.model, str(row.price))
            if key not in opened:
                engine = _reopened(row, find_model)
                opened[key] = engine, _opened(row.model, engine, stack)
            yield row, *opened[key]


def _hosts(prepared: Prepared, stack: ExitStack) -> dict[str, BatchHost]:
    """By the aliases of the suite's variants."""
    aliases = sorted({variant.model for variant in prepared.suite.variants})
    return {alias: _opened(alias, prepared.engines[alias], stack) for alias in aliases}


def _at_batch_price(prepared: Prepared, hosts: Mapping[str, BatchHost]) -> Prepared:
    """The suite with its models' prices in batches. Raises SuiteError where that can't be."""
    suite = prepared.suite
    if suite.until or suite.race:
        raise SuiteError("a batch is submitted as a whole; leave out what stops a run early (until, race)", suite.path)
    at_price = {
        alias: replace(suite.models[alias], price=batch_price(suite.models[alias].price, host.price_factor))
        for alias, host in hosts.items()
    }
    models = {**suite.models, **at_price}
    unknown = [alias for alias, model in at_price.items() if model.price is None]
    if unknown and ("cost" in suite.budget or "cost" in prepared.project_budget):
        raise SuiteError(
            f"a budget in cost needs the price of '{unknown[0]}' in a batch, which is in no table; write it into "
            "workbench.yaml: price: {input: …, output: …, batch: {input: …, output: …}}, or its share of the price of "
            "single calls: options: {batch_price_factor: 0.5}",
            suite.path,
        )
    return replace(prepared, suite=replace(suite, models=models))


def _plan(
    prepared: Prepared,
    database: Database,
    seed: int,
    reuse_after: str,
    hosts: Mapping[str, BatchHost],
    done: Submitted,
) -> None:
    """Gives known answers to the trials, and plans batches of what is neither answered nor on its way."""
    known, limits = known_answers(database, reuse_after, done.run), budgets(prepared, database, done.run)
    chunks = Chunks({alias: (host.most_requests, host.most_bytes) for alias, host in hosts.items()})
    with database.read() as connection:
        flying = batches.requests_in_flight(connection)
    seen: set[str] = set()
    for block in prepared.blocks(seed):
        parts = split(block, known)
        done.reused += sum(planned.request.id in parts.answered for planned in block)
        asked, refused = list[tuple[Request, str]](), list[Output]()
        with turn(database, limits):
            for request in parts.to_ask:
                if request.id in seen:
                    continue
                seen.add(request.id)
                if request.id in flying:
                    done.elsewhere += flying[request.id] != done.run
                    continue
                done.stopped_by = done.stopped_by or next((w for b in limits if (w := b.passed_by(request))), "")
                if done.stopped_by:
                    done.left += 1
                    continue
                asked.append((request, prepared.engines[request.model].identity))
                try:
                    size = len(hosts[request.model].line(request))
                except ModelError as error:
                    refused.append(failed(request, "refused", str(error)))
                    continue
                for budget in limits:
                    budget.ask(request)
                bounded = most_tokens(request)[1] is not None
                chunks.add(request.model, request.id, size, prepared.worst_case(request), bounded=bounded)
        with database.write() as connection:
            recording.attach(connection, done.run, parts.answered.values())
            recording.keep_requests(connection, asked)
            recording.keep_outputs(connection, done.run, refused)
    with landing(database, limits) as connection:  # from here on they count as open batches
        number = len(batches.list_batches(connection, done.run))
        rows = [(_row(prepared, done.run, number + i, chunk), chunk.requests) for i, chunk in enumerate(chunks.done, 1)]
        batches.add_batches(connection, rows)
        for budget, request_id in product(limits, chain.from_iterable(requests for _, requests in rows)):
            budget.drop(request_id)


def _row(prepared: Prepared, run: str, number: int, chunk: Chunk) -> BatchRow:
    price = prepared.suite.models[chunk.model].price
    return BatchRow(
        id=content_id("bc1", [run, number, chunk.requests]), run=run, number=number, model=chunk.model,
        identity=prepared.engines[chunk.model].identity, status="planned", said="not submitted", file=None, batch=None,
        time=recording.now(), count=len(chunk.requests), answered=0, failed=0, price=price, tokens=chunk.use.tokens,
        cost=chunk.use.cost if price is not None and chunk.bounded else None,
    )  # fmt: skip


def _submit(row: BatchRow, host: BatchHost, database: Database, *, maybe: bool) -> None:
    """Uploads and begins a batch, each step noted; `maybe`: an earlier process may have done so."""
    if row.status == "submitted":
        return
    name, file = f"{row.id}.jsonl", row.file
    if file is None:
        file = (host.find_file(name) if maybe else None) or _upload(row, name, host, database)
        note(database, row, status="uploaded", file=file, said="uploaded")
    state = _begun(row, file, host, maybe=maybe and row.file is not None)
    note(database, row, status="submitted", batch=state.id, said=state.said)


def _upload(row: BatchRow, name: str, host: BatchHost, database: Database) -> str:
    """Through a file that has no name: what is asked lies nowhere when this process has ended."""
    with TemporaryFile() as content:
        with database.read() as connection:
            for request in batches.stored_requests(connection, batches.batch_requests(connection, row.id)):
                content.write(host.line(request))
        content.seek(0)
        return host.upload(name, content)


def _begun(row: BatchRow, file: str, host: BatchHost, *, maybe: bool) -> BatchState:
    """The provider's batch, begun once: before another try it is looked for."""
    for tries in range(1, TRIES + 1):
        if maybe and (state := host.find(_marks(row), file)):
            return state
        try:
            return host.create(file, _marks(row))
        except EngineError:
            if tries == TRIES:
                raise
            maybe = True
            time.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")


def _marks(row: BatchRow) -> dict[str, str]:
    return {"workbench_run": row.run, "workbench_batch": row.id}


def find_batch(row: BatchRow, host: BatchHost) -> BatchState | None:
    """The provider's batch, also one that was begun by a process that could not note it; before a file was noted
    there is none."""
    if row.batch:
        return host.state(row.batch)
    return host.find(_marks(row), row.file) if row.file else None


def note(database: Database, row: BatchRow, **values: object) -> None:
    with database.write() as connection:
        batches.note(connection, row.id, **values)


def put_down(database: Database, run: str) -> str:
    """Ends the work on a run for now; gives how it stands."""
    with database.write() as connection:
        status = batches.standing(connection, run)
        recording.put_down(connection, run, status)
        keep_summary(connection, run)
    return status
