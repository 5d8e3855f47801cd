"""A suite made ready: models and scorers opened, checked, and planned; nothing is asked yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain, takewhile
from pathlib import Path
from threading import Event

from workbench.asking import Desk
from workbench.define.gates import Gate
from workbench.define.places import at_setting, in_file_of
from workbench.define.prompt import render_prompt
from workbench.define.recorded import ENGINE, Answers, read_recorded
from workbench.define.sweep import blocks
from workbench.define.template import render_value
from workbench.engines.base import Engine, check_known
from workbench.errors import SuiteError, UseError
from workbench.gates.foresight import SHOWN, answers_to_time
from workbench.judges.judging import check_askable, compared_with, most_requests, split_scorers
from workbench.models import open_models, with_price
from workbench.records import EMPTY, Case, Json, Message, Request, Suite, Trial, Variant, canonical
from workbench.retrieval.lookup import Found, check_models, find_by_words, find_known, with_passages
from workbench.run.budget import Budget, Use, most_tokens, worst_use
from workbench.run.plan import Asked, Planned, check_capabilities, plan_block
from workbench.run.reuse import newest_wanted
from workbench.scorers.build import asking_parts, compares, scorer_terms
from workbench.scorers.judge import Judge
from workbench.scorers.timing import Latency
from workbench.scoring import Scorers, build_scorers, check_expected
from workbench.spending import project_budget
from workbench.stopping import check_decides
from workbench.store import batches, recording
from workbench.store.database import Database
from workbench.store.recording import Kept

KEPT_MESSAGES = 4096
"""Rendered prompts that are kept: the variants and repeats of a case share theirs."""
MAX_TRIALS = 5_000_000
"""A block of them and its requests must fit into memory; more is a slip of the hand, not a sweep."""


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
    retrieving: int = 0
    """Texts to embed before passages can be looked up: in neither tokens nor cost. The rest is then estimated with
    passages that word search finds."""
    judging: int = 0
    """Requests of scorers that ask models, at most; what they cost is not in `cost`."""
    timing: int = 0
    """Requests that are asked again, one at a time, to measure their latency, at most: of models on this machine."""


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
    found: Found = field(default_factory=dict)
    """Of a suite that retrieves: the passages of each case."""
    indexes: Sequence[str] = ()
    """… and the indexes that they rest on."""
    recorded: Answers = field(default_factory=lambda: EMPTY)

    def blocks(self, seed: int, stop: Event | None = None) -> Iterator[list[Planned]]:
        """The plan, block by block; the same each time. Once `stop` is set it ends, in the midst of a block, too."""
        asked = {alias: Asked(e.identity, e.capabilities) for alias, e in self.engines.items()}
        for block in blocks(self.suite):
            seen = [replace(t, case=self._seen(t.case, t.variant.vars)) for t in block] if self.found else block
            planned = plan_block(seen, self._draft, asked, seed)
            yield list(planned if stop is None else takewhile(lambda _: not stop.is_set(), planned))
            if stop is not None and stop.is_set():
                return

    @property
    def terms(self) -> dict[str, str]:
        """See `scorer_terms`."""
        return scorer_terms([*self.scorers, *self.asking])

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
            answer=self._recorded(trial) if variant.model in self.recorded else _answer_form(variant.answer, inputs),
            logprobs=variant.logprobs,
            tools=prompt.tools,
        )

    def _recorded(self, trial: Trial) -> Mapping[str, Json]:
        answers = self.recorded[trial.variant.model].get(trial.case.id, ())
        return {"recorded": answers[trial.repeat] if trial.repeat < len(answers) else None}

    def _seen(self, case: Case, variables: Mapping[str, Json]) -> Case:
        """The case as a variant sees it."""
        return with_passages(case, self.suite, variables, self.found) if self.found else case

    def answers_to_time(self, variant: str) -> int:
        """Of the variant with this id: see `foresight.answers_to_time`."""
        gates = [Gate.from_json(gate) for gate in self.suite.gates]
        timers = {spec.name for spec, scorer in self.scorers if isinstance(scorer, Latency)}
        return answers_to_time(gates, timers, variant)

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
            own = json.loads(variables)
            case = self._seen(cases[case_id], own)
            inputs = {**case.inputs, **own}
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
    with in_file_of(suite):
        return _prepared(suite, root, project_budget)


def _prepared(suite: Suite, root: Path, project_budget: Mapping[str, Json]) -> Prepared:
    if (trials := len(suite.variants) * len(suite.cases) * suite.repeats) > MAX_TRIALS:
        what = f"the sweep has {trials:,} trials, more than {MAX_TRIALS:,}"
        raise SuiteError(f"{what}; lower 'repeats', or take fewer cases or variants", suite.path)
    desk = Desk(root, suite.models)
    scorers = build_scorers(suite.scorers, root, suite.path, desk)
    check_expected(scorers, suite.cases)
    scorers, asking = split_scorers(scorers)
    found = find_by_words(suite) if suite.retrieve else {}
    seen = [with_passages(c, suite, suite.variants[0].vars, found) for c in suite.cases] if found else suite.cases
    check_askable(asking, seen)
    for alias in suite.retrieve.get("models", ()):
        desk.engine(alias)
    models = {alias: with_price(model) for alias, model in desk.models.items()}
    suite = replace(suite, models=models, prompts={**suite.prompts, **desk.prompts})
    engines = desk.engines | open_models({a: model for a, model in models.items() if a not in desk.engines})
    check_models(suite, engines)
    _check_compared(suite, asking)
    _check_stopping(suite, asking)
    for variant in suite.variants:
        _check_variant(suite, variant, engines[variant.model])
    prepared = Prepared(
        suite, engines, scorers, root, project_budget, asking, found, recorded=read_recorded(suite, root)
    )
    _check_budget(prepared)
    prepared.check_rendering()
    return prepared


def plan_suite(prepared: Prepared, database: Database | None) -> Plan:
    """What a run would ask, without asking; without a database, as if nothing were answered yet."""
    suite, retrieving = prepared.suite, 0
    if suite.retrieve:
        found, retrieving = find_known(suite, prepared.engines, prepared.root, database)
        prepared = replace(prepared, found=found)
    requests: dict[str, Request] = {}
    trials = 0
    for block in prepared.blocks(prepared.suite.seed):
        trials += len(block)
        requests.update((p.request.id, p.request) for p in block)
    answered = known_answers(database, newest_wanted(prepared.suite.reuse.get("max_age")))(requests) if database else {}
    to_ask = [r for i, r in requests.items() if i not in answered]
    asked = Counter(r.model for r in to_ask)
    tokens = {alias: _estimated_tokens(prepared.engines[alias], to_ask, alias) for alias in asked}
    limits = [most_tokens(r)[1] for r in to_ask]
    most = None if None in limits else sum(n for n in limits if n is not None)
    unpriced = tuple(a for a in asked if not _free(prepared, a) and prepared.suite.models[a].price is None)
    cost = None if unpriced or most is None else sum(_cost(prepared, a, tokens[a], to_ask) for a in asked)
    low = None if unpriced else sum(_cost(prepared, a, tokens[a], ()) for a in asked)
    judging = trials * most_requests(prepared.asking)
    return Plan(
        trials,
        len(requests),
        len(answered),
        sum(tokens.values()),
        most,
        cost,
        low,
        unpriced,
        retrieving,
        judging,
        timing=_to_time(prepared),
    )


def _to_time(prepared: Prepared) -> int:
    """Requests that are asked again for their latency, at most."""
    cases, repeats = sum(not case.quarantined for case in prepared.suite.cases), prepared.suite.repeats
    local = [v for v in prepared.suite.variants if prepared.engines[v.model].in_process]
    wanted = [prepared.answers_to_time(variant.id) for variant in local]
    return sum(min(n, cases if n > SHOWN else cases * repeats) for n in wanted)


def _continued(prompt: tuple[Message, ...], history: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt continues a chat history: its leading system messages, the history, the rest."""
    lead = next((i for i, m in enumerate(prompt) if m.role != "system"), len(prompt))
    return (*prompt[:lead], *history, *prompt[lead:])


def known_answers(database: Database, newer_than: str, run: str = "") -> Callable[[Iterable[str]], dict[str, Kept]]:
    """A look-up of request ids in the store; answers older than that time (ISO 8601, UTC) don't count, but those of
    `run` do."""

    def look_up(ids: Iterable[str]) -> dict[str, Kept]:
        with database.read() as connection:
            return recording.known(connection, ids, newer_than, run)

    return look_up


def budgets(prepared: Prepared, database: Database, run: str) -> list[Budget]:
    """The run's budget, with what was spent before and what batches may take at most, and the project's."""
    own, project = prepared.suite.budget, prepared.project_budget
    if not own and not project:
        return []
    with database.read() as connection:
        by_run = Use(*recording.spent(connection, run)) + Use(*batches.in_flight(connection, run))
    worst = prepared.worst_case
    limits = [Budget(own.get("cost"), own.get("tokens"), own.get("time"), worst, by_run)] if own else []
    return limits + project_budget(project, worst, run)


def _check_variant(suite: Suite, variant: Variant, engine: Engine) -> None:
    """Raises UseError, with file and line, for a parameter or a form of answer that the model does not take."""
    try:
        check_known(engine, variant.params)
        check_capabilities(variant, engine.capabilities)
    except UseError as error:
        raise at_setting(error, suite, variant) from error


def _check_compared(suite: Suite, asking: Scorers) -> None:
    """Raises SuiteError for a scorer that compares with a variant that the suite lacks."""
    for spec, scorer in asking:
        try:
            compared_with({v.id: v for v in suite.variants}, [(spec, scorer)])
        except UseError as error:
            raise SuiteError(f"scorer '{spec.name}': {error}", suite.path) from error


def _check_stopping(suite: Suite, asking: Scorers) -> None:
    """Raises SuiteError where `until` or `race` can't go by a scorer that waits for answers."""
    rule = suite.until or suite.race
    for spec, scorer in asking if rule else ():
        if spec.name == rule["scorer"] and compares(scorer):
            what = "what is best depends on which variants are still asked"
            key = "race" if suite.race else "until"
            raise SuiteError(
                f"'{key}' can't decide by scorer '{spec.name}': {what}; name another with {key}: {{scorer: NAME}}",
                suite.path,
            )
        if spec.name == rule["scorer"] and isinstance(scorer, Judge):
            check_decides(suite, scorer.kind)


def _check_budget(prepared: Prepared) -> None:
    """Raises SuiteError where a budget could not be kept: no price, or no limit on the answers."""
    suite = prepared.suite
    wanted = {name for limits in (suite.budget, prepared.project_budget) for name in limits} & {"cost", "tokens"}
    for variant in suite.variants if wanted else ():
        alias = variant.model
        if int(variant.params.get("max_tokens", -1)) < 0 and not variant.answer.keys() & {"choices", "text", ENGINE}:
            what = f"a budget needs max_tokens for '{variant.label}': nothing else bounds an answer"
            raise SuiteError(what, suite.path)
    judges = (part.models for _, scorer in prepared.asking for part in asking_parts(scorer))
    asked = {*(v.model for v in suite.variants), *suite.retrieve.get("models", ()), *chain.from_iterable(judges)}
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
    most = sum(most_tokens(r)[1] or 0 for r in requests if r.model == alias)
    return (prompt_tokens * price["input"] + most * price["output"]) / 1e6
