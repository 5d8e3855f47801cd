"""A conversation asked turn by turn: what each turn is asked with, and what becomes of the whole."""

from __future__ import annotations

import pytest

from workbench.engines.base import Piece
from workbench.errors import ModelError
from workbench.records import Message, Model, Output, Request
from workbench.registry import ENGINES


class Pull:
    """Requests, all at hand."""

    def __init__(self, *requests: Request) -> None:
        self.left = list(requests)
        self.unwanted: set[str] = set()

    def take(self, at_most: int, wait: float) -> list[Request]:
        taken, self.left = self.left[:at_most], self.left[at_most:]
        return taken

    def cancelled(self) -> set[str]:
        return self.unwanted

    @property
    def closed(self) -> bool:
        return not self.left


def engine(**options):
    return ENGINES.get("turns")(Model("m", "turns", {"of": {"engine": "echo", "options": options}}))


def request(name: str, *said: str, stream: bool = False) -> Request:
    """`u:text`, `a:text`, `s:text`."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return Request(name, "m", tuple(Message.of(roles[s[0]], s[2:]) for s in said), stream=stream)


def outputs(engine, *requests: Request) -> dict[str, Output]:
    found = [event for event in engine.generate(Pull(*requests)) if isinstance(event, Output)]
    assert len(found) == len(requests)
    return {output.request_id: output for output in found}


def test_each_turn_goes_on_with_the_answers_before() -> None:
    asked = []

    class Spy:
        in_process = False

        def generate(self, requests):
            while not requests.closed:
                for r in requests.take(8, 0):
                    asked.append([f"{m.role[0]}:{m.text}" for m in r.messages])
                    yield Output(
                        r.id, f"re {r.messages[-1].text}", prompt_tokens=2, output_tokens=1, seconds=0.5, cost=1
                    )

    made = engine()
    made._inner = Spy()
    found = outputs(made, request("r", "s:x", "u:one", "u:two", "a:given", "u:three"), request("q", "u:alone"))
    assert asked == [
        ["s:x", "u:one"], ["u:alone"], ["s:x", "u:one", "a:re one", "u:two", "a:given", "u:three"]
    ]  # fmt: skip
    whole = found["r"]
    assert (whole.text, whole.prompt_tokens, whole.output_tokens, whole.seconds, whole.cost) == (
        "re three",
        4,
        2,
        1.0,
        2,
    )
    assert found["q"].output_tokens == 1


def test_a_turn_that_fails_ends_the_conversation() -> None:
    broken = engine(fail={"one": {"kind": "refused", "message": "no", "retry": False}})
    output = outputs(broken, request("r", "u:one", "u:two"))["r"]
    assert output.failure is not None
    assert output.failure.kind == "refused"


def test_what_is_cut_off_is_not_gone_on_with() -> None:
    asked = Request("r", "m", (Message.of("user", "one two three"), Message.of("user", "four")), {"max_tokens": 1})
    output = outputs(engine(), asked)["r"]
    assert output.failure is not None
    assert "turn 1 ended with 'length'" in output.failure.message


def test_only_the_last_turn_streams() -> None:
    events = list(engine().generate(Pull(request("r", "u:one", "u:two", stream=True))))
    pieces = [event for event in events if isinstance(event, Piece)]
    assert "".join(piece.text for piece in pieces) == "two"
    assert {piece.request_id for piece in pieces} == {"r"}


def test_a_cancelled_conversation_is_given_back() -> None:
    pull = Pull(request("r", "u:one", "u:two"))
    pull.unwanted = {"r"}
    (output,) = engine(delay=60).generate(pull)
    assert output.failure is not None
    assert (output.request_id, output.failure.kind) == ("r", "cancelled")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "needs options: {of:"),
        ({"of": "echo"}, "needs options: {of:"),
        ({"of": {"engine": "turns"}}, "is itself"),
        ({"off": {}}, "unknown setting 'off'"),
        ({"of": {"engine": "echo", "options": {"delays": 1}}}, "unknown setting 'delays'"),
    ],
)
def test_wrong_settings(settings: dict, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        ENGINES.get("turns")(Model("m", "turns", settings))


def test_its_answers_are_not_those_of_the_model_alone() -> None:
    inner = ENGINES.get("echo")(Model("m", "echo", {}))
    assert engine().identity != inner.identity
    assert engine().count_tokens(request("r", "u:one", "u:two")) == 3
