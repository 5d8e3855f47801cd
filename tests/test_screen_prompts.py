"""The prompts screen: tree, editor, saving, history, labels, renaming; foreign text stays text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.pages import address_of, opened, said, texts
from streamlit.testing.v1 import AppTest

from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store.database import Database
from workbench.store.prompts import history
from workbench.views.screens.page import literal
from workbench.views.screens.prompt_history import diff_rows

HELLO = "---\ninputs:\n  who: {type: string, example: Ann}\n---\nuser:\nHello {{ who }}"
SUITE = "prompts: [hello]\nmodels: [echo]\ncases: [{id: a, who: Ben, expected: Ben}, {id: b, who: Cy, expected: no}]\nscorers: [contains]\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "prompts/hello.prompty", HELLO)
    write(tmp_path / "prompts/talk/bye.prompty", "user:\nBye {{ who }}")
    write(tmp_path / "evals/greet.yaml", SUITE)
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    return tmp_path


def page(**address: str) -> AppTest:
    return opened(AppTest.from_function(_screen, default_timeout=30), **address)


def _screen() -> None:
    from workbench.views.screens import prompts

    prompts.show()


def by_label(elements, label: str):
    return next(e for e in elements if e.label == label)


def run(root: Path) -> None:
    project = load_project(root)
    suite = load_suite("greet", project, Library(project.library_root), SCORERS.names())
    run_suite(prepare_suite(suite, root), Database.open(project.store_url))


def recorded(root: Path) -> list:
    with Database.open(load_project(root).store_url).read() as connection:
        return history(connection, "hello")


def test_an_empty_library_takes_a_first_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    app = page()
    assert "No prompt yet" in app.info[0].value
    by_label(app.text_input, "Name").set_value("first/one")
    by_label(app.button, "Create").click().run()
    assert not app.exception and (tmp_path / "prompts/first/one.prompty").is_file()
    assert address_of(app, "prompt") == "first/one" and "first/one is in" in said(app)


def test_the_tree_opens_a_prompt(root: Path) -> None:
    app = page()
    assert "Hello Ann" in texts(app), "rendered with the example"
    next(b for b in app.button if b.label.endswith(literal("bye"))).click().run()
    assert address_of(app, "prompt") == "talk/bye" and app.text_area[0].value == "user:\nBye {{ who }}"


def test_it_renders_while_one_writes_and_saves_with_a_message(root: Path) -> None:
    app = page(prompt="hello")
    app.text_area[0].set_value(HELLO.replace("Hello", "Good day")).run()
    assert "Good day Ann" in texts(app) and (root / "prompts/hello.prompty").read_text() == HELLO
    assert "changed, not saved; kept as a draft" in [c.value for c in app.caption]
    by_label(app.text_input, "Message").set_value("politer")
    by_label(app.button, "Save").click().run()
    assert not app.exception and "saved as revision" in said(app)
    assert "Good day" in (root / "prompts/hello.prompty").read_text()
    assert [r.message for r in recorded(root)] == ["politer"]
    by_label(app.button, "Save").click().run()
    assert "as saved already" in said(app) and len(recorded(root)) == 1


def test_a_file_that_changed_meanwhile_is_not_overwritten(root: Path) -> None:
    app = page(prompt="hello")
    app.text_area[0].set_value(HELLO + " mine").run()
    write(root / "prompts/hello.prompty", HELLO + " theirs")
    by_label(app.button, "Save").click().run()
    assert "was changed by someone else" in said(app) and "theirs" in (root / "prompts/hello.prompty").read_text()
    by_label(app.button, "Load the file, drop this draft").click().run()
    assert app.text_area[0].value == HELLO + " theirs"


def test_a_file_that_the_store_can_not_be_told_of_is_saved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database.open(load_project(root).store_url).close()
    app = page(prompt="hello")
    app.text_area[0].set_value(HELLO + " mine").run()
    monkeypatch.setenv("WORKBENCH_STORE", f"sqlite:///file:{root}/.workbench/runs.db?mode=ro&uri=true")
    by_label(app.button, "Save").click().run()
    assert "readonly database" in said(app) and (root / "prompts/hello.prompty").read_text() == HELLO + " mine"
    assert "changed by someone else" not in said(app) and "as saved" in [c.value for c in app.caption]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user:\n{{ who", "line 2"),
        ("---\ninputs: {other: {type: string}}\n---\nuser:\n{{ who }}", "not among the declared inputs"),
        (
            "---\ninputs: {who: {type: string}, more: {type: string, required: false}}\n---\nuser:\n{{ who }}",
            "declared but not used",
        ),
        ("usr:\n{{ who }}", "did you mean 'user:'"),
        ("user:\n<b>![x](http://evil.example/y)</b> {% for %}", "line 2"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root: Path, text: str, shown: str) -> None:
    app = page(prompt="hello")
    app.text_area[0].set_value(text).run()
    assert not app.exception
    assert any(shown in e.value and "\n" not in e.value for e in [*app.error, *app.warning])


def test_a_case_of_a_suite_fills_the_inputs(root: Path) -> None:
    app = page(prompt="hello", inputs="greet", case="b")
    assert "Hello Cy" in texts(app) and "expected: no" in texts(app)
    app.number_input[0].set_value(1).run()
    assert address_of(app, "case") == "a" and "Hello Ben" in texts(app)


def test_tokens_are_counted_for_chosen_models(root: Path) -> None:
    app = page(prompt="hello")
    app.multiselect[0].set_value(["echo"]).run()
    assert not app.exception and "echo: 2 tokens" in texts(app)


def test_history_shows_scores_diff_and_moves_labels(root: Path) -> None:
    run(root)
    write(root / "prompts/hello.prompty", HELLO + ", no less")
    run(root)
    app = page(prompt="hello", view="history")
    table = app.dataframe[0].value
    assert len(table) == 2 and list(table["cases"]) == [2, 2]
    assert list(table["contains"].str[:4]) == ["100 ", "50 %"]
    old, new = (block.value for block in app.code)
    assert "- Hello {{ who }}" in old and "+ Hello {{ who }}, no less" in new
    revision = next(r for r in recorded(root) if "no less" not in r.text).revision
    by_label(app.selectbox, "names").set_value(revision)
    by_label(app.selectbox, "Label").set_value("production")
    by_label(app.button, "Move").click().run()
    assert not app.exception and not app.error
    assert json.loads((root / "prompts/labels.json").read_text()) == {"hello": {"production": revision}}


def test_renaming_and_deleting(root: Path) -> None:
    app = page(prompt="hello", view="manage")
    assert "greet" in texts(app), "the suite that names it"
    by_label(app.text_input, "New name").set_value("talk/hello")
    by_label(app.button, "Rename").click().run()
    assert (root / "prompts/talk/hello.prompty").read_text() == HELLO and address_of(app, "prompt") == "talk/hello"
    app.query_params["view"] = "manage"
    app.run()
    assert by_label(app.button, "Delete").disabled
    app.checkbox[0].check().run()
    by_label(app.button, "Delete").click().run()
    assert not (root / "prompts/talk/hello.prompty").exists() and not app.exception


@pytest.mark.parametrize("name", ["../x", "hello", "none", "a\nb"])
def test_an_address_or_a_name_that_names_nothing(root: Path, name: str) -> None:
    app = page(prompt=name)
    assert name == "hello" or (len(app.error) == 1 and "\n" not in app.error[0].value)
    app = page()
    by_label(app.text_input, "Name").set_value(name)
    by_label(app.button, "Create").click().run()
    assert not app.exception
    assert (name == "none") == bool(app.success) and (root / "prompts/none.prompty").exists() == (name == "none")


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        (["a"], ["a"], [(" ", "a", " ", "a")]),
        (["a", "b"], ["a", "c", "d"], [(" ", "a", " ", "a"), ("-", "b", "+", "c"), (" ", "", "+", "d")]),
        (["a"], [], [("-", "a", " ", "")]),
    ],
)
def test_lines_stand_beside_each_other(before: list[str], after: list[str], rows: list) -> None:
    assert list(diff_rows(before, after)) == rows
