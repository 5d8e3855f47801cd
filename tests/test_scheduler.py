"""The scheduler: what it evaluates, in how much room, and that its answers are those of the model.

Nearly all with a model of 67 kB and random weights, of which the cache knows no less than of a large one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from doubles.local import GREEDY, Ask, Local, Plain, distinct_nodes, log_softmax, opened
from doubles.tiny_gguf import write_gguf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from workbench.engines.llama.answer import Answer, Choice
from workbench.engines.llama.context import Context, Shape

pytest.importorskip("llama_cpp")

ROOMY = Shape(cells=2048, batch=96, threads=1, sequences=64)
ROUNDING = 0.05
"""Above the largest difference of a log-probability between two ways to evaluate the tiny model (16-bit cache)."""
FIXED = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # to shrink forty requests takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def roomy(gguf: Path) -> Iterator[Local]:
    with opened(gguf, ROOMY, most=96) as local:
        yield local


@pytest.fixture(scope="module")
def plain(gguf: Path) -> Iterator[Plain]:
    with opened(gguf, Shape(256, 256, 1, 1)) as local:
        plain = Plain(local)
        yield plain
        plain.close()


END = 258
TOKENS = st.integers(0, 2)
PROMPTS = st.lists(TOKENS, min_size=1, max_size=10).map(tuple)
PARAMS = st.one_of(
    st.just(GREEDY),
    st.builds(lambda k, t: {"top_k": k, "temperature": t}, st.sampled_from([2, 3, 40]), st.sampled_from([0.3, 1.5])),
    st.just({"logit_bias": {str(END): 4.0}, "temperature": 1.5}),
    st.just({"repeat_penalty": 1.3, "temperature": 0.9, "top_k": 3}),
    st.just({"stop": ["!", '"'], "temperature": 3.0, "top_k": 20}),
)
SAMPLED = st.builds(
    lambda prompt, params, most, seed: Ask(prompt, {**params, "max_tokens": most}, seed, logprobs=1),
    PROMPTS, PARAMS, st.integers(0, 8), st.integers(0, 3),
)  # fmt: skip
CHOICES = st.builds(
    lambda prompt, choices: Ask(prompt, choices=tuple(choices)),
    PROMPTS, st.lists(st.lists(TOKENS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4, unique=True),
)  # fmt: skip
REQUESTS = st.lists(SAMPLED | SAMPLED | CHOICES, min_size=1, max_size=40)


def told(answers: Sequence[Answer]) -> list[object]:
    return [(a.tokens, a.finish, replace(a.output(False), request_id="")) for a in answers]


def check_against(plain: Plain, asks: Sequence[Ask], answers: Sequence[Answer]) -> None:
    """Every log-probability that was told is the one that llama.cpp gives for that text by itself, and a
    greedy token is the likeliest there."""
    for ask, answer in zip(asks, answers, strict=True):
        output = answer.output(False)
        for number, choice in enumerate(ask.choices):
            values = log_softmax(plain.logits([(*ask.prompt, *choice)]))[len(ask.prompt) - 1 : -1]
            told = output.extra["choices"][number]["logprob"]
            assert told == pytest.approx(values[range(len(choice)), choice].sum(), abs=ROUNDING * len(choice))
        if ask.choices or not answer.tokens:
            continue
        values = log_softmax(plain.logits([(*ask.prompt, *answer.tokens)]))[len(ask.prompt) - 1 : -1]
        if ask.logprobs:
            found = [entry["logprob"] for entry in output.logprobs]
            assert found == pytest.approx(values[range(len(found)), answer.tokens], abs=ROUNDING)
        if ask.params.get("temperature") == 0:
            assert (values.max(axis=1) - values[range(len(values)), answer.tokens]).max() < ROUNDING


# What is evaluated


@settings(FIXED, max_examples=60)
@given(REQUESTS)
def test_every_distinct_token_is_evaluated_once(roomy: Local, plain: Plain, asks: list[Ask]) -> None:
    """Answers hang below the end of their own prompt: where another prompt continues just as an answer does,
    both are evaluated."""
    first, second = [], []
    for found in (first, second):
        roomy.scheduler.forget()
        before = (roomy.counters.evaluated, roomy.counters.again, roomy.counters.steps)
        roomy.ended.clear()
        answers = roomy.ask(asks)
        after = (roomy.counters.evaluated, roomy.counters.again, roomy.counters.steps)
        evaluated, again, steps = (new - old for new, old in zip(after, before, strict=True))
        found += [told(answers), evaluated, steps, list(roomy.ended)]
        assert (evaluated, again) == (distinct_nodes(asks, answers), 0)
        assert len(roomy.ended) == len(set(roomy.ended))
        for ask, answer in zip(asks, answers, strict=True):
            assert len(answer.tokens) <= ask.params.get("max_tokens", 0) and answer.finish in ("stop", "length", "")
        roomy.check()
    assert first == second
    check_against(plain, asks, answers)


@settings(FIXED, max_examples=60)
@given(st.lists(REQUESTS, min_size=2, max_size=3))
def test_later_requests_pay_only_for_what_is_new(roomy: Local, plain: Plain, sets: list[list[Ask]]) -> None:
    """`again` is at most one token for each place where logits are wanted a second time."""
    roomy.scheduler.forget()
    for asks in sets:
        evaluated, again = roomy.counters.evaluated, roomy.counters.again
        answers = roomy.ask(asks)
        evaluated, again = roomy.counters.evaluated - evaluated, roomy.counters.again - again
        assert evaluated - again <= distinct_nodes(asks, answers)
        assert again <= sum(sum(map(len, ask.choices)) or 1 for ask in asks)
        roomy.check()
        check_against(plain, asks, answers)
    roomy.check_at_rest()


@pytest.mark.parametrize(
    ("first", "second", "new", "again"),
    [
        (["abcdex", "abcdey"], ["abcdez"], 1, 0),
        (["abcdex", "abcdey"], ["abcf"], 1, 0),  # the prefix in the cache is cut
        (["abcdex", "abcdey"], ["abcdefghi", "abcdefgh"], 4, 0),
        (["abcdex", "abcdey"], ["abcf", "abg", "ah"], 3, 0),  # … three times
        (["abcdex", "abcdey"], ["abcde"], 0, 1),  # only its last logits are wanted
        (["abcdex", "abcdey"], ["abc", "abc"], 0, 1),
        (["abcdex", "abcdey"], ["abcde", "abcdez", "abcd"], 1, 2),
        (["abcdex", "abcdey"], ["a"], 0, 1),
        (["abcdex", "abcdey"], ["xyz"], 3, 0),
        (["ab"], ["ab"], 2, 0),  # not shared, so not kept
    ],
)
def test_a_prefix_stays_warm(gguf: Path, first: list[str], second: list[str], new: int, again: int) -> None:
    params = {**GREEDY, "max_tokens": 1}
    with opened(gguf, ROOMY) as local:
        local.ask([Ask(tuple(text.encode()), params) for text in first])
        evaluated = local.counters.evaluated
        local.ask([Ask(tuple(text.encode()), params) for text in second])
        assert (local.counters.evaluated - evaluated, local.counters.again) == (new + again, again)
        local.check_at_rest()


def test_choices_that_are_asked_for_again(gguf: Path, plain: Plain) -> None:
    ask = Ask((1, 2, 3), choices=((4, 5, 6), (4, 5, 7), (8, 9)))
    with opened(gguf, ROOMY) as local:
        local.ask([ask])
        assert local.counters.evaluated == 3 + 2 + 1  # 4 5 is common to two; the last tokens are not evaluated
        (twice, other) = local.ask([ask, Ask((1, 2, 3), choices=((4,),))])
        assert local.counters.evaluated <= 6 + 6 and local.counters.again <= 3
        check_against(plain, [ask, ask], [twice, twice])
        local.check_at_rest()


def test_trials_that_agree_share_until_they_differ(gguf: Path) -> None:
    """48 trials at a low temperature: as many tokens as there are distinct ones, in as many steps as one."""
    asks = [Ask((1, 2, 3), {"temperature": 0.05, "max_tokens": 24}, seed) for seed in range(48)]
    with opened(gguf, replace(ROOMY, sequences=128)) as local:
        answers = local.ask(asks)
        texts = {tuple(a.tokens) for a in answers}
        alike = [next((i for i in range(24) if a[i] != b[i]), 24) for a in texts for b in texts if a != b]
        assert len(texts) > 10 and max(alike) > 20  # they differ, some late
        assert local.counters.evaluated == distinct_nodes(asks, answers) < 0.4 * sum(len(a.tokens) for a in answers)
        assert local.counters.steps == 24


# Little room


def mixture(count: int, most: int, seed: int) -> list[Ask]:
    """Requests of very different lengths; a third share one of a few prefixes."""
    draw = random.Random(seed)
    prefixes = [tuple(draw.choices(range(200), k=draw.randint(5, 60))) for _ in range(12)]
    asks = []
    for _ in range(count):
        prompt = tuple(draw.choices(range(200), k=draw.choice([1, 3, 10, 30, 100])))
        if draw.random() < 0.4:
            prompt = (draw.choice(prefixes) + prompt)[:100]
        params = {"temperature": draw.choice([0, 0.5, 1.5]), "max_tokens": draw.choice([-1, 0, 1, 5, 20, 60])}
        if draw.random() < 0.1:
            ends = [tuple(draw.choices(range(200), k=draw.randint(1, most - len(prompt)))) for _ in range(3)]
            asks.append(Ask(prompt, choices=tuple(ends)))
        else:
            asks += [Ask(prompt, params, seed, logprobs=1) for seed in range(draw.choice([1, 1, 4]))]
    return asks[:count]


@pytest.mark.parametrize(
    ("count", "cells", "sequences", "batch"),
    [(300, 256, 8, 64), (300, 128, 4, 32), (300, 128, 2, 128), (300, 256, 1, 7), (300, 4096, 2, 64)],
)
def test_many_requests_in_little_room(
    gguf: Path, plain: Plain, count: int, cells: int, sequences: int, batch: int
) -> None:
    asks = mixture(count, 128, seed=sequences)
    with opened(gguf, Shape(cells, batch, 1, sequences), branches=3, most=128) as local:
        answers = [local.prepared(ask, str(i)) for i, ask in enumerate(asks)]

        def look(step: int, alive: Sequence[Answer]) -> Sequence[Answer]:
            if step % 97 == 0:
                local.check()
            return ()

        local.run(answers, look)
        assert all(answer.finish or ask.choices for ask, answer in zip(asks, answers, strict=True))
        assert local.counters.evaluated - local.counters.again <= distinct_nodes(asks, answers)
        check_against(plain, asks[::5], answers[::5])
        local.check_at_rest()


def test_memory_is_flat(gguf: Path) -> None:
    """A second thousand takes no more than the first; outputs are let go, as a store lets them go."""
    asks, sizes = mixture(1000, 128, seed=0), []
    with opened(gguf, Shape(192, 64, 1, 8), branches=3, most=128) as local:
        for _ in range(2):
            assert all(answer.finish or isinstance(answer, Choice) for answer in local.ask(asks))
            sizes.append(psutil.Process().memory_info().rss)
    assert sizes[1] - sizes[0] < 4 << 20


def test_a_branch_that_finds_no_room_is_put_back_and_counted(gguf: Path, plain: Plain) -> None:
    asks = [
        Ask((i, *range(20)), {"max_tokens": 100, "temperature": 1.0, "logit_bias": {str(END): False}}, i, logprobs=1)
        for i in range(4)
    ]
    with opened(gguf, Shape(256, 64, 1, 8), most=128) as local:
        answers = local.ask(asks)
        assert [len(a.tokens) for a in answers] == [100] * 4
        assert local.counters.again > 0
        assert local.counters.evaluated - local.counters.again == distinct_nodes(asks, answers)
        check_against(plain, asks, answers)
        local.check_at_rest()


@pytest.mark.parametrize("length", [255, 254, 64])
@pytest.mark.parametrize("company", [0, 1, 5])
def test_a_request_that_just_fits(gguf: Path, plain: Plain, length: int, company: int) -> None:
    """Prompt and answer fill the whole cache, alone and where others share most of the prompt."""
    params = {**GREEDY, "max_tokens": -1, "logit_bias": {str(END): False}}
    prompts = [(*range(length - 1), 130 + i) for i in range(company + 1)]
    with opened(gguf, Shape(256, 32, 1, 4)) as local:
        answers = local.ask([Ask(prompt, params) for prompt in prompts])
        assert {(len(a.tokens), a.finish) for a in answers} == {(256 - length, "length")}
        check_against(plain, [Ask(prompt) for prompt in prompts], answers)
        local.check_at_rest()


@pytest.mark.parametrize("sequences", [1, 2, 3, 8])
def test_more_prefixes_than_sequences(gguf: Path, sequences: int) -> None:
    """Each group shares a prefix, prefixes contain each other, and trials branch: sequences are what is short."""
    params = {"temperature": 1.5, "max_tokens": 3}
    asks = [Ask((i, i + 1, i + 2, j), params, j) for i in range(60) for j in range(3)]
    asks += [Ask(tuple(range(i)), params, i) for i in range(1, 60)]
    asks += [Ask((9, 9, 9), params, i) for i in range(40)]
    with opened(gguf, Shape(2048, 64, 1, sequences), most=128) as local:
        answers = local.ask(asks)
        assert local.counters.evaluated - local.counters.again == distinct_nodes(asks, answers)
        local.check_at_rest()


def test_an_answer_put_back_into_another_prompt_under_way(gguf: Path, plain: Plain) -> None:
    """What was sampled is also how other prompts go on: they are cut where it ends."""
    with opened(gguf, Shape(1024, 8, 1, 16), most=128) as local:
        params = {**GREEDY, "max_tokens": 40, "logit_bias": {str(END): False}}
        (first,) = local.ask([Ask((1, 2, 3), params)])
        tail = tuple(first.tokens)
    for extra in range(2, 38, 5):
        asks = [Ask((1, 2, 3), params, logprobs=1)]
        asks += [Ask((1, 2, 3, *tail[:n], 77, *range(40)), params, logprobs=1) for n in (extra, extra + 2)]
        asks += [Ask((1, 2, 3, *tail[:extra]), params, logprobs=1), Ask((5,) * 50, params, logprobs=1)]
        with opened(gguf, Shape(128, 4, 1, 6), branches=8) as local:
            answers = local.ask(asks)
            assert [len(a.tokens) for a in answers] == [40] * 5
            check_against(plain, asks, answers)
            local.check_at_rest()


@pytest.mark.parametrize("shape", [Shape(64, 16, 1, 128), Shape(2048, 96, 1, 128), Shape(512, 1, 1, 3)])
def test_fewer_tokens_in_a_batch_than_sequences(gguf: Path, plain: Plain, shape: Shape) -> None:
    """llama.cpp would abort the process."""
    asks = [Ask((1, 2, i), {**GREEDY, "max_tokens": 8}, logprobs=1) for i in range(60)]
    with opened(gguf, shape) as local:
        check_against(plain, asks, local.ask(asks))
        local.check_at_rest()


# Cancelling


@settings(FIXED, max_examples=40)
@given(REQUESTS, st.integers(0, 2**32), st.sampled_from([0.02, 0.2, 0.9]), st.sampled_from([(2048, 64), (64, 4)]))
def test_cancelled_requests_leave_the_others_as_they_were(
    gguf: Path, plain: Plain, asks: list[Ask], seed: int, share: float, room: tuple[int, int]
) -> None:
    with opened(gguf, Shape(room[0], 16, 1, room[1]), most=32) as local:
        draw, answers = random.Random(seed), [local.prepared(ask, str(i)) for i, ask in enumerate(asks)]
        wanted = {a.request.id for a in answers if not a.finish}
        gone = local.run(answers, lambda _, alive: [a for a in alive if draw.random() < share])
        gone_ids = {a.request.id for a in gone}
        assert gone_ids | set(local.ended) == wanted and not gone_ids & set(local.ended)
        kept = [(ask, a) for ask, a in zip(asks, answers, strict=True) if a.request.id in local.ended]
        check_against(plain, [ask for ask, _ in kept], [answer for _, answer in kept])
        local.check_at_rest()
        anew = told(local.ask(asks))
    with opened(gguf, Shape(room[0], 16, 1, room[1]), most=32) as fresh:
        assert anew == told(fresh.ask(asks))


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_run_that_is_left_early_leaves_nothing(gguf: Path, steps: int) -> None:
    asks = mixture(40, 128, seed=1)
    with opened(gguf, Shape(256, 16, 1, 8), branches=4, most=128) as local:
        local.run([local.prepared(ask, str(i)) for i, ask in enumerate(asks)], steps=steps)
        local.check_at_rest()
        local.ended.clear()
        anew = told(local.ask(asks))
    with opened(gguf, Shape(256, 16, 1, 8), branches=4, most=128) as fresh:
        assert anew == told(fresh.ask(asks))


def test_cancelling_all_costs_no_further_step(gguf: Path) -> None:
    asks = mixture(500, 128, seed=2)
    with opened(gguf, Shape(256, 16, 1, 8), branches=4, most=128) as local:
        answers = [local.prepared(ask, str(i)) for i, ask in enumerate(asks)]
        local.run(answers, lambda step, alive: alive if step == 3 else ())
        assert local.counters.steps == 4
        local.check_at_rest()


# Bookkeeping


class Recorded(Context):
    """Writes down what llama.cpp was told, and the logits that were looked at."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.told: list[tuple[str, tuple[int, ...]]] = []
        self.rows: list[np.ndarray] = []
        super().__init__(path, shape)

    def add(self, token, position, sequence, wanted):
        self.told.append(("add", (token, position, sequence, wanted)))
        return super().add(token, position, sequence, wanted)

    def copy(self, source, target, end):
        self.told.append(("copy", (source, target, end)))
        super().copy(source, target, end)

    def trim(self, sequence, start):
        self.told.append(("trim", (sequence, start)))
        super().trim(sequence, start)

    def decode(self):
        wanted = [entry for entry in range(self._count) if self._wanted[entry]]
        super().decode()
        self.told.append(("decode", ()))
        self.rows += [self.row(entry).logits.copy() for entry in wanted]


def test_the_same_batches_give_bit_equal_logits_in_plain_llama_cpp(gguf: Path) -> None:
    shape = Shape(256, 48, 1, 8)
    with opened(gguf, shape, branches=6, most=128, kind=Recorded) as local, opened(gguf, shape) as other:
        local.ask(mixture(150, 128, seed=3))
        recorded, plain = local.context, Plain(other)
        assert isinstance(recorded, Recorded)
        rows, batch = [], []
        for name, given in recorded.told:
            if name == "add":
                batch.append(given)
            elif name == "decode":
                rows += list(plain.decode([entry[:3] for entry in batch], [entry[3] for entry in batch]))
                batch = []
            else:
                getattr(plain, name)(*given)
        plain.close()
        assert len(rows) == len(recorded.rows) > 150 and local.counters.again > 0
        assert all(np.array_equal(mine, its) for mine, its in zip(recorded.rows, rows, strict=True))
