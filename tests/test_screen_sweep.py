"""The screen Sweep: a suite built with the form and as YAML, checked, saved and started."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.pages import clean, opened, said, texts
from streamlit.testing.v1 import AppTest

from workbench.define.project import load_project
from workbench.jobs import list_jobs, state, stop_job

SCRIPT = "from workbench.views.screens.sweep import show\nshow()\n"
SUITE = """\
# Greetings.
prompts: [hello]
models: [house]
params: {temperature: [0, 1], max_tokens: 20}
cases: data/people.jsonl
scorers: [contains]  # the name
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nBye {{ who }}")
    rows = "".join(f'{{"id": "{n}", "who": "{n}", "expected": "{n}"}}\n' for n in ("Ann", "Ben", "Cat"))
    write(tmp_path / "data/people.jsonl", rows)
    write(tmp_path / "workbench.yaml", "models: {house: {engine: echo, options: {delay: 0.01}}}\n")
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    yield tmp_path
    for job in list_jobs(load_project(tmp_path)):
        if state(job) != "ended":
            stop_job(load_project(tmp_path), job)


@pytest.fixture
def greet(project: Path) -> Path:
    write(project / "evals/greet.yaml", SUITE)
    return project / "evals/greet.yaml"


def page(**address: str) -> AppTest:
    return opened(AppTest.from_string(SCRIPT, default_timeout=30), **address)


def button(app: AppTest, label: str):
    return next(b for b in app.button if b.label == label)


def errors(app: AppTest) -> list[str]:
    return [e.value.strip("` ") for e in app.error]


def widget(kind, label: str):
    return next(w for w in kind if w.label == label)


def test_an_empty_project_offers_a_new_suite(project: Path) -> None:
    app = page()
    assert widget(app.selectbox, "Suite").value == "*"
    assert button(app, "Check").disabled and button(app, "Save and start").disabled


def test_a_suite_is_shown_and_nothing_is_changed(greet: Path) -> None:
    app = page(suite="greet")
    assert widget(app.multiselect, "Prompts").value == ["hello"]
    assert widget(app.selectbox, "File with the cases").value == "data/people.jsonl"
    assert "# Greetings." in texts(app) and not errors(app)
    clean(button(app, "Save").click().run())
    assert "evals/greet.yaml says the same already" in said(app) and button(app, "Start")
    (preview,) = [d.value for d in app.dataframe if "who" in d.value]
    assert list(preview["who"]) == ["Ann", "Ben", "Cat"]


def test_the_form_changes_the_file(greet: Path) -> None:
    app = page(suite="greet")
    clean(widget(app.multiselect, "Prompts").set_value(["hello", "bye"]).run())
    clean(widget(app.number_input, "Repeats of each case").set_value(2).run())
    clean(widget(app.selectbox, "Add a scorer").select("length").run())
    assert len(app.expander) >= 3, "the scorers and the YAML"
    clean(button(app, "Check").click().run())
    assert "variants × cases × repeats: 4 × 3 × 2" in texts(app) and "trials: 24" in texts(app)
    assert greet.read_text("utf-8") == SUITE, "nothing is saved yet"
    clean(button(app, "Save").click().run())
    text = greet.read_text("utf-8")
    assert text.startswith("# Greetings.\n") and "prompts: [hello, bye]" in text and "repeats: 2" in text
    assert "scorers: [contains, length]" in text.replace("\n- ", " ") or "- length" in text
    assert "evals/greet.yaml is saved" in said(app) and button(app, "Start")


@pytest.mark.parametrize(
    ("added", "error"),
    [
        ("repeats: 0\n", "evals/greet.yaml:7: repeats must be greater than or equal to 1, not 0"),
        ("repeats: 99999999999999999999\n", ""),
        ("budget: {cost: -1}\n", "evals/greet.yaml:7: budget.cost must be greater than 0, not -1"),
        ("a: [\n", "evals/greet.yaml:8: not valid YAML: a '[' or '{' is not closed"),
    ],
)
def test_what_no_field_can_hold_is_one_line_in_the_form(greet: Path, added: str, error: str) -> None:
    greet.write_text(SUITE + added, "utf-8")
    app = page(suite="greet")
    assert errors(app) == ([error] if error else []) and button(app, "Save").disabled == bool(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (SUITE + "nonsense: 1\n", "evals/greet.yaml:7: unknown key 'nonsense'"),
        (SUITE + "a: [\n", "evals/greet.yaml:8: "),
        ("", "evals/greet.yaml: is empty"),
        (SUITE + "repeats: -1\n", "evals/greet.yaml:7: repeats"),
    ],
)
def test_what_is_wrong_in_the_yaml_is_one_line(greet: Path, text: str, error: str) -> None:
    app = page(suite="greet", edit="yaml")
    clean(app.text_area[0].set_value(text).run())
    assert len(errors(app)) == 1 and error in errors(app)[0]
    assert button(app, "Save").disabled and button(app, "Save and start").disabled


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (SUITE.replace("[hello]", "[helo]"), "did you mean 'hello'"),
        (SUITE.replace("people", "nobody"), "data/nobody.jsonl"),
        (SUITE.replace("[contains]", "[contain]"), "did you mean 'contains'"),
    ],
)
def test_check_says_what_can_not_work(greet: Path, text: str, error: str) -> None:
    app = page(suite="greet", edit="yaml")
    clean(app.text_area[0].set_value(text).run())
    clean(button(app, "Check").click().run())
    assert len(errors(app)) == 1 and error in errors(app)[0]


def test_yaml_keeps_its_comments_and_a_file_that_changed_is_not_overwritten(greet: Path) -> None:
    app = page(suite="greet", edit="yaml")
    new = SUITE.replace("[0, 1]", "[0, 0.5, 1]")
    clean(app.text_area[0].set_value(new).run())
    clean(button(app, "Save").click().run())
    assert greet.read_text("utf-8") == new
    clean(app.text_area[0].set_value(new + "repeats: 3\n").run())
    write(greet, SUITE + "# mine\n")
    clean(button(app, "Save").click().run())
    assert "was changed by someone else" in errors(app)[0] and greet.read_text("utf-8") == SUITE + "# mine\n"
    clean(button(app, "Undo all changes").click().run())
    assert app.text_area[0].value == SUITE + "# mine\n"


def test_a_new_suite_is_built_saved_and_started(project: Path) -> None:
    app = page(suite="*")
    clean(app.text_input(key="new suite").set_value("mine").run())
    clean(widget(app.multiselect, "Prompts").set_value(["hello"]).run())
    clean(widget(app.multiselect, "Models").set_value(["house"]).run())
    clean(widget(app.selectbox, "File with the cases").select("data/people.jsonl").run())
    clean(widget(app.selectbox, "Add a scorer").select("contains").run())
    clean(button(app, "Save and start").click().run())
    assert not errors(app), errors(app)
    assert widget(app.selectbox, "Suite").value == "mine"
    (job,) = list_jobs(load_project(project))
    for _ in range(600):
        if state(job) == "ended":
            break
        time.sleep(0.1)
    clean(app.run())
    assert "mine · complete" in texts(app) and "3 of 3 trials" in texts(app)
    clean(button(app, "Start").click().run())
    assert len(list_jobs(load_project(project))) == 2


def test_foreign_names_stay_text(project: Path) -> None:
    write(project / "evals/greet.yaml", SUITE.replace("people", "<b>![x](http://evil.example/x)"))
    app = page(suite="greet")
    assert not [e for e in [*app.markdown, *app.caption] if "evil" in e.value]
    assert all(e.value.startswith("`") for e in app.error)


def test_means_of_a_run_under_way_have_their_interval(greet: Path) -> None:
    slow = "models: {house: {engine: echo, options: {delay: 1}, limits: {concurrency: 1}}}\n"
    write(greet.parents[1] / "workbench.yaml", slow)
    app = page(suite="greet")
    clean(button(app, "Start").click().run())
    column = "so far, incomplete"
    end = time.monotonic() + 60
    while not (found := [d.value for d in app.dataframe if column in d.value]) and time.monotonic() < end:
        time.sleep(0.2)
        clean(app.run())
    (table,) = found
    assert table[column][0].startswith("t")
    assert re.fullmatch(r"\d+ % \[\d+, \d+\] · \d cases?", table["contains"][0])
