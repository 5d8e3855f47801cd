"""Answers from a script: deterministic, instant, free. For trying out suites, for demos and for tests.

    engine: echo
    options:
      answers: {'capital of (\\w+)': [Paris, Lyon], hello: hello yourself}
      delay: 0.1                # seconds before an answer's first word
      tokens_per_second: 50     # then so many words a second; without it all at once
      fail: {poison: {kind: refused, message: no, retry: false}, slow: timeout}
      fail_first: 2             # the first two requests fail with kind `server`; asking again helps

A question is looked up as it stands, then the keys are searched in it as regular expressions, in their
order; what has no answer is echoed. Of several answers the first is given, or at a temperature above 0 the
one that the seed chooses. A token is a word.
"""

from __future__ import annotations

import heapq
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.engines.base import Capabilities, Piece, Requests, failed
from workbench.engines.price import cost
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model, Output, Request, content_id

PARAMS = frozenset((
    "max_tokens", "temperature", "stop", "seed",  # read here
    "top_k", "top_p", "min_p", "min_keep", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold",
    "dynatemp_range", "dynatemp_exponent", "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty",
    "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "samplers",
    "mirostat", "mirostat_tau", "mirostat_eta", "logit_bias", "ignore_eos",
    "repetition_penalty", "reasoning_effort", "verbosity", "tool_choice", "parallel_tool_calls", "response_format",
    "max_completion_tokens", "service_tier", "user", "lora",
))  # fmt: skip
"""Echo stands in for other models, so it takes what they take; all but the first four mean nothing to it."""
_SETTINGS = ("answers", "delay", "tokens_per_second", "fail", "fail_first", "rest")
"""`rest` is what follows the colon in `echo:…`: a name to tell two echoes apart."""
_WORD = re.compile(r"\s*\S+")
_AT_ONCE = 64
_LOOK_SECONDS = 0.02
"""How often a sleeping engine looks for new and for cancelled requests."""


@dataclass(order=True, slots=True)
class _Event:
    """Something to hand over at its time; equal times keep their order."""

    due: float
    order: int
    item: Piece | Output = field(compare=False)


class EchoEngine:
    """Raises ModelError for settings of the wrong form."""

    in_process = False
    capabilities = Capabilities(raw=True, seeds=True, repeatable=True, exact=True, params=PARAMS)

    def __init__(self, model: Model) -> None:
        settings = model.settings
        for name in settings:
            if name not in _SETTINGS:
                raise ModelError(f"model '{model.alias}': unknown setting '{name}'{suggest(name, _SETTINGS)}")
        self._model = model
        self._answers = {key: _texts(model, key, value) for key, value in _table(model, "answers").items()}
        self._failures = {key: _failure(model, key, value) for key, value in _table(model, "fail").items()}
        self._delay = _number(model, "delay")
        self._speed = _number(model, "tokens_per_second")
        self._fail_first = int(_number(model, "fail_first"))
        self._at_once = int(model.limits.get("concurrency", _AT_ONCE))

    @property
    def identity(self) -> str:
        answers = {key: list(value) for key, value in self._answers.items()}
        return content_id("echo", [answers, self._model.settings.get("rest")])

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Looks at `max_tokens`, `stop`, `temperature` and `seed`; the values of others mean nothing."""
        for name, kinds in (("max_tokens", int), ("temperature", (int, float)), ("seed", int)):
            value = params.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise ModelError(f"parameter '{name}' is {value!r}; it has to be a number")
        if params.get("max_tokens", 1) < 1:
            raise ModelError(f"parameter 'max_tokens' is {params['max_tokens']}; it has to be at least 1")
        stops = params.get("stop", [])
        if not isinstance(stops, (str, list, tuple)) or not all(
            isinstance(stop, str) for stop in ([stops] if isinstance(stops, str) else stops)
        ):
            raise ModelError(f"parameter 'stop' is {stops!r}; it has to be a text or a list of texts")

    def count_tokens(self, request: Request) -> int:
        return sum(len(message.text.split()) for message in request.messages)

    def describe(self) -> dict[str, object]:
        return {"answers": len(self._answers), "delay": self._delay, "tokens_per_second": self._speed or None}

    def work(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Holds nothing."""

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """Many requests run at a time, each by its own clock; see `engines.base.Engine`."""
        events: list[_Event] = []
        alive: dict[str, Request] = {}
        order = 0
        while True:
            free = self._at_once - len(alive)
            for request in requests.take(free, 0 if alive else _LOOK_SECONDS) if free > 0 else ():
                alive[request.id] = request
                for due, item in self._script(request):
                    order += 1
                    heapq.heappush(events, _Event(time.monotonic() + due, order, item))
            for gone in alive.keys() & requests.cancelled():
                events = [event for event in events if _id_of(event.item) != gone]
                heapq.heapify(events)
                yield failed(alive.pop(gone), "cancelled", "nobody waits for this answer any more")
            if not events:
                if requests.closed:
                    return
            elif (wait := events[0].due - time.monotonic()) > 0:
                time.sleep(min(wait, _LOOK_SECONDS))
            else:
                item = heapq.heappop(events).item
                if isinstance(item, Output):
                    del alive[item.request_id]
                yield item

    def _script(self, request: Request) -> Iterator[tuple[float, Piece | Output]]:
        """What will be handed over for a request, and how many seconds from now."""
        question = _question(request)
        if self._fail_first > 0:
            self._fail_first -= 1
            yield self._delay, failed(request, "server", "scripted failure (fail_first)", retry=True)
            return
        failure = _look_up(self._failures, question)
        if failure is not None:
            yield self._delay, failed(request, failure["kind"], failure["message"], retry=failure["retry"])
            return
        output = self._output(request, question)
        if request.stream:
            for count, word in enumerate(_WORD.findall(output.text), 1):
                yield self._delay + self._seconds(count), Piece(request.id, word)
        yield output.seconds or 0.0, output

    def _output(self, request: Request, question: str) -> Output:
        text, finish = self._chosen(request, question), "stop"
        stops = request.params.get("stop") or ()
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.partition(stop)[0] if stop else text
        words = _WORD.findall(text)
        most = request.params.get("max_tokens")
        if isinstance(most, int) and 0 <= most < len(words):
            words, finish = words[:most], "length"
            text = "".join(words)
        asked = self.count_tokens(request)
        return Output(
            request.id,
            text,
            finish,
            prompt_tokens=asked,
            output_tokens=len(words),
            seconds=self._delay + self._seconds(len(words)),
            first_token_seconds=self._delay + self._seconds(min(len(words), 1)),
            cost=cost(self._model.price, asked, len(words)),
        )

    def _chosen(self, request: Request, question: str) -> str:
        answers = _look_up(self._answers, question)
        if answers is None:
            return question
        if (request.params.get("temperature") or 0) <= 0:
            return str(answers[0])
        seed = request.params.get("seed", request.seed)
        drawn = random.Random(request.repeat if seed is None else seed)  # noqa: S311 - nothing secret
        return str(drawn.choice(answers))

    def _seconds(self, tokens: int) -> float:
        return tokens / self._speed if self._speed else 0.0


def _id_of(item: Piece | Output) -> str:
    return item.request_id


def _question(request: Request) -> str:
    """The last thing that the user said, or the raw text."""
    asked = [message.text for message in request.messages if message.role in ("user", "raw")]
    return asked[-1] if asked else ""


def _look_up(table: Mapping[str, Any], question: str) -> Any:
    if question in table:
        return table[question]
    return next((value for key, value in table.items() if re.search(key, question)), None)


def _table(model: Model, name: str) -> Mapping[str, Json]:
    table = model.settings.get(name, {})
    if not isinstance(table, Mapping):
        raise ModelError(f"model '{model.alias}': '{name}' has to map questions to answers, not be {table!r}")
    for key in table:
        try:
            re.compile(str(key))
        except re.error as error:
            raise ModelError(
                f"model '{model.alias}': '{key}' in '{name}' is no regular expression: {error}; escape it with \\"
            ) from error
    return {str(key): value for key, value in table.items()}


def _texts(model: Model, key: str, value: Json) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    if not texts or any(isinstance(text, dict | list | None) for text in texts):
        raise ModelError(f"model '{model.alias}': the answer to '{key}' has to be a text or a list of texts")
    return tuple(str(text) for text in texts)


def _failure(model: Model, key: str, value: Json) -> dict[str, Any]:
    told = {"kind": value} if isinstance(value, str) else value
    if not isinstance(told, Mapping) or "kind" not in told or told.keys() - {"kind", "message", "retry"}:
        raise ModelError(f"model '{model.alias}': 'fail: {key}' has to be a kind, or of kind, message and retry")
    return {"message": "scripted failure", "retry": False, **told}


def _number(model: Model, name: str) -> float:
    value = model.settings.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ModelError(f"model '{model.alias}': '{name}' is {value!r}; it has to be a number from 0 up")
    return float(value)
