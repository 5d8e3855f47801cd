"""A suite made ready: models and scorers opened, checked, and planned; nothing is asked yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path

from workbench.asking import Desk
from workbench.define.prompt import render_prompt
from workbench.define.sweep import blocks
from workbench.define.template import render_value
from workbench.engines.base import Engine
from workbench.errors import SuiteError
from workbench.judging import check_askable, most_requests, split_scorers
from workbench.models import open_models, with_price
from workbench.records import EMPTY, Json, Message, Request, Suite, Trial, canonical
from workbench.run.budget import Budget, Use, worst_use
from workbench.run.plan import Asked, Planned, check_capabilities, plan_block
from workbench.run.reuse import newest_wanted
from workbench.scorers.build import asking_parts
from workbench.scoring import Scorers, build_scorers, check_expected
from workbench.store import batches, recording
from workbench.store.database import Database
from workbench.store.recording import Kept

KEPT_MESSAGES = 4096
"""Rendered prompts that are kept: the variants and repeats of a case share theirs."""


def _answer_form(answer: Mapping[str, Json], inputs: Mapping[str, Json]) -> Mapping[str, Json]:
    """A variant's form of answer for one case; a text that is to be read is the only choice."""
    if "text" in answer:
        return {"choices": [str(render_value(answer["text"], inputs))]}
    if isinstance(answer.get("choices"), str):
        return {"choices": render_value(answer["choices"], inputs)}
    return answer


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do."""

    trials: int
    requests: int
    """Distinct requests: what is left after removing duplicates."""
    answered: int
    """… of which the store has an answer."""
    prompt_tokens: int
    """Of the requests to ask; estimated from a sample."""
    output_tokens: int | None
    """At most; None where a variant sets no max_tokens."""
    cost: float | None
    """US dollars at most; None where a price or a limit is unknown."""
    cost_low: float | None
    """… and if no answer had a token."""
    unpriced: tuple[str, ...]
    """Aliases of hosted models without a price."""
    judging: int = 0
    """Requests of scorers that ask models, at most; what they cost is not in `cost`."""


@dataclass(frozen=True)
class Prepared:
    """A suite with its engines and scorers at hand, checked; nothing is asked yet."""

    suite: Suite
    engines: Mapping[str, Engine]
    scorers: Scorers
    root: Path
    project_budget: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """What all runs of the project's store may use together: `cost` and `tokens`."""
    asking: Scorers = ()
    """The scorers that ask models; their models are among `engines` and the suite's."""

    def blocks(self, seed: int) -> Iterator[list[Planned]]:
        """The plan, block by block; the same each time."""
        asked = {alias: Asked(e.identity, e.capabilities) for alias, e in self.engines.items()}
        for block in blocks(self.suite):
            yield list(plan_block(block, self._draft, asked, seed))

    def _draft(self, trial: Trial) -> Request:
        """What a trial asks; the plan adds id and seed."""
        variant, case = trial.variant, trial.case
        prompt = self.suite.prompts[variant.revision]
        inputs = {**case.inputs, **variant.vars}
        return Request(
            id="",
            model=variant.model,
            messages=self._messages(variant.revision, canonical(dict(variant.vars)), case.id),
            params={name: value for name, value in variant.params.items() if name != "seed"},
            answer=_answer_form(variant.answer, inputs),
            logprobs=variant.logprobs,
            tools=prompt.tools,
        )

    def worst_case(self, request: Request) -> Use:
        """What a request may take at most."""
        free = self.engines[request.model].in_process
        return worst_use(request, None if free else self.suite.models[request.model].price)

    @cached_property
    def _messages(self) -> Callable[[str, str, str], tuple[Message, ...]]:
        """Revision, variables (as canonical JSON), case id → the rendered prompt."""
        cases = {case.id: case for case in self.suite.cases}

        @lru_cache(maxsize=KEPT_MESSAGES)
        def render(revision: str, variables: str, case_id: str) -> tuple[Message, ...]:
            case = cases[case_id]
            inputs = {**case.inputs, **json.loads(variables)}
            return _continued(render_prompt(self.suite.prompts[revision], inputs, case_id), case.messages)

        return render

    def check_rendering(self) -> None:
        """Renders everything once; raises PromptError before anything is asked or written."""
        for revision, variables in {(v.revision, canonical(dict(v.vars))): 0 for v in self.suite.variants}:
            for case in self.suite.cases:
                self._messages(revision, variables, case.id)


def prepare_suite(suite: Suite, root: Path, project_budget: Mapping[str, Json] = EMPTY) -> Prepared:
    """Opens models and scorers, and refuses what can't work before anything is asked.

    Raises ModelError, SuiteError, UseError or DataError.
    """
    desk = Desk(root, suite.models)
    scorers = build_scorers(suite.scorers, root, suite.path, desk)
    check_expected(scorers, suite.cases)
    scorers, asking = split_scorers(scorers)
    check_askable(asking, suite.cases)
    models = {alias: with_price(model) for alias, model in desk.models.items()}
    suite = replace(suite, models=models, prompts={**suite.prompts, **desk.prompts})
    engines = desk.engines | open_models({a: model for a, model in models.items() if a not in desk.engines})
    _check_stopping(suite, asking)
    for variant in suite.variants:
        engines[variant.model].check_params(variant.params)
        check_capabilities(variant, engines[variant.model].capabilities)
    prepared = Prepared(suite, engines, scorers, root, project_budget, asking)
    _check_budget(prepared)
    prepared.check_rendering()
    return prepared


def plan_suite(prepared: Prepared, database: Database | None) -> Plan:
    """What a run would ask, without asking; without a database, as if nothing were answered yet."""
    requests: dict[str, Request] = {}
    trials = 0
    for block in prepared.blocks(prepared.suite.seed):
        trials += len(block)
        requests.update((p.request.id, p.request) for p in block)
    answered = known_answers(database, newest_wanted(prepared.suite.reuse.get("max_age")))(requests) if database else {}
    to_ask = [r for i, r in requests.items() if i not in answered]
    asked = Counter(r.model for r in to_ask)
    tokens = {alias: _estimated_tokens(prepared.engines[alias], to_ask, alias) for alias in asked}
    limits = [r.params.get("max_tokens") for r in to_ask]
    most = None if None in limits else sum(int(n) for n in limits if n is not None)
    unpriced = tuple(a for a in asked if not _free(prepared, a) and prepared.suite.models[a].price is None)
    cost = None if unpriced or most is None else sum(_cost(prepared, a, tokens[a], to_ask) for a in asked)
    low = None if unpriced else sum(_cost(prepared, a, tokens[a], ()) for a in asked)
    judging = trials * most_requests(prepared.asking)
    return Plan(trials, len(requests), len(answered), sum(tokens.values()), most, cost, low, unpriced, judging)


def _continued(prompt: tuple[Message, ...], history: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt continues a chat history: its leading system messages, the history, the rest."""
    lead = next((i for i, m in enumerate(prompt) if m.role != "system"), len(prompt))
    return (*prompt[:lead], *history, *prompt[lead:])


def known_answers(database: Database, newer_than: str) -> Callable[[Iterable[str]], dict[str, Kept]]:
    """A look-up of request ids in the store; answers older than that time (ISO 8601, UTC) don't count."""

    def look_up(ids: Iterable[str]) -> dict[str, Kept]:
        with database.read() as connection:
            return recording.known(connection, ids, newer_than)

    return look_up


def budgets(prepared: Prepared, database: Database, run: str) -> list[Budget]:
    """The run's budget and the project's, with what was spent before and what batches may take at most."""
    own, project = prepared.suite.budget, prepared.project_budget
    with database.read() as connection:
        by_run = Use(*recording.spent(connection, run)) + Use(*batches.in_flight(connection, run))
        by_all = Use(*recording.spent(connection)) + Use(*batches.in_flight(connection))
    worst = prepared.worst_case
    limits = [
        Budget(own.get("cost"), own.get("tokens"), own.get("time"), worst, by_run),
        Budget(project.get("cost"), project.get("tokens"), None, worst, by_all, "the project's budget"),
    ]
    return [b for b in limits if (b.cost, b.tokens, b.seconds) != (None, None, None)]


def _check_stopping(suite: Suite, asking: Scorers) -> None:
    """Raises SuiteError where a run's end would rest on scores that are made after it."""
    for rule, wanted in (("until", suite.until), ("race", suite.race)):
        for spec, _ in asking:
            if wanted and wanted.get("scorer") == spec.name:
                raise SuiteError(f"'{rule}' can't rest on '{spec.name}': models judge when all is answered", suite.path)


def _check_budget(prepared: Prepared) -> None:
    """Raises SuiteError where a budget could not be kept: no price, or no limit on the answers."""
    suite = prepared.suite
    wanted = {name for limits in (suite.budget, prepared.project_budget) for name in limits} & {"cost", "tokens"}
    for variant in suite.variants if wanted else ():
        alias = variant.model
        if int(variant.params.get("max_tokens", -1)) < 0 and not variant.answer.keys() & {"choices", "text"}:
            what = f"a budget needs max_tokens for '{variant.label}': nothing else bounds an answer"
            raise SuiteError(what, suite.path)
    judges = (part.models for _, scorer in prepared.asking for part in asking_parts(scorer))
    asked = {*(v.model for v in suite.variants), *chain.from_iterable(judges)}
    for alias in sorted(asked) if "cost" in wanted else ():
        if not _free(prepared, alias) and suite.models[alias].price is None:
            raise SuiteError(
                f"a budget in cost needs the price of '{alias}', which is in no table; write it into workbench.yaml: "
                "price: {input: …, output: …} (US dollars for a million tokens)",
                suite.path,
            )


def _free(prepared: Prepared, alias: str) -> bool:
    return prepared.engines[alias].in_process


def _estimated_tokens(engine: Engine, requests: Sequence[Request], alias: str) -> int:
    """Prompt tokens of an alias's requests, from a sample of at most 64 of them."""
    own = [r for r in requests if r.model == alias]
    sample = own[:: max(1, len(own) // 64)]
    return round(sum(engine.count_tokens(r) for r in sample) / len(sample) * len(own))


def _cost(prepared: Prepared, alias: str, prompt_tokens: int, requests: Sequence[Request]) -> float:
    price = prepared.suite.models[alias].price
    if price is None:
        return 0.0
    most = sum(int(r.params["max_tokens"]) for r in requests if r.model == alias)
    return (prompt_tokens * price["input"] + most * price["output"]) / 1e6
