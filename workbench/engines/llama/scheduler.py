"""Continuous batching over one trie: every step one `llama_decode` for everything that is alive.

A step carries the next token of every live branch and, as far as the batch has room, chunks of prompts.
Trials that begin alike share a branch while their sampled tokens agree: they draw from the same logits,
each with its own sampler chain and random state, so each answer is distributed as if sampled alone.

- Prompts are taken depth first, so that a prefix is freed when its last user is done.
- A prompt is admitted when its tokens and a first stretch of its answers fit. Should the cache fill up all
  the same, the youngest branch is put back among the prompts and evaluated again later (`again`).
- The order depends on the requests alone, never on time: the same requests give the same steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from workbench.engines.llama.context import Context, Row
from workbench.engines.llama.trie import Node, Read, Trie
from workbench.errors import EngineError

LOOK_AHEAD = 32
"""Tokens of each answer that are kept free when a prompt is admitted."""
PASS_OVER = 16
"""How many prompts that can't begin yet are passed over in search of one that can."""


class Trial(Protocol):
    """One request on its way, as the scheduler sees it."""

    @property
    def continuations(self) -> Sequence[Sequence[int]]:
        """What is to be read after the prompt; none: an answer is sampled."""

    @property
    def path(self) -> Sequence[int]:
        """Prompt, and the answer so far."""

    @property
    def room(self) -> int:
        """How many tokens its answer may still have."""

    def draw(self, row: Row) -> int | None:
        """Takes the next token; None when the answer is over."""

    def read(self, choice: int, token: int, row: Row) -> bool:
        """Takes the log-probability of a choice's token; True when it was the last that was wanted."""


T = TypeVar("T", bound=Trial)


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """What one step ended."""

    over: Sequence[T]
    dropped: Sequence[T]
    """Cancelled."""


@dataclass(slots=True)
class Counters:
    """What was done, counted."""

    asked: int = 0
    """Tokens of prompts and answers, each request by itself."""
    evaluated: int = 0
    """Tokens that went through `llama_decode`, …"""
    again: int = 0
    """… of which had been evaluated before and were dropped for room."""
    steps: int = 0
    decode_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of a node that one step evaluates."""

    node: Node
    tokens: Sequence[int]
    rows: dict[int, int] = field(default_factory=dict)
    """Depth → entry of the batch whose logits are wanted."""


class Scheduler(Generic[T]):
    """Answers sets of requests; between them shared prefixes stay in the cache while there is room.

    `branches` bounds how many answers are alive at once.
    """

    def __init__(self, context: Context, branches: int, counters: Counters) -> None:
        self._context, self._branches, self.counters = context, branches, counters
        self._clear()

    def run(self, trials: Sequence[T], cancelled: Callable[[], Sequence[T]]) -> Iterator[Step[T]]:
        """Answers the trials; yields after each step. Left early, it forgets all."""
        start = perf_counter()
        try:
            for trial in trials:
                self._insert(trial)
            self._queue()
            while self._agenda or self._waiting or self._going:
                self._begin()
                over = self._step()
                step = Step(over, [trial for trial in cancelled() if trial not in over])
                for trial in step.dropped:
                    self._drop(trial)
                self.counters.seconds += perf_counter() - start
                yield step
                start = perf_counter()
        finally:
            if self._agenda or self._waiting or self._going:
                self.forget()
            self._keep_few()

    def _step(self) -> list[T]:
        """One `llama_decode`; returns the trials that it ended."""
        chunks = self._batch()
        before = perf_counter()
        self._context.decode()
        self.counters.decode_seconds += perf_counter() - before
        self.counters.steps += 1
        return [trial for chunk in chunks for trial in self._after(chunk)]

    def forget(self) -> None:
        """Empties the cache."""
        self._context.clear()
        self._clear()

    def _clear(self) -> None:
        self._trie = Trie(self._on_split)
        self._agenda: deque[Node] = deque()
        """Prompt nodes that are to begin, depth first."""
        self._waiting: deque[Node] = deque()
        """Answer nodes that are to begin: they wait for a sequence."""
        self._going: list[Node] = []
        """Nodes with tokens to evaluate, the oldest first."""
        self._free = list(range(self._context.sequences - 1, -1, -1))
        self._used = 0
        """Cells of the cache."""

    # What is asked

    def _insert(self, trial: T) -> None:
        path = trial.path
        if not trial.continuations:
            self._place(self._trie.insert(path)).trials.append(trial)
        for number, tokens in enumerate(trial.continuations):
            for i, token in enumerate(tokens):
                node = self._place(self._trie.insert([*path, *tokens[:i]]))
                node.reads.append(Read(len(path) + i, token, trial, number))

    def _place(self, node: Node) -> Node:
        """Where logits at the end of a node can be had: a node that is in the cache gives none any more."""
        if not node.begun:
            return node
        tail = next((c for c in node.parent.children if c.again and not c.begun), None) if node.parent else None
        return tail if tail and tail.tokens == node.tokens[-1:] else self._trie.last_token(node)

    def _on_split(self, upper: Node, lower: Node) -> None:
        """Both parts of a node in the cache get a sequence of their own."""
        if lower.begun and lower.seq is not None:
            upper.seq = self._free.pop()
            self._context.copy(lower.seq, upper.seq, upper.end)

    def _keep_few(self) -> None:
        """Keeps the newest shared prefixes for the next requests, in at most a quarter of the sequences."""
        kept = [node for node in self._trie.walk() if node.seq is not None]
        for node in kept[: max(0, len(kept) - self._context.sequences // 4)]:
            if not node.children:
                self._close(node)

    def _queue(self) -> None:
        self._agenda = deque(node for node in self._trie.walk() if not node.begun)

    # The steps

    def _begin(self) -> None:
        """Begins what can begin: branches of answers first, then prompts, depth first."""
        while self._waiting and self._has_sequence(self._waiting[0]):
            self._open(self._waiting.popleft())
        passed: list[Node] = []
        room = self._context.batch - sum(len(n.tokens) - n.done for n in self._going)
        while self._agenda and room > 0 and not self._waiting and len(passed) < PASS_OVER:
            node = self._agenda.popleft()
            assert node.parent is not None
            if node.parent.complete and not self._admits(node):
                self._agenda.appendleft(node)
                break
            if node.parent.complete:
                self._open(node)
                room -= len(node.tokens)
            else:
                passed.append(node)
        self._agenda.extendleft(reversed(passed))
        if not self._going:
            self._force()

    def _admits(self, node: Node) -> bool:
        """Whether a prompt may begin beside what is alive: sequences, branches and cells."""
        alive = [n for n in self._going if n.trials]
        trials = sum(len(n.trials) for n in alive) + sum(len(n.trials) for n in self._waiting)
        if not self._has_sequence(node) or (trials and trials + len(node.trials) > self._branches):
            return False
        coming = sum(len(n.tokens) - n.done for n in [*self._going, *self._waiting]) + len(node.tokens)
        answers = sum(min(LOOK_AHEAD, t.room) for n in [*alive, *self._waiting, node] for t in n.trials)
        return self._make_room(coming + answers, node)

    def _force(self) -> None:
        """Nothing is alive: room is made for the first in line, which fits alone."""
        node = self._waiting.popleft() if self._waiting else self._agenda.popleft()
        if not self._make_room(len(node.tokens), node) or not self._has_sequence(node):
            raise EngineError(f"no room for {len(node.tokens)} tokens in an empty cache of {self._context.cells}")
        self._open(node)

    def _make_room(self, cells: int, node: Node) -> bool:
        """Drops prefixes that are kept for later, the oldest first, until so many cells are free."""
        if self._used + cells <= self._context.cells:
            return True
        line = set(_line(node))
        for leaf in [n for n in self._trie.walk() if n.begun and not n.children and n.complete]:
            kept: Node | None = leaf
            while kept and kept.parent and not (kept.children or kept.needed or kept.reads or kept in line):
                parent = kept.parent
                self._close(kept)
                if self._used + cells <= self._context.cells:
                    return True
                kept = parent
        return False

    def _batch(self) -> list[Chunk]:
        """Fills the batch: a token of every branch, then as much of the prompts as there is room for."""
        while self._used + sum(n.answer for n in self._going) > self._context.cells:
            youngest = next(n for n in reversed(self._going) if n.answer)
            if not self._make_room(sum(n.answer for n in self._going), youngest):
                self._put_back(youngest)
        chunks = []
        room = min(self._context.batch, self._context.cells - self._used)
        for node in sorted(self._going, key=lambda n: not n.answer):
            tokens = node.tokens[node.done : node.done + room]
            if not tokens:
                break
            room -= len(tokens)
            chunks.append(self._add(node, tokens))
        return chunks

    def _add(self, node: Node, tokens: Sequence[int]) -> Chunk:
        chunk, wanted = Chunk(node, tokens), node.wanted
        for position, token in enumerate(tokens, node.start + node.done):
            entry = self._context.add(token, position, node.seq, position + 1 in wanted)
            if position + 1 in wanted:
                chunk.rows[position + 1] = entry
        node.done += len(tokens)
        self._used += len(tokens)
        self.counters.evaluated += len(tokens)
        self.counters.again += len(tokens) if node.again else 0
        return chunk

    def _after(self, chunk: Chunk) -> Iterator[T]:
        """Takes what a step gave: log-probabilities that were wanted, the next tokens of the trials."""
        node = chunk.node
        rows = {depth: self._context.row(entry) for depth, entry in chunk.rows.items()}
        for read in [r for r in node.reads if r.depth in rows]:
            node.reads.remove(read)
            if read.trial.read(read.choice, read.token, rows[read.depth]):
                yield read.trial
        if not node.complete:
            return
        groups: dict[int, list[T]] = {}
        trials, node.trials = node.trials, []
        for trial in trials:
            token = trial.draw(rows[node.end])
            if token is None:
                yield trial
            else:
                groups.setdefault(token, []).append(trial)
        if node.answer and len(groups) == 1:
            [(token, node.trials)] = groups.items()
            node.tokens.append(token)
            return
        self._going.remove(node)
        for token, group in groups.items():
            self._waiting.append(node.add(Node(node, [token], node.end, answer=True, trials=group)))
        self._close_if_over(node)

    # Sequences

    def _has_sequence(self, node: Node) -> bool:
        assert node.parent is not None
        return bool(self._free) or (node.parent.seq is not None and not node.parent.shared)

    def _open(self, node: Node) -> None:
        """Gives a node the sequence in which its tokens are evaluated: its parent's, or a copy of it."""
        parent = node.parent
        assert parent is not None
        if parent.seq is not None and not parent.shared:
            node.seq, parent.seq = parent.seq, None
        else:
            node.seq = self._free.pop()
            if node.start:
                self._context.copy(parent.holder(), node.seq, node.start)
        node.begun = True
        self._going.append(node)

    def _close_if_over(self, node: Node) -> None:
        """Frees a node that nothing needs any more, and those above it; shared prefixes stay."""
        over: Node | None = node
        while over and over.parent and over.complete and not (over.children or over.trials or over.shared):
            parent = over.parent
            self._close(over)
            over = parent

    def _close(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        parent.remove(node)
        self._used -= node.done
        if node.seq is None:
            return
        if parent.parent is not None and parent.children and parent.holder() is None:
            self._context.trim(node.seq, parent.end)  # what waits below the parent branches from it
            parent.seq = node.seq
        else:
            self._context.trim(node.seq, 0)
            self._free.append(node.seq)
        node.seq = None

    def _put_back(self, node: Node) -> None:
        """Drops a branch for room; its trials wait among the prompts, with the answers they have so far."""
        trials, node.trials = node.trials, []
        self._discard(node)
        for trial in trials:
            self._trie.insert(trial.path, again=True).trials.append(trial)
        self.counters.again -= 1  # its newest token was not evaluated yet
        self._queue()

    def _drop(self, trial: T) -> None:
        """Forgets a trial wherever it stands."""
        for node in [*self._going, *self._waiting, *self._agenda]:
            node.reads = [read for read in node.reads if read.trial is not trial]
            if trial in node.trials:
                node.trials.remove(trial)
            if not (node.trials or node.reads or node.children):
                self._discard(node)

    def _discard(self, node: Node) -> None:
        for place in (self._going, self._waiting, self._agenda):
            if node in place:
                place.remove(node)
        parent = node.parent
        assert parent is not None
        self._close(node)
        self._close_if_over(parent)


def _line(node: Node) -> Iterator[Node]:
    """A node and those above it."""
    at: Node | None = node
    while at is not None:
        yield at
        at = at.parent
