"""The dispatcher: lanes, blocks, turns, cancelling, an engine that breaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from workbench.engines.base import Capabilities, Piece, Requests, failed
from workbench.errors import EngineError, ModelError
from workbench.records import Message, Output, Request
from workbench.run.send import Dispatcher


@dataclass
class Recorder:
    """An engine that writes down what it is asked, in which takes, and when it is closed."""

    name: str = "a"
    in_process: bool = True
    at_once: int = 100
    log: list = field(default_factory=list)
    error: Exception | None = None
    gate: threading.Event | None = None
    capabilities: Capabilities = Capabilities()  # noqa: RUF009
    identity: str = "recorder"

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        while True:
            batch = requests.take(self.at_once, wait=0.05)
            if not batch and requests.closed:
                return
            if batch:
                self.log.append((self.name, [r.id for r in batch]))
            for request in batch:
                if self.error:
                    raise self.error
                while self.gate and not self.gate.wait(0.01):
                    if request.id in requests.cancelled():
                        break
                if request.id in requests.cancelled():
                    yield failed(request, "cancelled", "as asked")
                else:
                    if request.stream:
                        yield Piece(request.id, "pi")
                    yield Output(request.id, text=request.id.upper())

    def close(self) -> None:
        self.log.append((self.name, "closed"))


def ask(name: str, model: str = "a", *, stream: bool = False) -> Request:
    return Request(name, model, (Message.of("user", name),), stream=stream)


def test_answers_come_back_by_request() -> None:
    engine = Recorder()
    with Dispatcher({"a": engine}) as dispatcher:
        futures = [dispatcher.submit(ask(name)) for name in ("x", "y", "z")]
        assert [f.result(5).text for f in futures] == ["X", "Y", "Z"]
    assert engine.log[-1] == ("a", "closed")


def test_equal_requests_under_way_are_asked_once() -> None:
    engine = Recorder(gate=threading.Event())
    with Dispatcher({"a": engine}) as dispatcher:
        futures = [dispatcher.submit(ask("same")) for _ in range(5)]
        engine.gate.set()
        assert {f.result(5).text for f in futures} == {"SAME"}
    assert sum(ids.count("same") for _, ids in engine.log if ids != "closed") == 1


def test_a_block_ends_before_the_next_begins_in_process() -> None:
    engine = Recorder(gate=threading.Event())
    with Dispatcher({"a": engine}) as dispatcher:
        futures = [dispatcher.submit(ask(f"{block}{i}"), block) for block in (1, 2) for i in range(3)]
        engine.gate.set()
        [f.result(5) for f in futures]
    takes = [ids for _, ids in engine.log if ids != "closed"]
    assert all(len({i[0] for i in ids}) == 1 for ids in takes), takes
    assert [i for ids in takes for i in ids] == ["10", "11", "12", "20", "21", "22"]


def test_a_block_that_is_asked_at_once_is_seen_whole() -> None:
    engine = Recorder()
    with Dispatcher({"a": engine}) as dispatcher:
        for block in range(20):
            asked = [(block, ask(f"{block}-{i}")) for i in range(30)]
            [f.result(5) for f in dispatcher.submit_all(asked)]
    takes = [ids for _, ids in engine.log if ids != "closed"]
    assert [len(ids) for ids in takes] == [30] * 20


def test_a_hosted_engine_sees_all_blocks_at_once() -> None:
    engine = Recorder(in_process=False, gate=threading.Event())
    dispatcher = Dispatcher({"a": engine})
    futures = [dispatcher.submit(ask(f"{block}"), block) for block in range(4)]
    engine.gate.set()
    with dispatcher:
        [f.result(5) for f in futures]
    assert engine.log[0] == ("a", ["0", "1", "2", "3"])


def test_engines_in_process_take_turns_and_one_is_open_at_a_time() -> None:
    log: list = []
    engines = {name: Recorder(name, log=log) for name in ("a", "b")}
    dispatcher = Dispatcher(engines)
    futures = [dispatcher.submit(ask(f"{m}{i}", m), i) for i in range(3) for m in ("a", "b")]
    with dispatcher:
        [f.result(5) for f in futures]
    turns = [name for name, _ in log]
    assert turns == sorted(turns, key="ab".index) or turns[-2:] == ["a", "b"]
    assert log.index(("a", "closed")) < next(i for i, (n, ids) in enumerate(log) if n == "b")


def test_cancel_drops_what_waits_and_stops_what_goes() -> None:
    engine = Recorder(at_once=1, gate=threading.Event())
    with Dispatcher({"a": engine}) as dispatcher:
        futures = [dispatcher.submit(ask(str(i))) for i in range(10)]
        while not engine.log:
            threading.Event().wait(0.01)
        dispatcher.cancel()
        kinds = [f.result(5).failure.kind for f in futures]
    assert kinds == ["cancelled"] * 10
    assert len([1 for _, ids in engine.log if ids != "closed"]) == 1


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ModelError("no such model"), ModelError, "no such model"),
        (RuntimeError("out of luck"), EngineError, "RuntimeError: out of luck"),
    ],
)
def test_an_engine_that_breaks_ends_its_requests_not_the_lane(error, expected, message) -> None:
    engine = Recorder(error=error)
    with Dispatcher({"a": engine}) as dispatcher:
        with pytest.raises(expected, match=message):
            dispatcher.submit(ask("x")).result(5)
        engine.error = None
        assert dispatcher.submit(ask("y")).result(5).text == "Y"


def test_pieces_of_a_stream_are_handed_on() -> None:
    pieces: list[Piece] = []
    with Dispatcher({"a": Recorder()}, pieces.append) as dispatcher:
        dispatcher.submit(ask("x", stream=True)).result(5)
    assert pieces == [Piece("x", "pi")]
