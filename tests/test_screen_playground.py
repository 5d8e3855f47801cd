"""The playground screen: asking, streaming, stopping, past tries, and what becomes of one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import streamlit as st
from doubles.pages import address_of, opened, said, texts
from streamlit.testing.v1 import AppTest

from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.store.database import Database
from workbench.store.tries import list_tries

HELLO = "---\ninputs:\n  who: {type: string, example: Ann}\n---\nuser:\nHello {{ who }}"
HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) :red[x] \\x1b[31m \\u202egpj"
MODELS = """
models:
  slow: {engine: echo, options: {answers: {'.': "one two three four five six seven eight nine ten"}, tokens_per_second: 5}}
  bad: {engine: echo, options: {answers: {'.': "HOSTILE"}}}
  broken: {engine: echo, options: {nonsense: 1}}
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "prompts/hello.prompty", HELLO)
    write(tmp_path / "prompts/bye.prompty", "user:\nBye {{ who }}")
    write(tmp_path / "evals/greet.yaml", "prompts: [hello]\nmodels: [echo]\ncases: data/rows.jsonl\n")
    write(tmp_path / "data/rows.jsonl", '{"id": "a", "who": "Ben", "expected": "Ben"}\n')
    write(tmp_path / "workbench.yaml", MODELS.replace("HOSTILE", HOSTILE))
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    yield tmp_path
    st.cache_resource.clear()


def _screen() -> None:
    from workbench.views.screens import playground

    playground.show()


def page(**address: str) -> AppTest:
    return opened(AppTest.from_function(_screen, default_timeout=30), **address)


def button(app: AppTest, label: str):
    return next(b for b in app.button if b.label.startswith(label))


def ask(app: AppTest) -> AppTest:
    button(app, "Ask").click().run()
    return finished(app)


def finished(app: AppTest) -> AppTest:
    for _ in range(200):
        assert not app.exception
        if button(app, "Stop").disabled:
            return app.run()
        time.sleep(0.02)
        app.run()
    raise AssertionError("the answers never came")


def tries(root: Path) -> list:
    with Database.open(load_project(root).store_url).read() as connection:
        return list_tries(connection, 100)


def test_without_a_prompt_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    app = page()
    assert "no prompt yet" in app.info[0].value and app.button[0].label == "Write a prompt"


def test_prompts_times_models_are_asked_and_kept(root: Path) -> None:
    app = page(prompts="hello,bye", models="echo,bad")
    assert button(app, "Ask").label == "Ask for 4 answers"
    ask(app)
    shown = texts(app)
    assert "Hello Ann" in shown and "Bye Ann" in shown and "hello · echo" in shown and "cost $0" in shown
    assert "<script>" in shown and "\x1b" not in shown and "\u202e" not in shown
    assert not [e.value for e in app.markdown if "evil" in e.value or "<" in e.value]
    assert len(tries(root)) == 4 and len(app.dataframe[0].value) == 4


def test_markdown_on_demand_does_no_harm(root: Path) -> None:
    app = ask(page(prompts="hello", models="bad"))
    app.toggle[0].set_value(True).run()
    html = "".join(e.proto.body for e in app.get("html"))
    assert not app.exception and "<script" not in html and "<img" not in html and "script" in html


def test_an_answer_streams_and_is_stopped(root: Path) -> None:
    app = page(prompts="hello", models="slow")
    button(app, "Ask").click().run()
    while "one" not in texts(app):
        time.sleep(0.05)
        app.run()
    assert "answering" in texts(app) and "ten" not in texts(app)
    button(app, "Stop").click().run()
    finished(app)
    assert "stopped" in said(app) and "one" in texts(app)
    assert tries(root)[0].output.failure.kind == "cancelled"


def test_a_model_that_cannot_be_opened_leaves_the_others_be(root: Path) -> None:
    app = ask(page(prompts="hello", models="broken,echo"))
    assert "unknown setting" in said(app) and "Hello Ann" in texts(app) and len(tries(root)) == 1


def test_parameters_and_answer_form_stand_in_the_address(root: Path) -> None:
    app = page(prompts="hello", models="echo", params='{"temperature": 0.5, "stop": ["x"]}')
    by_label = {n.label: n for n in app.number_input}
    assert by_label["temperature"].value == 0.5 and "stop" in by_label_of(app, "Other parameters").value
    by_label["max_tokens"].set_value(1).run()
    assert json.loads(address_of(app, "params")) == {"temperature": 0.5, "stop": ["x"], "max_tokens": 1}
    ask(app)
    assert tries(root)[0].settings["params"] == {"temperature": 0.5, "stop": ["x"], "max_tokens": 1}
    assert "cut at max_tokens" in texts(app)


def by_label_of(app: AppTest, label: str):
    return next(e for e in [*app.text_input, *app.text_area, *app.selectbox] if e.label == label)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ({"params": "{"}, ""),
        ({"params": "[]", "answer": "7"}, ""),
        ({"params": '{"temperature": "warm"}'}, "has to be a number"),
        ({"params": '{"max_tokens": 1e400}'}, ""),
        ({"params": '{"temperature": 1e999, "top_p": NaN}'}, ""),
        ({"answer": '{"schema": "{"}'}, "not JSON"),
        ({"answer": '{"choices": ["a", "b"]}'}, "can't do answer: choices"),
        ({"tries": "99,x", "asking": "nothing", "page": "7"}, ""),
        ({"prompts": "none,hello"}, ""),
        ({"models": "nosuch"}, "unknown model 'nosuch'"),
        ({"inputs": "greet", "case": "none"}, ""),
    ],
)
def test_an_address_that_cannot_be_is_one_line(root: Path, address: dict[str, str], problem: str) -> None:
    app = page(**{"prompts": "hello", "models": "echo", **address})
    told = said(app)
    if not button(app, "Ask").disabled:
        button(app, "Ask").click().run()
        told += said(app) + said(finished(app))
    assert not app.exception
    if problem:
        assert problem in told
        assert all("\n" not in e.value for e in [*app.error, *app.warning])
    else:
        assert not app.error


def test_past_tries_come_back_by_their_address(root: Path) -> None:
    ask(page(prompts="hello", models="echo"))
    number = tries(root)[0].number
    app = page(tries=str(number))
    assert "Hello Ann" in texts(app) and f"try {number}" in by_label_of(app, "Of").options[0]


def test_a_try_becomes_a_case(root: Path) -> None:
    app = ask(page(prompts="hello", models="echo"))
    by_label_of(app, "Name").set_value("a")
    button(app, "Append").click().run()
    assert "one more case: a-2" in said(app)
    rows = [json.loads(line) for line in (root / "data/rows.jsonl").read_text().splitlines()]
    assert rows[1] == {"id": "a-2", "who": "Ann", "expected": "Hello Ann"}
    button(app, "Append").click().run()
    assert "already" in said(app)


def test_what_is_on_the_page_becomes_a_suite(root: Path) -> None:
    app = ask(page(prompts="hello,bye", models="echo,bad", params='{"temperature": 0.5}'))
    by_label_of(app, "Name of the suite").set_value("mine")
    button(app, "Write").click().run()
    assert "evals/mine.yaml is written" in said(app)
    suite = load_suite("mine", load_project(root), Library(root / "prompts"))
    assert len(suite.variants) == 4 and suite.variants[0].params == {"temperature": 0.5} and len(suite.cases) == 1


def test_a_draft_is_asked_and_becomes_a_revision(root: Path) -> None:
    app = page(prompts="hello", models="echo")
    app.text_area[0].set_value(HELLO.replace("Hello", "Ahoy")).run()
    ask(app)
    assert "Ahoy Ann" in texts(app) and "Hello" in (root / "prompts/hello.prompty").read_text()
    by_label_of(app, "Name of the suite").set_value("mine")
    button(app, "Write").click().run()
    assert "save 'hello' first" in said(app) and not (root / "evals/mine.yaml").exists()
    by_label_of(app, "Message").set_value("at sea")
    next(b for b in app.button if b.label == "Save").click().run()
    assert "saved as revision" in said(app) and "Ahoy" in (root / "prompts/hello.prompty").read_text()
