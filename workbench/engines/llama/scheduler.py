"""Continuous batching over one trie: every step one `llama_decode` for everything that is alive.

A step carries the next token of every live branch and, as far as the batch has room, chunks of prompts.
Trials that begin alike share a branch while their sampled tokens agree: they draw from the same logits,
each with its own sampler chain and random state, so each answer is distributed as if sampled alone.

- Prompts are taken depth first, so that a prefix is freed when its last user is done.
- A prompt is admitted when its tokens and a first stretch of its answers fit. Should the cache fill up all
  the same, the youngest branch is put back among the prompts and evaluated again later (`again`). The oldest
  goes on always, so that everything ends: what fits alone never fails.
- The order depends on the requests alone, never on time: the same requests give the same steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

from workbench.engines.llama.context import Context
from workbench.engines.llama.trial import Trial
from workbench.engines.llama.trie import Node, Read, Trie
from workbench.errors import EngineError

LOOK_AHEAD = 32
"""Tokens of each answer that are kept free when a prompt is admitted."""
PASS_OVER = 16
"""How many prompts that can't begin yet are passed over in search of one that can."""


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
    """… of which had been evaluated before: dropped for room, or wanted anew by a later request."""
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
        self._scales: tuple[float, ...] = ()
        self._clear()

    def adapt(self, scales: Sequence[float]) -> None:
        """How strongly the context's adapters count in the next run; a prefix is shared under the same scales only."""
        self._context.adapt(scales)
        self._scales = tuple(scales)
        self._trie = self._tries.setdefault(self._scales, Trie())

    def run(self, trials: Sequence[T], cancelled: Callable[[], Sequence[T]]) -> Iterator[Step[T]]:
        """Answers the trials; yields after each step. Left early, it forgets all."""
        try:
            yield from self._run(trials, cancelled)
        except BaseException:
            self.forget()
            raise
        self._keep_few()

    def _run(self, trials: Sequence[T], cancelled: Callable[[], Sequence[T]]) -> Iterator[Step[T]]:
        start = perf_counter()
        for trial in trials:
            self._insert(trial)
        self._queue()
        while self._agenda or self._waiting or self._going:
            self._begin()
            over = self._step()
            step = Step(over, [trial for trial in cancelled() if trial not in over])
            if step.dropped:
                self._drop(step.dropped)
            self.counters.seconds += perf_counter() - start
            yield step
            start = perf_counter()

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
        self._trie = Trie()
        self._tries: dict[tuple[float, ...], Trie] = {self._scales: self._trie}
        """By the adapters' scales; all but the one at work hold idle prefixes only."""
        self._agenda: deque[Node] = deque()
        """Prompt nodes that are to begin, depth first."""
        self._waiting: deque[Node] = deque()
        """Answer nodes that are to begin: they wait for a sequence."""
        self._going: list[Node] = []
        """Nodes with tokens to evaluate, the oldest first."""
        self._idle: dict[Node, None] = {}
        """Shared prefixes that nothing here needs any more, the longest idle first."""
        self._free = list(range(self._context.sequences - 1, -1, -1))
        self._used = 0
        """Cells of the cache."""

    # What is asked

    def _insert(self, trial: T) -> None:
        path = trial.path
        if not trial.continuations:
            self._place(self._trie.insert(path)).trials.append(trial)
        for number, tokens in enumerate(trial.continuations):
            node = self._trie.insert([*path, *tokens[:-1]], own=len(path))
            for i in reversed(range(len(tokens))):
                depth = len(path) + i
                node = next(n for n in node.line() if n.start < depth)
                if node.complete:
                    node = self._place(self._trie.insert([*path, *tokens[:i]], own=len(path)))
                node.reads.append(Read(depth, tokens[i], trial, number))

    def _place(self, node: Node) -> Node:
        """Where logits at the end of a node can be had: a node that is in the cache gives none any more."""
        return self._trie.last_token(node) if node.complete else node

    def _keep_few(self) -> None:
        """Keeps the newest shared prefixes for the next requests, in at most a quarter of the sequences."""
        enough = self._context.sequences - self._context.sequences // 4
        while len(self._free) < enough and self._drop_idle():
            pass

    def _queue(self) -> None:
        self._agenda = deque(node for node in self._trie.walk() if not node.begun)

    # The steps

    def _begin(self) -> None:
        """Begins what can begin: branches of answers first, then prompts, depth first."""
        while self._waiting and self._make_room(0, node := self._first()):
            self._waiting.remove(node)
            self._open(node)
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
        if trials and trials + len(node.trials) > self._branches:
            return False
        coming = sum(len(n.tokens) - n.done for n in [*self._going, *self._waiting]) + len(node.tokens)
        answers = sum(min(LOOK_AHEAD, t.room) for n in [*alive, *self._waiting, node] for t in n.trials)
        return self._make_room(coming + answers, node)

    def _first(self) -> Node:
        """The first in line: an answer that can have a sequence before others."""
        if self._waiting:
            return next((node for node in self._waiting if self._has_sequence(node)), self._waiting[0])
        return self._agenda[0]

    def _force(self) -> None:
        """Nothing is alive: room is made for the first in line, which fits alone."""
        while not self._fits(len((node := self._first()).tokens), node):
            self._free_up(node)
        (self._waiting if node.answer else self._agenda).remove(node)
        self._open(node)

    def _fits(self, cells: int, node: Node) -> bool:
        return self._used + cells <= self._context.cells and self._has_sequence(node)

    def _make_room(self, cells: int, node: Node) -> bool:
        """Drops prefixes that are kept for later, until so many cells are free, and a sequence for the node."""
        while not self._fits(cells, node):
            if not self._drop_idle():
                return False
        return True

    def _drop_idle(self) -> bool:
        """Drops the prefix that has been idle the longest; one with children again is not idle any more."""
        prefix = next((node for node in self._idle if not node.children), None)
        if prefix is not None and prefix.parent is not None:
            self._close(prefix)
            self._prune(prefix.parent)
        return prefix is not None

    def _free_up(self, kept: Node) -> None:
        """Frees some room for a node that has to go on: drops what is idle; else puts back the youngest that
        is alive; else drops a prefix that others still wait to begin from."""
        alive = [*(n for n in self._going if not n.answer), *self._waiting, *(n for n in self._going if n.answer)]
        youngest = next((node for node in reversed(alive) if node is not kept), None)
        line = set(kept.line())
        begun = (n for n in self._trie.walk() if n.complete and n not in line and not any(c.begun for c in n.children))
        if self._drop_idle():
            return
        if youngest is not None and youngest.answer:
            self._put_back(youngest)
        elif (node := youngest or next(begun, None)) is not None:
            self._put_off(node)
        else:
            raise EngineError(f"no room for one request in a cache of {self._context.cells} tokens")

    def _batch(self) -> list[Chunk]:
        """Fills the batch: a token of every branch, then as much of the prompts as there is room for."""
        while self._used + max(1, len(answers := [n for n in self._going if n.answer])) > self._context.cells:
            self._free_up((answers or self._going)[0])
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
        self.counters.again += max(0, min(node.again - node.done, len(tokens)))
        node.done += len(tokens)
        self._used += len(tokens)
        self.counters.evaluated += len(tokens)
        return chunk

    def _after(self, chunk: Chunk) -> Iterator[T]:
        """Takes what a step gave: log-probabilities that were wanted, the next tokens of the trials."""
        node = chunk.node
        rows = {depth: self._context.row(entry) for depth, entry in chunk.rows.items()}
        due, node.reads = [r for r in node.reads if r.depth in rows], [r for r in node.reads if r.depth not in rows]
        for read in due:
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
        self._prune(node)

    # Sequences

    def _has_sequence(self, node: Node) -> bool:
        assert node.parent is not None
        return bool(self._free) or node.parent.seq is not None

    def _open(self, node: Node) -> None:
        """Gives a node the sequence in which its tokens are evaluated: its parent's, or a copy of it."""
        parent = node.parent
        assert parent is not None
        if parent.seq is not None and not (parent.shared and self._free):
            node.seq, parent.seq = parent.seq, None
        else:
            node.seq = self._free.pop()
            if node.start:
                self._context.copy(parent.holder(), node.seq, node.start)
        node.begun = True
        self._going.append(node)

    def _prune(self, node: Node) -> None:
        """Removes a node that nothing needs any more, and those above it; shared prefixes in the cache stay.

        `_agenda` may hold removed nodes after it: whoever removes what has not begun calls `_queue`.
        """
        over: Node | None = node
        while over and over.parent and over.idle:
            if over.complete and over.shared:
                self._idle.pop(over, None)  # it is the newest now
                self._idle[over] = None
                return
            for place in (self._going, self._waiting):
                if over in place:
                    place.remove(over)
            parent = over.parent
            self._close(over)
            over = parent

    def _close(self, node: Node) -> None:
        assert node.parent is not None
        node.parent.remove(node)
        self._idle.pop(node, None)
        self._release(node)

    def _release(self, node: Node) -> None:
        """Gives back a node's cells, and its sequence: to its parent where that has none otherwise."""
        parent, seq = node.parent, node.seq
        assert parent is not None
        self._used -= node.done
        node.done, node.seq = 0, None
        if seq is None:
            return
        if parent.parent is not None and parent.holder() is None:
            self._context.trim(seq, parent.end)
            parent.seq = seq
        else:
            self._context.trim(seq, 0)
            self._free.append(seq)

    def _put_off(self, node: Node) -> None:
        """Drops the tokens of a prompt for room: it begins anew later."""
        if node in self._going:
            self._going.remove(node)
        node.again = max(node.again, node.done)
        self._release(node)
        node.begun = False
        self._queue()

    def _put_back(self, node: Node) -> None:
        """Drops a branch for room; its trials wait among the prompts, with the answers they have so far."""
        trials, node.trials = node.trials, []
        evaluated = node.start + node.done
        self._prune(node)
        for trial in trials:
            self._place(self._trie.insert(trial.path, evaluated)).trials.append(trial)
        # a path that ends inside a prompt under way has cut it: its upper part goes on
        self._going = [n if n.begun or n.parent is None else n.parent for n in self._going]
        self._queue()

    def _drop(self, trials: Sequence[T]) -> None:
        """Forgets trials wherever they stand."""
        gone = set(trials)
        for node in [*self._going, *self._waiting, *self._agenda]:
            node.reads = [read for read in node.reads if read.trial not in gone]
            node.trials = [trial for trial in node.trials if trial not in gone]
            self._prune(node)
        self._queue()
