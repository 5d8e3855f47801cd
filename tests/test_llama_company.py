"""Trials in company: each keeps its own grammar, stop strings, history and log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import regex
from doubles.local import GREEDY, Ask, Local, Plain, chat_prompt, distinct_nodes, log_softmax, opened, smollm2
from doubles.tiny_gguf import write_gguf

from workbench.engines.llama.context import Shape
from workbench.engines.llama.sampling import grammar_of

pytest.importorskip("llama_cpp")

LIST = 'root ::= "[" [0-9]{1,3} ("," [0-9]{1,3})* "]"'
LIST_PATTERN = regex.compile(r"\[\d{1,3}(,\d{1,3})*\]")
SAID = "1 🎉 👩‍🚀 two three"
PARTY = f'root ::= "{SAID}"'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Its tokens are single bytes, so that every emoji is split over four."""
    path = write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    with opened(path, Shape(4096, 128, 1, 128), most=64) as local:
        yield local


@pytest.fixture(scope="module")
def real() -> Iterator[Local]:
    with opened(smollm2("f16"), Shape(1024, 256, 1, 64), most=256) as local:
        yield local


# Grammars


@pytest.mark.parametrize("all_bound", [True, False])
def test_bound_answers_parse_also_when_cut(tiny: Local, all_bound: bool) -> None:
    tiny.scheduler.forget()
    params = [{"max_tokens": most, "temperature": 1.0} for most in (1, 2, 5, 9, 40)]
    bound = [Ask((70, 71), p, seed, grammar=LIST) for p in params for seed in range(6)]
    free = [] if all_bound else [Ask((70, 71), p, seed, logprobs=1) for p in params for seed in range(6)]
    answers = tiny.ask([*bound, *free])
    for ask, answer in zip(bound, answers, strict=False):
        text = answer.output(False).text
        match = LIST_PATTERN.fullmatch(text, partial=True)
        assert match and match.partial == (answer.finish == "length" and not text.endswith("]"))
        assert answer.finish == "stop" or len(answer.tokens) == ask.params["max_tokens"]
    assert {a.finish for a in answers[: len(bound)]} == {"stop", "length"}
    tiny.scheduler.forget()
    plain = Plain(tiny)  # not the texts: two tokens 0.0003 apart in their logits change places by rounding
    for ask, answer in zip(free, answers[len(bound) :], strict=True):
        values = log_softmax(plain.logits([(*ask.prompt, *answer.tokens)]))[1:]
        found = [entry["logprob"] for entry in answer.output(False).logprobs]
        assert found == pytest.approx([v[t] for v, t in zip(values, answer.tokens, strict=False)], abs=0.05)
    plain.close()


@pytest.mark.model
def test_a_schema_in_company(real: Local) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
    grammar = grammar_of({"schema": schema})
    prompt = chat_prompt(real.vocabulary, "A person as JSON.")
    asks = [Ask(prompt, {"max_tokens": most}, seed, grammar=grammar) for most in (4, 24) for seed in range(3)]
    answers = real.ask([*asks, *(Ask(prompt, {"max_tokens": 8}, seed) for seed in range(3))])[: len(asks)]
    ended = [json.loads(a.output(False).text) for a in answers if a.finish == "stop"]
    assert ended and {a.finish for a in answers} == {"stop", "length"}
    for value in ended:
        jsonschema.validate(value, schema)


# Text


@pytest.mark.parametrize("company", [True, False])
def test_stop_strings_of_trials_that_share_a_branch(tiny: Local, company: bool) -> None:
    """All say the same, token by token; each ends at its own stop string, which no token is by itself."""
    stops = [[], ["o thr"], ["nothing"], ["🎉"], ["👩‍🚀 t"], ["🚀"], ["e", "two"], ["1"], ["three"], ["threes"]]
    asks = [Ask((70, 71), {**GREEDY, "stop": stop}, grammar=PARTY) for stop in stops]
    tiny.scheduler.forget()
    before = tiny.counters.evaluated
    answers = tiny.ask(asks) if company else tiny.alone(asks)
    if company:
        assert tiny.counters.evaluated - before == distinct_nodes(asks, answers) == 2 + len(SAID.encode())
    for stop, answer in zip(stops, answers, strict=True):
        ends = [SAID.index(text) for text in stop if text in SAID]
        assert (answer.output(False).text, answer.finish) == (SAID[: min(ends, default=len(SAID))], "stop")


@pytest.mark.parametrize("most", range(1, len(SAID.encode())))
def test_an_emoji_that_is_cut_is_left_out(tiny: Local, most: int) -> None:
    tiny.scheduler.forget()
    lengths = (most, len(SAID.encode()) - 1)
    asks = [Ask((70, 71), {**GREEDY, "max_tokens": length}, grammar=PARTY) for length in lengths]
    for length, answer in zip(lengths, tiny.ask(asks), strict=True):
        assert answer.output(False).text == SAID.encode()[:length].decode(errors="ignore")
        assert (answer.finish, len(answer.tokens)) == ("length", length)


# What each trial remembers

REMEMBERING: list[dict[str, Any]] = [
    {"repeat_penalty": 1.5},
    {"presence_penalty": 1.0, "frequency_penalty": 0.7, "repeat_last_n": -1},
    {"dry_multiplier": 2.0, "dry_allowed_length": 1},
    {"mirostat": 1, "mirostat_tau": 3.0, "mirostat_eta": 0.5},
    {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.5},
    {"temperature": 0, "repeat_penalty": 1.3},
    {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    {},
]


def remembering(prompt: tuple[int, ...], most: int, seeds: int) -> list[Ask]:
    return [Ask(prompt, {"max_tokens": most, **params}, seed) for params in REMEMBERING for seed in range(seeds)]


def test_each_trial_sees_its_own_history(tiny: Local) -> None:
    """Those of one prompt begin in one branch; each text is the one that the trial gives alone."""
    asks = remembering((70, 71, 72), 24, 5)
    tiny.scheduler.forget()
    together = [answer.tokens for answer in tiny.ask(asks)]
    assert together == [answer.tokens for answer in tiny.alone(asks)]
    assert len(set(map(tuple, together))) > len(asks) // 2


@pytest.mark.model
def test_each_trial_sees_its_own_history_in_a_real_model(real: Local) -> None:
    asks = remembering(chat_prompt(real.vocabulary, "Say something."), 10, 1)
    real.scheduler.forget()
    together = [answer.tokens for answer in real.ask(asks)]
    assert together == [answer.tokens for answer in real.alone(asks)]


@pytest.mark.model
def test_log_probabilities_in_company(real: Local) -> None:
    """They are those of the text evaluated token by token, to 0.1 (F16); the likeliest come first."""
    prompt = chat_prompt(real.vocabulary, "Name a colour. " * 16)  # the numbers differ from 64 tokens on
    asks = [Ask(prompt, {"max_tokens": 8, "temperature": t}, seed, logprobs=4) for t in (0, 1.0) for seed in range(4)]
    real.scheduler.forget()
    answers = real.ask(asks)
    real.scheduler.forget()
    plain, largest = Plain(real), 0.0
    for answer in answers[::4]:
        values = log_softmax(plain.logits([[t] for t in (*prompt, *answer.tokens)]))[len(prompt) - 1 :]
        for entry, token, row in zip(answer.output(False).logprobs, answer.tokens, values, strict=False):
            best = [value for _, value in entry["top"]]
            assert len(best) == 4 and best == sorted(best, reverse=True)
            largest = max(largest, abs(entry["logprob"] - row[token]), abs(best[0] - row.max()))
    plain.close()
    print(f"\nf16: log-probabilities in company differ by at most {largest:.3f}")  # noqa: T201
    assert len(prompt) >= 64 and 1e-4 < largest < 0.1
