"""llama.cpp in this process: all requests at hand are answered as one batch over one trie (`scheduler`).

In company the last digits of a logit differ from those alone, since llama.cpp's kernels for one token and
for many differ with quantised weights: a greedy answer alone and in a batch may be another text. The order
depends on the requests alone, so the same plan on the same machine and version gives the same answers.
With the setting `exact: true` each request is evaluated from an empty cache as if it were alone: slower,
and the same bit for bit whatever came before or beside it. Models whose state can't be branched (recurrent,
hybrid) are always asked so.

Tokens of an answer are counted without the one that ends it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path

import psutil

from workbench.engines.base import Capabilities, Piece, Requests, Speed, failed
from workbench.engines.llama import chat, files, library, quantise
from workbench.engines.llama.adapters import read_adapters, scales_of
from workbench.engines.llama.answer import MOST_LOGPROBS, Answer, Choice
from workbench.engines.llama.attention import flash_helps
from workbench.engines.llama.context import BATCH, Context, Shape
from workbench.engines.llama.embed import Embedder
from workbench.engines.llama.lock import Turn
from workbench.engines.llama.measure import measure
from workbench.engines.llama.sampling import PARAMS, Chain, GrammarError, Sampling, check_grammar, grammar_of
from workbench.engines.llama.scheduler import Counters, Scheduler
from workbench.engines.llama.settings import check_settings
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.errors import ModelError
from workbench.records import Json, Message, Model, Output, Request, content_id

DEFAULT_CONTEXT = 4096
BRANCHES = 48
"""Answers alive at once."""
SEQUENCES = 128
CACHE_SHARE = 0.25
"""Of the free memory: what the cache may take beyond one request's context."""
OTHER_FORMS = ("q4_0", "q8_0", "f16")
TRY_BYTES = 1_000_000_000
"""A file below this size is re-quantised to see whether it would be faster."""
MOST_AT_ONCE = 20_000
"""Requests taken together."""
IDLE_SECONDS = 0.2
"""How long to wait for requests at a time when there is nothing to do."""


class LlamaEngine:
    """A GGUF model. Settings: `path` (see `files.find`), `quantise`, `context` (tokens), `threads`,
    `batch` (prompt tokens evaluated at once), `seed` (for requests that bring none), `exact`, and `raw`
    (the messages' texts, a line apart, without the chat template), `lora` (see `adapters`); in workbench.yaml
    `threads`, `batch`, `seed` and `exact` stand under `options`.

    Raises ModelError for a wrong setting, a missing or damaged file, or where llama-cpp-python is missing.
    """

    in_process = True

    def __init__(self, model: Model) -> None:
        self._alias = model.alias
        self._settings = check_settings(model)
        self._form = quantise.check_format(model.settings["quantise"]) if "quantise" in model.settings else None
        self._source = files.find(self._settings)
        self._adapters = read_adapters(self._settings)
        self._template = chat.read_template(self._settings)
        self.vocabulary = Vocabulary(self._source, self._template)
        self._context: Context | None = None
        self._scheduler: Scheduler[Answer] | None = None
        self._samplings: dict[str, Sampling] = {}
        """Parameters as they are written → what they mean: the trials of a variant share theirs."""

    @classmethod
    def preview(cls, model: Model) -> dict[str, object]:
        """What `describe` tells, without fetching anything; raises ModelError where there is nothing to open."""
        settings = check_settings(model)
        path = files.find(settings, download=False)
        form = quantise.check_format(settings["quantise"]) if "quantise" in settings else None
        vocabulary = Vocabulary(path, chat.read_template(settings))
        return {
            **described(path, vocabulary, form),
            "adapters": [adapter.shown for adapter in read_adapters(settings)],
            "context": _context_size(settings, vocabulary),
        }

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
            exact=self._one_by_one,
            logprobs=MOST_LOGPROBS,
            choices=self.vocabulary.branches,
            grammar=True,
            schema=True,
            embeddings=self._pooling is not None,
            max_context=self._tokens_at_most,
            params=PARAMS | {"lora"} if self._adapters else PARAMS,
        )

    @property
    def _one_by_one(self) -> bool:
        """Whether each request is evaluated from an empty cache, as if alone."""
        return self._settings.get("exact", False) or not self.vocabulary.branches

    @cached_property
    def identity(self) -> str:
        ways = "".join(f" {name}" for name in ("exact", "raw") if self._settings.get(name))
        ways += "".join(f" {adapter.identity}" for adapter in self._adapters)
        ways += f" template:{content_id('ct1', self._template)}" if self._template else ""
        return f"gguf:{files.sha256(self.path)} llama-cpp-python:{library.installed_version()}{ways}"

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Raises ModelError for a parameter that no request could be asked with."""
        self._sampling(params)
        self._scales(params)

    def count_tokens(self, request: Request) -> int:
        """Exact; loads no weights. Raises ModelError where the messages cannot be asked."""
        try:
            return len(self._tokens(request))
        except chat.ChatError as error:
            raise ModelError(str(error)) from error

    def describe(self) -> dict[str, object]:
        """Loads no weights and makes no quantisation."""
        known = described(self._source, self.vocabulary, self._form)
        return {**known, "adapters": [a.shown for a in self._adapters], "context": self._tokens_at_most}

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """All requests that are at hand are answered together; see `engines.base.Engine`."""
        with Turn() as turn:
            while True:
                ready = requests.take(MOST_AT_ONCE, 0)
                if not ready:
                    turn.give_back()  # another process may decode while we wait
                    if requests.closed:
                        return
                    ready = requests.take(MOST_AT_ONCE, IDLE_SECONDS)
                if ready:
                    turn.take()
                    yield from self._answer(ready, requests)

    def work(self) -> dict[str, float]:
        return {} if self._scheduler is None else asdict(self._scheduler.counters)

    def measure(self) -> list[Speed]:
        """This file, then what it would be as q4_0, q8_0 and f16; a large file is not re-quantised for it."""
        self.close()
        threads, own = self._shape.threads, self._form or quantise.format_name(self._file_type) or "as it is"
        together = self.vocabulary.branches
        found = [measure(self.path, self._alias, threads, together, self._adapters)]
        source = sum(shard.stat().st_size for shard in files.shards(self._source))
        for form in OTHER_FORMS:
            if form != own and (source < TRY_BYTES or quantise.is_made(self._source, form)):
                base = self._alias.partition("+")[0]
                found.append(
                    measure(quantise.quantised(self._source, form), f"{base}+{form}", threads, together, self._adapters)
                )
        return found

    @property
    def _file_type(self) -> str | None:
        return self.vocabulary.metadata.get("general.file_type")

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    @cached_property
    def _tokens_at_most(self) -> int:
        """What one request may have, prompt and answer together."""
        return _context_size(self._settings, self.vocabulary)

    @cached_property
    def _shape(self) -> Shape:
        settings, most = self._settings, self._tokens_at_most
        affordable = int(psutil.virtual_memory().available * CACHE_SHARE) // self.vocabulary.cell_bytes
        shares = self.vocabulary.branches
        cells = max(most, min(most * 4, affordable)) if shares else most
        batch = min(settings.get("batch", BATCH), cells)
        return Shape(cells, batch, settings.get("threads") or physical_cores(), SEQUENCES if shares else 1)

    def _tokens(self, request: Request) -> list[int]:
        return self._prompt(request.messages)

    @cached_property
    def _prompt(self) -> Callable[[tuple[Message, ...]], list[int]]:
        """Messages → tokens; variants and repeats of a case share theirs."""
        return lru_cache(maxsize=1024)(self._tokenised)

    def _tokenised(self, messages: tuple[Message, ...]) -> list[int]:
        if self._settings.get("raw", False):
            messages = (Message.of("raw", "\n".join(message.text for message in messages)),)
        return chat.tokens(messages, self.vocabulary)

    def _opened(self, answers: Sequence[Answer]) -> Scheduler[Answer]:
        """Weights, and a cache with attention as these requests want it."""
        shape = self._shape
        if not self._one_by_one and len(answers) > 1:
            asked = [(answer.prompt, answer.room) for answer in answers]
            shape = replace(shape, flash=flash_helps(asked, BRANCHES, shape, self.vocabulary.heads))
        if self._context is None or self._scheduler is None:
            counters = self._scheduler.counters if self._scheduler else Counters()
            self._context = Context(self.path, shape, adapters=self._adapters)
            self._scheduler = Scheduler(self._context, BRANCHES, counters)
        elif self._context.shape.flash != shape.flash and len(answers) > 1:
            self._scheduler.forget()
            self._context.reopen(shape)
        return self._scheduler

    def _answer(self, requests: list[Request], source: Requests) -> Iterator[Piece | Output]:
        """Answers a set of requests, together or one by one."""
        tuned: dict[tuple[float, ...], list[Answer]] = {}
        yield from self._embedded([request for request in requests if "embedding" in request.answer])
        for request in requests:
            if "embedding" in request.answer:
                continue
            try:
                answer = self._prepared(request)
                tuned.setdefault(self._scales(request.params), []).append(answer)
            except (chat.ChatError, GrammarError, ModelError) as error:
                yield failed(request, "refused", str(error))
            except _TooLongError as error:
                yield failed(request, "too_long", str(error))
        answers = list(chain.from_iterable(tuned.values()))
        if not answers:
            return
        scheduler, one_by_one = self._opened(answers), self._one_by_one
        apart = one_by_one or any(answer.request.alone for answer in answers)
        for scales, together in tuned.items():
            for group in [[answer] for answer in together] if apart else [together]:
                if one_by_one or group[0].request.alone:
                    scheduler.forget()
                yield from self._together(group, scheduler, scales, source)

    def _together(
        self, answers: list[Answer], scheduler: Scheduler[Answer], scales: tuple[float, ...], source: Requests
    ) -> Iterator[Piece | Output]:
        scheduler.adapt(scales)
        for answer in answers:
            answer.begin()
        alone = len(answers) == 1
        alive = dict.fromkeys(answers)
        streaming = [answer for answer in answers if answer.request.stream]

        def cancelled() -> list[Answer]:
            gone = source.cancelled()
            return [answer for answer in alive if answer.request.id in gone] if gone else []

        try:
            for step in scheduler.run([a for a in answers if not a.finish], cancelled):
                for answer in streaming:
                    yield from answer.take_pieces()
                for answer in step.dropped:
                    del alive[answer]
                    yield answer.cancelled()
                for answer in step.over:
                    del alive[answer]
                    scheduler.counters.asked += len(answer.path) + sum(map(len, answer.continuations))
                    yield answer.output(alone)
            for answer in alive:  # those that may have no token
                yield answer.output(alone)
        finally:
            for answer in answers:
                answer.close()

    @property
    def _pooling(self) -> str | None:
        """How token embeddings become one: the setting, else "the model's own" where it says one."""
        architecture = self.vocabulary.metadata.get("general.architecture", "")
        own = "" if f"{architecture}.pooling_type" in self.vocabulary.metadata else None
        pooling: str | None = self._settings.get("pooling", own)
        return pooling

    def _embedded(self, requests: list[Request]) -> Iterator[Output]:
        most = self._tokens_at_most
        tuned: dict[tuple[float, ...], list[tuple[Request, list[int]]]] = {}
        for request in requests:
            tokens = self.vocabulary.whole("\n".join(message.text for message in request.messages))
            if len(tokens) > most:
                yield failed(request, "too_long", f"the text has {len(tokens)} tokens; the context holds {most}")
                continue
            try:
                tuned.setdefault(self._scales(request.params), []).append((request, tokens))
            except ModelError as error:
                yield failed(request, "refused", str(error))
        if not tuned:
            return
        shape = replace(self._shape, batch=most)
        with closing(Embedder(self.path, shape, self._pooling or None, self._adapters)) as embedder:
            for scales, texts in tuned.items():
                vectors = embedder.embed([tokens for _, tokens in texts], scales)
                for (request, tokens), vector in zip(texts, vectors, strict=True):
                    yield Output(request.id, prompt_tokens=len(tokens), cost=0.0, extra={"embedding": vector.tolist()})

    def _prepared(self, request: Request) -> Answer:
        sampling = self._sampling(request.params)
        prompt = self._tokens(request)
        choices: dict[str, list[int]] = {}
        if "choices" in request.answer:
            choices = {str(c): self.vocabulary.tokens(str(c), special=False) for c in request.answer["choices"]}
            if not choices or not all(choices.values()):
                raise chat.ChatError("every choice needs a text; give at least one")
        if not prompt and len(choices) == 1:  # a text by itself: what stands before its first token is unknown
            [(text, tokens)] = choices.items()
            prompt, choices = tokens[:1], {text: tokens[1:]}
            if not choices[text]:
                raise chat.ChatError("a text of one token, read after nothing, has no likelihood; give a longer one")
        if not prompt:
            raise chat.ChatError("the prompt is empty; write something into it")
        if choices:
            self._check_room(len(prompt) + max(map(len, choices.values())) - 1)
            return Choice(request, prompt, choices, self.vocabulary)
        self._check_room(len(prompt))
        room = self._tokens_at_most - len(prompt)
        limit = room if sampling.max_tokens < 0 else min(sampling.max_tokens, room)
        answer = Answer(request, prompt, limit, sampling, self.vocabulary)
        grammar = grammar_of(request.answer)
        if grammar is not None:
            check_grammar(self.vocabulary, grammar)
        if grammar is not None or not sampling.takes_the_best:
            seeds = (sampling.seed, request.seed, self._settings.get("seed"), 0)
            seed = next(seed for seed in seeds if seed is not None)

            def make_chain() -> Chain:
                return Chain(sampling, self.vocabulary, seed).build(prompt, self._tokens_at_most, grammar)

            answer.sample_with(make_chain, None if grammar is not None else sampling.shortlist)
        return answer

    def _sampling(self, params: Mapping[str, Json]) -> Sampling:
        written = repr(sorted(params.items()))
        if written not in self._samplings:
            rest = {name: value for name, value in params.items() if name != "lora"}
            self._samplings[written] = Sampling.from_params(rest)
        return self._samplings[written]

    def _scales(self, params: Mapping[str, Json]) -> tuple[float, ...]:
        """How strongly each adapter counts."""
        return scales_of(self._adapters, params.get("lora"))

    def _check_room(self, tokens: int) -> None:
        if tokens >= self._tokens_at_most:
            raise _TooLongError(
                f"the prompt has {tokens} tokens and the context holds {self._tokens_at_most}; "
                "shorten it or set a larger `context`"
            )


class _TooLongError(Exception):
    """A request that would not fit even alone."""


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
        "shares_prefixes": vocabulary.branches,
    }


def _context_size(settings: Mapping[str, Json], vocabulary: Vocabulary) -> int:
    return int(settings.get("context") or min(vocabulary.trained_context, DEFAULT_CONTEXT))


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once: more threads than that only slow down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
