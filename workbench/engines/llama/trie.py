"""One trie over tokens: the prompts of all requests at hand, and their answers as they grow.

A node is a stretch of tokens that everything below it begins with. Its tokens are evaluated once, into a
*sequence* of the KV cache; a branch copies the marks of that sequence (`llama_memory_seq_cp`), no data.

Invariants
- `done` tokens of a node are in the cache; a child begins only when its parent is done.
- The cells of a node live as long as a sequence claims them: its own, or that of a node below it.
- Every node in the cache has such a sequence (`holder`): one that ends hands its own to its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Read:
    """A log-probability that is wanted: of `token`, after `depth` tokens of the path."""

    depth: int
    token: int
    trial: Any
    choice: int


@dataclass(eq=False, slots=True)
class Node:
    """A stretch of tokens; see the module's docstring."""

    parent: Node | None
    tokens: list[int]
    start: int
    """How many tokens stand before it on its path."""
    answer: bool = False
    """Sampled tokens, not a prompt's."""
    again: int = 0
    """So many of its first tokens were evaluated before, and dropped for room or without their logits."""
    done: int = 0
    seq: int | None = None
    begun: bool = False
    shared: bool = False
    """More than one request goes through it and on: worth keeping for the next requests."""
    trials: list[Any] = field(default_factory=list)
    """What is sampled at its end."""
    reads: list[Read] = field(default_factory=list)
    prompts: dict[int, Node] = field(default_factory=dict)
    """Children that continue a prompt, by their first token."""
    children: list[Node] = field(default_factory=list)
    """All children: prompts and answers."""

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def complete(self) -> bool:
        return self.done == len(self.tokens)

    @property
    def idle(self) -> bool:
        """Nothing is to come of it any more."""
        return not (self.children or self.trials or self.reads)

    @property
    def wanted(self) -> set[int]:
        """Depths at which logits are wanted."""
        depths = {read.depth for read in self.reads}
        return depths | {self.end} if self.trials else depths

    def add(self, child: Node) -> Node:
        self.children.append(child)
        if not child.answer:
            self.prompts.setdefault(child.tokens[0], child)
        return child

    def remove(self, child: Node) -> None:
        self.children.remove(child)
        if self.prompts.get(child.tokens[0]) is child:
            del self.prompts[child.tokens[0]]

    def share(self) -> None:
        """More than one request goes on from here, and so from all above it."""
        for node in self.line():
            if node.shared:
                return
            node.shared = True

    def holder(self) -> int | None:
        """A sequence that holds the whole path to this node's evaluated end."""
        stack = [self]
        while stack:
            node = stack.pop()
            if node.seq is not None:
                return node.seq
            stack.extend(child for child in node.children if child.begun)
        return None

    def line(self) -> Iterator[Node]:
        """The node and those above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class Trie:
    """The prompts, as a radix tree."""

    def __init__(self) -> None:
        self.root = Node(None, [], 0, begun=True)

    def insert(self, path: Sequence[int], again: int = 0, own: int | None = None) -> Node:
        """The node that ends where the path ends; made, and others split, as need be. So many of the path's
        first tokens were evaluated before (`Node.again`). From the depth `own` on it branches only from paths
        of its own request, which makes nothing worth keeping for others (`Node.shared`)."""
        node, depth = self.root, 0
        while depth < len(path):
            child = node.prompts.get(path[depth])
            if child is None:
                if (own is None or depth < own) and (node.prompts or node.trials or node.reads):
                    node.share()
                return node.add(Node(node, list(path[depth:]), depth, again=max(again - depth, 0)))
            same = common_length(child.tokens, path, depth)
            if same < len(child.tokens):
                child = self._split(child, same)
                if own is None or depth + same < own:
                    child.share()
            node, depth = child, depth + same
        return node

    def last_token(self, node: Node) -> Node:
        """A node for the last token of one that is in the cache already: its logits are wanted once more."""
        upper = self._split(node, len(node.tokens) - 1) if len(node.tokens) > 1 else node.parent
        assert upper is not None
        upper.share()
        same = (c for c in upper.children if not c.complete and not c.answer and c.tokens == node.tokens[-1:])
        return next(same, None) or upper.add(Node(upper, [node.tokens[-1]], node.end - 1, again=1))

    def walk(self) -> Iterator[Node]:
        """All prompt nodes, depth first, in the order of insertion."""
        stack = list(reversed(self.root.children))
        while stack:
            node = stack.pop()
            if not node.answer:
                yield node
                stack.extend(reversed(node.children))

    def _split(self, node: Node, at: int) -> Node:
        """Returns the upper part, which takes the node's place. Where it is not evaluated to its end, it is
        the upper part that has begun, else the lower."""
        assert node.parent is not None
        upper = Node(node.parent, node.tokens[:at], node.start, begun=node.begun, shared=node.shared)
        siblings = node.parent.children
        siblings[siblings.index(node)] = upper
        if node.parent.prompts.get(upper.tokens[0]) is node:
            node.parent.prompts[upper.tokens[0]] = upper
        node.tokens, node.start, node.parent = node.tokens[at:], node.start + at, upper
        upper.done, node.done = min(node.done, at), max(node.done - at, 0)
        upper.again, node.again = min(node.again, at), max(node.again - at, 0)
        if not upper.complete:
            upper.seq, node.seq, node.begun = node.seq, None, False
        upper.reads = [read for read in node.reads if read.depth <= upper.end]
        node.reads = [read for read in node.reads if read.depth > upper.end]
        upper.add(node)
        return upper


def common_length(tokens: Sequence[int], path: Sequence[int], depth: int = 0) -> int:
    """With how many of the tokens the path goes on from that depth."""
    most = min(len(tokens), len(path) - depth)
    return next((i for i in range(most) if tokens[i] != path[depth + i]), most)
