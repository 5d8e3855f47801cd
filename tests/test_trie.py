"""The trie alone: no model."""

from __future__ import annotations

import pytest
from doubles.local import every
from hypothesis import given
from hypothesis import strategies as st

from workbench.engines.llama.trie import Node, Read, Trie

PATHS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=30)


def path_of(node: Node) -> tuple[int, ...]:
    return tuple(token for n in reversed(list(node.line())) for token in n.tokens)


def begin(node: Node, done: int, seq: int) -> None:
    node.begun, node.done, node.seq = True, done, seq


@given(PATHS)
def test_each_distinct_beginning_is_there_once(paths: list[tuple[int, ...]]) -> None:
    trie = Trie()
    for path in paths:
        node = trie.insert(path)
        assert path_of(node) == path and node is trie.insert(path)
    nodes = list(trie.walk())
    assert sum(len(node.tokens) for node in nodes) == len({p[: i + 1] for p in paths for i in range(len(p))})
    assert {path_of(node) for node in nodes} >= set(paths)
    for node in nodes:
        assert node.parent is not None and node in node.parent.children and node.start == node.parent.end
        assert node.parent.prompts[node.tokens[0]] is node and len(node.tokens) > 0
    assert nodes == [node for node in every(trie.root) if node is not trie.root]  # depth first


@given(PATHS)
def test_what_others_go_through_is_shared(paths: list[tuple[int, ...]]) -> None:
    trie = Trie()
    for path in paths:
        trie.insert(path).trials.append(path)
    for node in trie.walk():
        through = {p for p in paths if p[: node.end] == path_of(node)}
        assert node.shared == (len(through) > 1)


@given(PATHS)
def test_a_trie_that_is_emptied_leaf_by_leaf_is_empty(paths: list[tuple[int, ...]]) -> None:
    trie = Trie()
    for path in paths:
        trie.insert(path)
    for node in reversed(list(trie.walk())):
        assert node.parent is not None and node.idle
        node.parent.remove(node)
    assert not trie.root.children and not trie.root.prompts


@pytest.mark.parametrize("done", range(7))
@pytest.mark.parametrize("at", range(1, 6))
def test_a_node_is_cut(done: int, at: int) -> None:
    """The part that is under way keeps the sequence; nothing that was done or wanted is lost."""
    trie = Trie()
    node = trie.insert(range(6), again=4)
    begin(node, done, seq=3)
    node.reads = [Read(depth, 0, None, 0) for depth in range(1, 7)]
    node.trials = ["trial"]
    upper = trie.insert(range(at))
    assert (upper.tokens, node.tokens) == (list(range(at)), list(range(at, 6)))
    assert (upper.start, upper.end, node.start, node.end) == (0, at, at, 6)
    assert (upper.done, node.done) == (min(done, at), max(done - at, 0))
    assert (upper.again, node.again) == (min(4, at), max(4 - at, 0))
    assert upper.begun and node.begun == (done >= at)
    assert (upper.seq, node.seq) == ((None, 3) if done >= at else (3, None)) and upper.holder() == 3
    assert [r.depth for r in upper.reads] == list(range(1, at + 1)) and upper.wanted == set(range(1, at + 1))
    assert [r.depth for r in node.reads] == list(range(at + 1, 7))
    assert not upper.trials and node.trials == ["trial"]


@pytest.mark.parametrize("again", range(7))
def test_tokens_evaluated_before_are_told_apart(again: int) -> None:
    trie = Trie()
    trie.insert([0, 1, 2])
    node = trie.insert([0, 1, 2, 3, 4], again)
    assert node.start == 3 and node.again == max(again - 3, 0)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_last_token_of_a_node_in_the_cache(length: int) -> None:
    """Its logits are gone: one more node for the same token, but not two."""
    trie = Trie()
    node = trie.insert(range(length))
    begin(node, length, seq=0)
    tail = trie.last_token(node)
    assert (tail.tokens, tail.start, tail.again, tail.begun) == ([length - 1], length - 1, 1, False)
    assert path_of(tail) == tuple(range(length)) and trie.last_token(node) is tail
    assert trie.insert(range(length)) is node  # what comes after it goes on below the one in the cache
    begin(tail, 1, seq=1)
    assert trie.last_token(node) is not tail


def test_a_path_holds_its_cells_by_any_sequence_below_it() -> None:
    trie = Trie()
    leaf = trie.insert([1] * 2000)
    begin(leaf, 2000, seq=7)
    for end in range(1999, 0, -1):  # a chain far deeper than Python's stack
        trie.insert([1] * end)
    (top,) = trie.root.children
    assert top.seq is None and top.holder() == 7 and sum(1 for _ in trie.walk()) == 2000
