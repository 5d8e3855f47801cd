"""The playground: what is on screen, asked while one looks.

One `Playground` lives as long as the app's server. Its engines stay open between tries, its answers stream, every
answer is kept in the store, also a failed or stopped one, and nothing is answered from the store: a try is always
asked. A try without a seed of its own draws one.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

from workbench.define.prompt import render_prompt
from workbench.engines.base import Engine, Piece, check_known
from workbench.engines.llama import lock
from workbench.errors import UseError, WorkbenchError
from workbench.models import open_models, with_price
from workbench.records import EMPTY, Case, Json, Model, Output, Prompt, Request, Trial, Variant, content_id
from workbench.run.budget import most_tokens, worst_use
from workbench.run.plan import Asked, check_capabilities, plan_block
from workbench.run.send import Dispatcher
from workbench.spending import SharedBudget, landing, project_budget, settled, turn
from workbench.store.database import Database
from workbench.store.tries import RUN as PLAYGROUND
from workbench.store.tries import keep_try
from workbench.tracing import open_spans

REMEMBERED = 50
"""Sets of answers that can be looked up by their id."""


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt for one model."""

    prompt: Prompt
    model: Model
    inputs: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    params: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    answer: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The wanted form: `choices`, `schema` or `grammar`, as values."""


class Answer:
    """An answer as it comes; written by the thread of its engine, read by whoever shows it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.request: Request | None = None
        self.limits: Sequence[SharedBudget] = ()
        """In which it counts while it is under way."""
        self.output: Output | None = None
        self.number: int | None = None
        """Under which the store has it."""
        self.problem = ""
        """Why there is no output, or why it could not be kept."""
        self.seconds: float | None = None
        """From asking to the end, waiting for a turn included."""
        self._asked = time.monotonic()
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return self.output.text if self.output else "".join(self._pieces)

    @property
    def done(self) -> bool:
        return self.seconds is not None

    @property
    def waited(self) -> float:
        """Seconds since it was asked, or until it was done."""
        return time.monotonic() - self._asked if self.seconds is None else self.seconds

    def add(self, text: str) -> None:
        self._pieces.append(text)

    def finish(self, output: Output | None, number: int | None, problem: str = "") -> None:
        self.output, self.number, self.problem = output, number, problem
        self.seconds = time.monotonic() - self._asked


class Playground:
    """Engines that stay open, and what is being asked. May be used from several threads."""

    def __init__(self, database: Database) -> None:
        lock.go_first()
        self._database = database
        self._guard, self._opening = Lock(), Lock()
        self._engines: dict[str, Engine] = {}
        self._waiting: dict[str, list[Answer]] = {}
        """Request id → those that wait for it: equal questions share one request."""
        self._sets: dict[str, list[Answer]] = {}
        self._models: dict[str, Model] = {}
        """As the engines, by their keys."""
        self._spans, problem = open_spans("", EMPTY, self._models, self._engines)
        if problem:
            logging.getLogger("workbench").warning(problem)
        ended = self._spans.answered if self._spans else None
        self._dispatcher = Dispatcher({}, self._on_piece, ended).__enter__()

    def ask(self, questions: Sequence[Question], budget: Mapping[str, Json] = EMPTY) -> str:
        """Asks them all; returns the id by which `answers` finds what comes. A question that can't be asked has
        its problem said in its answer. `budget` is the project's."""
        answers = [Answer(question) for question in questions]
        name = secrets.token_hex(4)
        with self._guard:
            self._sets[name] = answers
            for old in list(self._sets)[:-REMEMBERED]:
                del self._sets[old]
        for answer in answers:
            try:
                self._ask(answer, budget)
            except WorkbenchError as error:
                answer.finish(None, None, str(error))
        return name

    def answers(self, name: str) -> list[Answer] | None:
        """The answers of that set; None where it is not known (any more)."""
        return self._sets.get(name)

    def stop(self, answers: Collection[Answer]) -> None:
        """Asks the engines to stop; a request that someone else waits for goes on."""
        with self._guard:
            ids = {a.request.id for a in answers if a.request and not a.done}
            alone = {i for i in ids if all(other in answers for other in self._waiting.get(i, ()))}
        self._dispatcher.cancel(only=alone)

    def count_tokens(self, question: Question) -> int:
        """Tokens of the rendered prompt; raises WorkbenchError where the model can't be opened or asked."""
        _, engine = self._engine(question.model)
        messages = render_prompt(question.prompt, question.inputs)
        return engine.count_tokens(Request("", question.model.alias, messages, tools=question.prompt.tools))

    def close(self) -> None:
        """Stops what is under way and closes the engines."""
        self._dispatcher.cancel()
        self._dispatcher.__exit__(None, None, None)
        if self._spans is not None:
            self._spans.close("complete")

    def _ask(self, answer: Answer, budget: Mapping[str, Json]) -> None:
        question = answer.question
        key, engine = self._engine(question.model)
        request = _planned(question, key, engine)
        answer.limits = self._reserved(request, with_price(question.model), engine, budget)
        answer.request = request
        with self._guard:
            self._waiting.setdefault(request.id, []).append(answer)
        self._dispatcher.submit(request, secrets.randbits(62)).add_done_callback(partial(self._arrived, answer, engine))

    def _engine(self, model: Model) -> tuple[str, Engine]:
        """The open engine of a model, by a key that changes with its settings."""
        key = content_id("md1", [model.alias, model.engine, dict(model.settings), model.price, dict(model.limits)])
        with self._opening:
            if key not in self._engines:
                self._engines[key] = open_models({model.alias: model})[model.alias]
                self._models[key] = model
                self._dispatcher.add(key, self._engines[key])
            return key, self._engines[key]

    def _reserved(
        self, request: Request, model: Model, engine: Engine, budget: Mapping[str, Json]
    ) -> Sequence[SharedBudget]:
        """The project's budget, in which the answer counts from now on. Raises UseError where it could pass it."""
        if not budget:
            return ()
        if most_tokens(request)[1] is None:
            raise UseError("the project has a budget: set max_tokens, since nothing else bounds an answer")
        if "cost" in budget and model.price is None and not engine.in_process:
            raise UseError(f"the project has a budget: write the price of '{model.alias}' into workbench.yaml")
        worst = worst_use(request, None if engine.in_process else model.price)
        limits = project_budget(budget, lambda _: worst, PLAYGROUND)
        with turn(self._database, limits):
            for limit in limits:
                if why := limit.passed_by(request):
                    raise UseError(why)
                limit.ask(request)
        return limits

    def _on_piece(self, piece: Piece) -> None:
        with self._guard:
            for answer in self._waiting.get(piece.request_id, ()):
                answer.add(piece.text)

    def _arrived(self, answer: Answer, engine: Engine, future: Future[Output]) -> None:
        request = answer.request
        assert request is not None
        with self._guard:
            self._waiting[request.id].remove(answer)
            if not self._waiting[request.id]:
                del self._waiting[request.id]
        output = None
        try:
            output = future.result()
            if output.failure and not output.text:
                output = replace(output, text=answer.text)  # what came before it was stopped
            question = answer.question
            asked = replace(request, model=question.model.alias)
            output = settled(output, answer.limits)
            with landing(self._database, answer.limits) as connection:
                number = keep_try(connection, question.prompt, question.inputs, asked, engine.identity, output)
        except WorkbenchError as error:
            self._give_up(answer, request)
            answer.finish(output, None, str(error))
        else:
            answer.finish(output, number)

    def _give_up(self, answer: Answer, request: Request) -> None:
        """What could not be asked, or kept, is not under way any more."""
        for limit in answer.limits:
            limit.drop(request.id)
        with suppress(WorkbenchError), turn(self._database, answer.limits):
            pass


def waits_for() -> str:
    """The process whose turn it is on this machine's local models, while the playground waits; empty otherwise."""
    return lock.waits_for()


def _planned(question: Question, key: str, engine: Engine) -> Request:
    """The request, with its id and seed; raises WorkbenchError for what the model can't be asked."""
    prompt, params = question.prompt, question.params
    variant = Variant(prompt.name, prompt.revision, question.model.alias, params, answer=question.answer)
    check_known(engine, params)
    check_capabilities(variant, engine.capabilities)
    messages = render_prompt(prompt, question.inputs)
    sampling = {name: value for name, value in params.items() if name != "seed"}
    draft = Request("", key, messages, sampling, answer=question.answer, tools=prompt.tools, stream=True)
    asked = {variant.model: Asked(engine.identity, engine.capabilities)}
    trial = Trial(variant, Case("try", question.inputs), 0)
    (planned,) = plan_block([trial], lambda _: draft, asked, secrets.randbelow(2**31))
    return planned.request
