"""The scripted engine."""

from __future__ import annotations

import pytest
from doubles.asking import Row, ask, pieces, user
from hypothesis import given
from hypothesis import strategies as st

from workbench.define import properties
from workbench.engines.base import check_known
from workbench.engines.echo import EchoEngine
from workbench.engines.llama import sampling
from workbench.engines.openai.hosts import LOCAL_SAMPLERS
from workbench.engines.python import PythonEngine
from workbench.errors import ModelError
from workbench.records import Message, Model, Request

ANSWERS = {"capital of (\\w+)": ["Paris", "Lyon", "Nice"], "hello": "hello to you", "Hello?": "exact"}


def echo(**settings: object) -> EchoEngine:
    return EchoEngine(Model("e", "echo", settings, price={"input": 1.0, "output": 2.0}))


@pytest.mark.parametrize(
    ("question", "params", "text", "finish"),
    [
        ("nothing matches", {}, "nothing matches", "stop"),
        ("the capital of France", {}, "Paris", "stop"),
        ("Hello?", {}, "exact", "stop"),
        ("say hello", {}, "hello to you", "stop"),
        ("say hello", {"max_tokens": 2}, "hello to", "length"),
        ("say hello", {"max_tokens": 0}, "", "length"),
        ("say hello", {"max_tokens": 3}, "hello to you", "stop"),
        ("say hello", {"stop": ["you", " to"]}, "hello", "stop"),
        ("a\n b  c", {"max_tokens": 2}, "a\n b", "length"),
    ],
)
def test_answers(question: str, params: dict[str, object], text: str, finish: str) -> None:
    (output,) = ask(echo(answers=ANSWERS), user(question, params=params))
    assert (output.text, output.finish_reason, output.failure) == (text, finish, None)


def test_the_last_user_message_is_answered_and_words_are_counted_and_paid() -> None:
    messages = (Message.of("system", "be brief"), Message.of("user", "one two"), Message.of("assistant", "x"))
    (output,) = ask(echo(), Request("r", "e", messages))
    assert (output.text, output.prompt_tokens, output.output_tokens) == ("one two", 5, 2)
    assert output.cost == pytest.approx((5 * 1 + 2 * 2) / 1e6)


def test_seeds_choose_at_a_temperature_only() -> None:
    def answers(temperature: float) -> list[str]:
        asked = [user("capital of x", str(i), seed=i, params={"temperature": temperature}) for i in range(40)]
        return [output.text for output in ask(echo(answers=ANSWERS), *asked)]

    assert set(answers(0)) == {"Paris"}
    assert set(answers(1)) == {"Paris", "Lyon", "Nice"}
    assert answers(1) == answers(1)


def test_failures_by_pattern_and_at_first() -> None:
    engine = echo(fail={"poison": {"kind": "refused", "message": "no"}, "slow": "timeout"}, fail_first=1)
    outputs = ask(engine, user("a", "1"), user("poison", "2"), user("slow", "3"), user("a", "4"))
    kinds = [(o.failure.kind, o.failure.message, o.failure.retry) if o.failure else None for o in outputs]
    assert kinds == [
        ("server", "scripted failure (fail_first)", True),
        ("refused", "no", False),
        ("timeout", "scripted failure", False),
        None,
    ]


def test_delays_run_at_the_same_time_and_are_told_exactly() -> None:
    outputs = ask(echo(delay=0.05, tokens_per_second=100), *(user("a b", str(i)) for i in range(50)))
    assert [output.request_id for output in outputs] == [str(i) for i in range(50)]
    assert {(output.seconds, output.first_token_seconds) for output in outputs} == {(0.05 + 0.02, 0.05 + 0.01)}


def test_streams_words() -> None:
    words, output = pieces(echo(tokens_per_second=1000), user("one two  three", stream=True))
    assert words == ["one", " two", "  three"]
    assert output.text == "".join(words)


def test_cancelled_requests_end_and_others_go_on() -> None:
    engine = echo(answers={"slow": "x"}, delay=0.03)
    row = Row([user("slow", "1"), user("b", "2")], cancel=lambda: {"1"})
    assert [(o.request_id, o.failure.kind if o.failure else None) for o in engine.generate(row)] == [
        ("1", "cancelled"),
        ("2", None),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anwers": {}}, "unknown setting 'anwers'; did you mean 'answers'?"),
        ({"answers": ["a"]}, "'answers' has to map"),
        ({"answers": {"(": "a"}}, r"'\(' in 'answers' is no regular expression"),
        ({"answers": {"a": []}}, "a text or a list of texts"),
        ({"delay": -1}, "'delay' is -1; it has to be a number from 0 up"),
        ({"fail": {"a": {"retry": True}}}, "has to be a kind"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        echo(**settings)


@pytest.mark.parametrize("params", [{"max_tokens": "8"}, {"temperature": True}, {"stop": [1]}])
def test_wrong_params(params: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=f"parameter '{next(iter(params))}'"):
        echo().check_params(params)


def test_what_other_models_take_is_taken_and_a_typo_is_not() -> None:
    """Echo stands in for them: whatever a prompt or a suite may say to one, it may say to echo."""
    engine = echo()
    for name in sampling.PARAMS | LOCAL_SAMPLERS | properties.NUMBERS | properties.INTEGERS | properties.OTHERS:
        assert name in (engine.capabilities.params or ()), name
    check_known(engine, {"top_k": 4, "reasoning_effort": "low"})
    with pytest.raises(ModelError, match="unknown parameter 'temprature'; did you mean 'temperature'?"):
        check_known(engine, {"temprature": 1})


def test_an_engine_that_declares_no_parameters_takes_any() -> None:
    engine = PythonEngine(Model("m", "python", {"object": f"{__name__}:as_told"}))
    check_known(engine, {"temprature": 1})


def as_told(messages: list, params: dict, seed: int | None) -> str:
    return str(params)


def test_identity_is_the_script_that_can_change_an_answer() -> None:
    assert echo(answers=ANSWERS).identity == echo(answers=ANSWERS, delay=1).identity
    assert echo(answers=ANSWERS).identity != echo().identity


@given(st.text(), st.integers(0, 5))
def test_an_echo_is_the_beginning_of_the_question(text: str, most: int) -> None:
    (output,) = ask(echo(), user(text, params={"max_tokens": most}))
    assert text.startswith(output.text)
    assert (output.output_tokens or 0) <= most
