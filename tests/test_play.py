"""The playground: several models at once, streaming, stopping, what is kept; who goes first on this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.define.prompt import parse_prompt
from workbench.engines.llama.files import cache_folder
from workbench.errors import UseError
from workbench.play import Answer, Playground, Question
from workbench.records import Model, Prompt
from workbench.store.database import Database
from workbench.store.recording import spent
from workbench.store.tries import count_tries, get_tries, list_tries

PROMPT = parse_prompt("user:\nSay {{ word }} and then {{ word }} again", "say")
LONG = " ".join(["word"] * 400)


def echo(alias: str = "echo", **options: object) -> Model:
    return Model(alias, "echo", options, price={"input": 1.0, "output": 2.0})


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


@pytest.fixture
def playground(database: Database):
    opened = Playground(database)
    yield opened
    opened.close()


def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def ask(playground: Playground, *questions: Question, budget=None) -> list[Answer]:
    answers = playground.answers(playground.ask(questions, budget or {}))
    assert answers is not None
    return answers


def asked(model: Model, prompt: Prompt = PROMPT, **params: object) -> Question:
    return Question(prompt, model, {"word": "yes"}, params)


def test_prompts_and_models_side_by_side(playground: Playground, database: Database) -> None:
    other = parse_prompt("user:\nNo {{ word }}", "other")
    answers = ask(
        playground, *(asked(m, p) for p in (PROMPT, other) for m in (echo(), echo("loud", answers={".": "A"})))
    )
    until(lambda: all(a.done for a in answers))
    assert [a.text for a in answers] == ["Say yes and then yes again", "A", "No yes", "A"]
    with database.read() as connection:
        tries = list_tries(connection, 10)
        assert count_tries(connection) == 4 and spent(connection)[0] > 0, "it counts as everything asked does"
        assert get_tries(connection, [answers[0].number or 0])[0].output.text == answers[0].text
    found = next(t for t in tries if t.number == answers[1].number)
    assert (found.prompt, found.revision, found.model, found.text) == ("say", PROMPT.revision, "loud", PROMPT.text)
    assert found.inputs == {"word": "yes"} and found.messages[0]["content"] == "Say yes and then yes again"
    assert found.output.cost == answers[1].output.cost is not None  # type: ignore[union-attr]


def test_an_answer_streams_and_can_be_stopped(playground: Playground, database: Database) -> None:
    slow = echo(answers={".": LONG}, tokens_per_second=50)
    first, second = (
        ask(playground, asked(slow)),
        ask(playground, asked(echo("other", answers={".": LONG}, tokens_per_second=400))),
    )
    until(lambda: len(first[0].text) > 10 and second[0].text)
    assert not first[0].done and LONG.startswith(first[0].text)
    playground.stop(first)
    until(lambda: first[0].done)
    assert first[0].output and first[0].output.failure and first[0].output.failure.kind == "cancelled"
    assert 10 < len(first[0].text) < len(LONG), "what came is kept"
    until(lambda: second[0].done)
    assert second[0].text == LONG, "what someone else asked goes on"
    with database.read() as connection:
        kept = get_tries(connection, [first[0].number or 0])[0]
    assert kept.output.text == first[0].text and kept.output.failure is not None


def test_a_request_that_two_wait_for_is_stopped_only_by_both(playground: Playground) -> None:
    slow = echo(answers={".": LONG}, tokens_per_second=100)
    mine, theirs = (ask(playground, asked(slow, temperature=0)) for _ in range(2))
    assert mine[0].request == theirs[0].request
    playground.stop(mine)
    time.sleep(0.1)
    assert not theirs[0].done
    playground.stop([*mine, *theirs])
    until(lambda: mine[0].done and theirs[0].done)


def test_a_try_is_always_asked_and_draws_its_own_seed(playground: Playground) -> None:
    model = echo(answers={".": [str(n) for n in range(1000)]})
    answers = [ask(playground, asked(model, temperature=1))[0] for _ in range(8)]
    fixed = [ask(playground, asked(model, temperature=1, seed=7))[0] for _ in range(2)]
    until(lambda: all(a.done for a in [*answers, *fixed]))
    assert len({a.text for a in answers}) > 4 and fixed[0].text == fixed[1].text
    assert fixed[0].number != fixed[1].number


@pytest.mark.parametrize(
    ("question", "budget", "problem"),
    [
        (asked(echo(), max_tokens=0), {}, "max_tokens"),
        (Question(PROMPT, echo(), {}), {}, "input 'word' has no value"),
        (Question(PROMPT, echo(), {"word": "x"}, {}, {"schema": {}}), {}, "can't do answer: schema"),
        (asked(Model("nothing", "nosuch")), {}, "unknown engine"),
        (asked(echo(wrong=1)), {}, "unknown setting 'wrong'"),
        (asked(echo()), {"tokens": 100}, "set max_tokens"),
        (asked(echo(), max_tokens=90), {"tokens": 100}, "the project's budget"),
        (asked(Model("e", "echo"), max_tokens=9), {"cost": 1.0}, "price of 'e'"),
        (asked(echo(fail={"yes": {"kind": "refused", "message": "no"}})), {}, "no"),
    ],
)
def test_what_cannot_be_asked_says_why_and_leaves_the_others_be(
    playground: Playground, question: Question, budget: dict, problem: str
) -> None:
    bad, good = ask(
        playground,
        question,
        asked(echo("fine"), max_tokens=5),
        budget=budget and {"cost": 9.0, **budget, "tokens": budget.get("tokens", 10_000)},
    )
    until(lambda: bad.done and good.done)
    failure = bad.output.failure.message if bad.output and bad.output.failure else ""
    assert problem in (bad.problem or failure)
    if not budget:
        assert good.text.startswith("Say yes")


def test_tries_under_way_count_in_the_projects_budget(playground: Playground, database: Database) -> None:
    slow = echo(answers={".": LONG}, tokens_per_second=50)
    (first,) = ask(playground, asked(slow, max_tokens=90), budget={"tokens": 200})
    (second,) = ask(playground, asked(slow, max_tokens=90), budget={"tokens": 200})
    assert second.problem.startswith("the project's budget")
    playground.stop([first])
    until(lambda: first.done)
    assert first.output and "beyond" in first.output.extra, "it may have been paid for, whatever it tells"
    broken = asked(
        Model("own", "python", {"path": "none.py:answer"}, price={"input": 1.0, "output": 1.0}), max_tokens=9
    )
    (failed,) = ask(playground, broken, budget={"tokens": 2000})
    until(lambda: failed.done)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM reservations").scalar() == 0


def test_an_engine_that_breaks_says_so(playground: Playground, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def answer(messages, params, seed):\n    raise RuntimeError('out of order')\n")
    answers = ask(playground, asked(Model("own", "python", {"path": f"{tmp_path}/broken.py:answer"})))
    until(lambda: answers[0].done)
    told = answers[0].problem or (answers[0].output and answers[0].output.failure and answers[0].output.failure.message)
    assert told and "out of order" in told


def test_tokens_are_counted_without_asking(playground: Playground, database: Database) -> None:
    assert playground.count_tokens(asked(echo())) == 6
    with pytest.raises(UseError):
        playground.count_tokens(Question(PROMPT, echo(), {}))
    with database.read() as connection:
        assert count_tries(connection) == 0


SWEEP = """
import sys, time
from workbench.engines.llama.lock import Turn
with Turn() as turn:
    for block in range(400):
        turn.take()
        print(block, flush=True)
        time.sleep(0.05)
"""
FIRST = """
from workbench.engines.llama import lock
lock.go_first()
with lock.Turn() as turn:
    turn.take()
    print("mine", flush=True)
    input()
"""


def test_the_playground_goes_first_between_blocks() -> None:
    cache_folder()
    with subprocess.Popen([sys.executable, "-c", SWEEP], stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout and sweep.stdout.readline() == "0\n"
        command = [sys.executable, "-c", FIRST]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout and first.stdout.readline() == "mine\n"
            assert sweep.poll() is None, "it had to wait for a block, not for the sweep"
            first.communicate("\n", timeout=10)
        blocks = [int(sweep.stdout.readline()) for _ in range(5)]
        assert blocks == list(range(1, 6)), "then the sweep goes on"
        sweep.kill()
