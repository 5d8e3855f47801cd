"""Axes to variants, their labels, and the order in which trials are asked."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.suite_file import SuiteFile
from workbench.define.sweep import MAX_VARIANTS, blocks, make_variants, select, trials
from workbench.errors import SuiteError
from workbench.records import Case, Prompt, Suite, Variant


def prompt(name: str, revision: str = "", **settings) -> Prompt:
    return Prompt(name, f"pr1-{revision or name}", "{{ text }}", **settings)


PROMPTS = {
    "a/zero": prompt("a/zero"),
    "a/few": prompt("a/few"),
    "b/zero": prompt("b/zero"),
    "a/few@old": prompt("a/few", "old"),
    "own": prompt("own", model="echo", options={"temperature": 1, "top_k": 5}),
    "same": prompt("same", "a/zero"),
}


def sweep(**keys) -> tuple[Variant, ...]:
    keys.setdefault("prompts", ["a/zero"])
    keys.setdefault("models", ["m"])
    return make_variants(SuiteFile.model_validate({"cases": "c.jsonl", **keys}), PROMPTS, {})


def labels(**keys) -> list[str]:
    return [v.label for v in sweep(**keys)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["a/zero"]),
        ({"prompts": ["a/zero", "a/few"]}, ["zero", "few"]),
        ({"prompts": ["a/zero", "b/zero"]}, ["a/zero", "b/zero"]),
        ({"prompts": ["a/few", "a/few@old"]}, ["a/few", "a/few@old"]),
        ({"prompts": ["a/zero", "same"]}, ["a/zero"]),
        ({"models": ["m", "m+q4_0", "m"]}, ["m", "m+q4_0"]),
        ({"params": {"temperature": [0, 0.7], "max_tokens": 8}}, ["temperature=0", "temperature=0.7"]),
        (
            {"prompts": ["a/zero", "a/few"], "models": ["m", "n"], "params": {"temperature": [0, 1]}},
            [f"{p} · {m} · temperature={t}" for p in ("zero", "few") for m in ("m", "n") for t in (0, 1)],
        ),
        ({"params": {"stop": ["x", "y"]}}, ["a/zero"]),
        ({"params": {"stop": [["x"], ["y", "z"]]}}, ['stop=["x"]', 'stop=["y","z"]']),
        ({"params": {"a": [1, 2], "b": [3, 4], "c": 5}, "axes": "zip"}, ["a=1 · b=3", "a=2 · b=4"]),
        (
            {"params": {"a": [1, 2]}, "models": ["m", "n"], "axes": "zip"},
            ["m · a=1", "m · a=2", "n · a=1", "n · a=2"],
        ),
        ({"vars": {"tone": ["plain", "warm"], "list": [["x", "y"]]}}, ["tone=plain", "tone=warm"]),
        ({"logprobs": [0, 5]}, ["logprobs=0", "logprobs=5"]),
        ({"answer": [{"choices": ["a", "b"]}, {"grammar": "root ::= x"}]}, ["answer=choices", "answer=grammar"]),
        (
            {"models": ["m", {"use": "n", "without": ["temperature"]}], "params": {"temperature": [0, 1]}},
            ["m · temperature=0", "m · temperature=1", "n"],
        ),
        (
            {"variants": [{"prompt": "a/few"}, {"model": "n", "params": {"temperature": 1}}]},
            ["few · m", "zero · n · temperature=1"],
        ),
        ({"params": {"text": ["x" * 30 + "\n1", "short"]}}, ["text=" + "x" * 23 + "…", "text=short"]),
    ],
)
def test_variants_and_labels(keys, expected):
    assert labels(**keys) == expected


def test_labels_that_look_alike_are_told_apart():
    for keys in ({"params": {"t": ["1", 1]}}, {"answer": [{"choices": ["a"]}, {"choices": ["b"]}]}):
        first, second = labels(**keys)
        assert first != second


@pytest.mark.parametrize(
    ("keys", "params"),
    [
        ({"prompts": ["own"]}, {"temperature": 1, "top_k": 5, "seed": 9}),
        ({"prompts": ["own"], "params": {"temperature": 0}}, {"temperature": 0, "top_k": 5, "seed": 9}),
        (
            {
                "prompts": ["own"],
                "params": {"temperature": 0, "top_k": 1},
                "models": [{"use": "m", "params": {"top_k": 2, "seed": 3}, "without": ["temperature"]}],
            },
            {"top_k": 2, "seed": 3},
        ),
        (
            {
                "models": [{"use": "m", "params": {"top_k": 2}}],
                "params": {"top_k": 1},
                "variants": [{"params": {"top_k": 3}}],
            },
            {"top_k": 3, "seed": 9},
        ),
    ],
)
def test_precedence_of_parameters(keys, params):
    file = SuiteFile.model_validate({"cases": "c", "prompts": ["a/zero"], "models": ["m"], **keys})
    (variant,) = make_variants(file, PROMPTS, {"seed": 9})
    assert dict(variant.params) == params


def test_a_prompts_own_model_is_used_where_the_suite_names_none():
    assert [v.model for v in sweep(prompts=["own"], models=[])] == ["echo"]


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"params": {"a": []}}, "params.a is an empty list"),
        ({"vars": {"a": []}}, "vars.a is an empty list"),
        ({"params": {"a": [1, 2], "b": [1, 2, 3]}, "axes": "zip"}, "must be equally long: a has 2, b has 3"),
        ({"models": []}, "neither the suite nor prompt 'a/zero' names a model"),
        ({"params": {"a": list(range(101)), "b": list(range(100))}}, f"10,100 variants, more than {MAX_VARIANTS:,}"),
        ({"params": {n: list(range(1000)) for n in "abcdefgh"}}, "shorten its axes"),
        ({"variants": [{}], "params": {"a": [1, 2]}}, "'a' is an axis, but 'variants' are written out"),
        ({"variants": [{}], "prompts": ["a/zero", "a/few"]}, "variants[0] names no prompt"),
        ({"variants": [{"prompt": "own"}, {}], "models": ["m", "n"]}, "variants[0] names no model"),
    ],
)
def test_bad_axes(keys, error):
    with pytest.raises(SuiteError) as caught:
        sweep(**keys)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 8),
        ({"prompt": "few"}, 4),
        ({"prompt": "a/few", "model": "m"}, 2),
        ({"prompt": "a/few@old"}, 0),
        ({"temperature": "0.5"}, 4),
        ({"temperature": 0.5, "model": "n", "prompt": "zero"}, 1),
        ({"params": {"temperature": 0}}, 4),
        ({"model": "none"}, 0),
    ],
)
def test_select(wanted, count):
    variants = sweep(prompts=["a/zero", "a/few"], models=["m", "n"], params={"temperature": [0, 0.5]})
    assert len(select(variants, wanted, PROMPTS)) == count


def test_select_refuses_unknown_keys():
    with pytest.raises(SuiteError, match="no variant has a 'temprature'; did you mean 'temperature'"):
        select(sweep(params={"temperature": 0}), {"temprature": 0})
    with pytest.raises(SuiteError, match="no variant has a 'params'"):
        select(sweep(), {"params": 5})


def suite(cases: list[str], **settings) -> Suite:
    variants = sweep(prompts=["a/zero", "a/few"], models=["m", "n"], params={"temperature": [0, 1]})
    return Suite("s", "prompt", variants, tuple(Case(c, {}) for c in cases), (), {}, {}, **settings)


@given(
    ids=st.lists(st.text(min_size=1), unique=True, max_size=12),
    block=st.integers(1, 5),
    repeats=st.integers(1, 3),
    seed=st.integers(),
    order=st.randoms(),
)
def test_blocks_hold_everything_once_in_an_order_of_their_own(ids, block, repeats, seed, order):
    one = suite(ids, block=block, repeats=repeats, seed=seed)
    found = list(blocks(one))
    assert Counter((t.variant.id, t.case.id, t.repeat) for b in found for t in b) == Counter(
        (v.id, c, r) for v in one.variants for c in ids for r in range(repeats)
    )
    for b in found:
        assert len({t.case.id for t in b}) <= block
        shared = [key for key, _ in groupby((t.variant.model, t.variant.prompt, t.case.id) for t in b)]
        assert len(shared) == len(set(shared))  # what shares a beginning stands together
    order.shuffle(ids)
    assert [t.id for t in trials(suite(ids, block=block, repeats=repeats, seed=seed))] == [
        t.id for b in found for t in b
    ]


def test_another_seed_gives_another_order():
    ids = [str(i) for i in range(20)]
    orders = [[t.case.id for t in trials(suite(ids, seed=s))] for s in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])
