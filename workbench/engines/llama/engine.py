"""llama.cpp in this process: one request after the other, plain and correct.

What the previous request left in the KV cache is used again as far as the two prompts begin alike. That
changes the shape in which the rest is evaluated, and so, with quantised weights, the last digits of the
logits: of 100 greedy answers of 32 tokens (SmolLM2, Q4_1, film reviews) 34 were another text than from an
empty cache. So the setting `exact: true`: prompts are evaluated in steps of 64 tokens and only whole steps
of a prompt are used again. Every evaluation then has the shape it would have from an empty cache, and the
answer is the same bit for bit whatever came before.

Tokens of an answer are counted without the one that ends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil

from workbench.engines.base import Capabilities, Piece, Requests, failed
from workbench.engines.llama import chat, files, library, quantise
from workbench.engines.llama.context import Context, Shape
from workbench.engines.llama.lock import Turn
from workbench.engines.llama.sampling import PARAMS, Chain, GrammarError, Sampling, grammar_of
from workbench.engines.llama.stream import TextStream
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.errors import ModelError, suggest
from workbench.records import Json, Message, Model, Output, Request

DEFAULT_CONTEXT = 4096
IDLE_SECONDS = 0.2
"""How long to wait for requests at a time when there is nothing to do."""
MOST_LOGPROBS = 100
_SETTINGS: dict[str, type[str] | type[int]] = {
    "path": str,
    "quantise": str,
    "context": int,
    "threads": int,
    "batch": int,
    "seed": int,
    "exact": bool,
    "raw": bool,
}


@dataclass(slots=True)
class _Answer:
    """One request on its way."""

    request: Request
    prompt: list[int]
    sampling: Sampling
    seed: int
    stream: TextStream
    limit: int
    """How many tokens it may have."""
    started: float = field(default_factory=time.perf_counter)
    first: float | None = None
    count: int = 0
    finish: str = ""
    """Empty while it is not done."""
    logprobs: list[Json] = field(default_factory=list)

    def output(self) -> Output:
        return Output(
            self.request.id,
            self.stream.text,
            self.finish,
            prompt_tokens=len(self.prompt),
            output_tokens=self.count,
            seconds=time.perf_counter() - self.started,
            first_token_seconds=self.first,
            logprobs=tuple(self.logprobs),
        )


class LlamaEngine:
    """A GGUF model. Settings: `path` (see `files.find`), `quantise`, `context` (tokens), `threads`,
    `batch` (prompt tokens evaluated at once), `seed` (for requests that bring none), `exact`, and `raw`
    (the messages' texts, a line apart, without the chat template); in workbench.yaml `threads`, `batch`,
    `seed` and `exact` stand under `options`.

    Raises ModelError for a wrong setting, a missing or damaged file, or where llama-cpp-python is missing.
    """

    in_process = True

    def __init__(self, model: Model) -> None:
        self._settings = _checked(model)
        self._form = quantise.check_format(model.settings["quantise"]) if "quantise" in model.settings else None
        self._source = files.find(self._settings)
        self.vocabulary = Vocabulary(self._source)
        self._context: Context | None = None

    @classmethod
    def preview(cls, model: Model) -> dict[str, object]:
        """What `describe` tells, without fetching anything; raises ModelError where there is nothing to open."""
        settings = _checked(model)
        path = files.find(settings, download=False)
        form = quantise.check_format(settings["quantise"]) if "quantise" in settings else None
        vocabulary = Vocabulary(path)
        return {**described(path, vocabulary, form), "context": _context_size(settings, vocabulary)}

    @cached_property
    def path(self) -> Path:
        """The file that answers: the model's own, or its quantisation, which is made if need be."""
        return self._source if self._form is None else quantise.quantised(self._source, self._form)

    @cached_property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            chat=self.vocabulary.template is not None or self._settings.get("raw", False),
            raw=True,
            seeds=True,
            repeatable=True,
            logprobs=MOST_LOGPROBS,
            grammar=True,
            schema=True,
            max_context=self._shape.tokens,
            params=PARAMS,
        )

    @cached_property
    def identity(self) -> str:
        return f"gguf:{files.sha256(self.path)} llama-cpp-python:{library.installed_version()}"

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Raises ModelError for a parameter that no request could be asked with."""
        Sampling.from_params(params)

    def count_tokens(self, request: Request) -> int:
        """Exact; loads no weights. Raises ModelError where the messages cannot be asked."""
        try:
            return len(self._tokens(request))
        except chat.ChatError as error:
            raise ModelError(str(error)) from error

    def describe(self) -> dict[str, object]:
        """Loads no weights and makes no quantisation."""
        return {**described(self._source, self.vocabulary, self._form), "context": self._shape.tokens}

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """Requests are answered in the order in which they come; see `engines.base.Engine`."""
        with Turn() as turn:
            while True:
                ready = requests.take(1, 0)
                if not ready:
                    turn.give_back()  # another process may decode while we wait
                    if requests.closed:
                        return
                    ready = requests.take(1, IDLE_SECONDS)
                for request in ready:
                    turn.take()
                    yield from self._answer(request, requests)

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    @cached_property
    def _shape(self) -> Shape:
        settings = self._settings
        tokens = _context_size(settings, self.vocabulary)
        batch = min(settings.get("batch", 512), tokens)
        return Shape(tokens, batch, settings.get("threads") or physical_cores(), settings.get("exact", False))

    def _tokens(self, request: Request) -> list[int]:
        messages = request.messages
        if self._settings.get("raw", False):
            messages = (Message.of("raw", "\n".join(message.text for message in messages)),)
        return chat.tokens(messages, self.vocabulary)

    def _loaded(self) -> Context:
        if self._context is None:
            self._context = Context(self.path, self._shape)
        return self._context

    def _answer(self, request: Request, requests: Requests) -> Iterator[Piece | Output]:
        try:
            context = self._loaded()
            answer = self._prepared(request)
            room = self._shape.tokens - len(answer.prompt)
            if room <= 0:
                message = (
                    f"the prompt has {len(answer.prompt)} tokens and the context holds {self._shape.tokens}; "
                    "shorten it or set a larger `context`"
                )
                yield failed(request, "too_long", message)
                return
            with closing(Chain(answer.sampling, self.vocabulary, answer.seed)) as chain:
                chain.build(answer.prompt, self._shape.tokens, grammar_of(request.answer))
                for text in self._steps(answer, context, chain):
                    if text and request.stream:
                        yield Piece(request.id, text)
                    if request.id in requests.cancelled():
                        yield failed(request, "cancelled", "nobody waits for this answer any more")
                        return
            yield answer.output()
        except (chat.ChatError, GrammarError, ModelError) as error:
            yield failed(request, "refused", str(error))

    def _prepared(self, request: Request) -> _Answer:
        sampling = Sampling.from_params(request.params)
        prompt = self._tokens(request)
        if not prompt:
            raise chat.ChatError("the prompt is empty; write something into it")
        room = max(self._shape.tokens - len(prompt), 0)
        limit = room if sampling.max_tokens < 0 else min(sampling.max_tokens, room)
        seeds = (sampling.seed, request.seed, self._settings.get("seed"), 0)
        seed = next(seed for seed in seeds if seed is not None)
        return _Answer(request, prompt, sampling, seed, TextStream(sampling.stop), limit)

    def _steps(self, answer: _Answer, context: Context, chain: Chain) -> Iterator[str]:
        """Answers; gives back, after each step, the text that has become certain."""
        for _ in context.evaluate(answer.prompt):
            yield ""
        while not answer.finish:
            if answer.count == answer.limit:
                answer.finish = "length"
                break
            token = context.sample(chain)
            answer.first = answer.first or time.perf_counter() - answer.started
            if self.vocabulary.is_end(token):
                answer.finish = "stop"
                break
            answer.count += 1
            if answer.request.logprobs:
                answer.logprobs.append(self._logprob(token, context, answer.request.logprobs))
            text = answer.stream.push(self.vocabulary.piece(token))
            if answer.stream.stopped:
                answer.finish = "stop"
            elif answer.count < answer.limit:
                context.advance(token)
            yield text
        yield answer.stream.finish()

    def _logprob(self, token: int, context: Context, top: int) -> Json:
        values = context.log_probabilities()
        best = values.argsort()[::-1][: min(top, MOST_LOGPROBS)]
        shown = self.vocabulary.shown
        return {
            "token": shown(token),
            "logprob": float(values[token]),
            "top": [[shown(int(i)), float(values[i])] for i in best],
        }


def described(path: Path, vocabulary: Vocabulary, form: str | None) -> dict[str, object]:
    """What is known of a model from its file's header alone."""
    metadata = vocabulary.metadata
    own = quantise.format_name(metadata.get("general.file_type"))
    ready = form is None or quantise.is_made(path, form)
    file = quantise.cached_path(path, form) if form is not None and ready else path
    return {
        "file": str(file),
        "name": metadata.get("general.name"),
        "architecture": metadata.get("general.architecture"),
        "parameters": metadata.get("general.size_label"),
        "bytes": sum(shard.stat().st_size for shard in files.shards(file)),
        "quantisation": own if form in (None, own) else f"{form} from {own}" + ("" if ready else ", not made yet"),
        "trained_context": vocabulary.trained_context,
        "licence": metadata.get("general.license"),
        "chat_template": vocabulary.template is not None,
    }


def _context_size(settings: Mapping[str, Json], vocabulary: Vocabulary) -> int:
    return int(settings.get("context") or min(vocabulary.trained_context, DEFAULT_CONTEXT))


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once: more threads than that only slow down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _checked(model: Model) -> Mapping[str, Json]:
    """The settings, each of the right type; raises ModelError naming the model and the setting."""
    for name, value in model.settings.items():
        if name not in _SETTINGS:
            raise ModelError(f"model '{model.alias}': unknown setting '{name}'{suggest(name, _SETTINGS)}")
        wanted = _SETTINGS[name]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ModelError(f"model '{model.alias}': '{name}' is {value!r}; it has to be of type {wanted.__name__}")
        if name in ("context", "threads", "batch") and int(value) < 1:
            raise ModelError(f"model '{model.alias}': '{name}' is {value}; it has to be at least 1")
    return model.settings
