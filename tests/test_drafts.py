"""Drafts: kept as files, restored in a new window, never over another window's or a changed file unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.pages import clean, opened, press, said, texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from workbench.define.drafts import FOLDER, KeptDraft, drop_draft, keep_draft, kept_draft
from workbench.define.project import Project, load_project
from workbench.errors import UseError

HELLO = "user:\nHello {{ who }}"
SUITE = "prompts: [hello]\nmodels: [echo]\ncases: [{id: a, who: Ben}]\nscorers: [length]\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    write(tmp_path / "prompts/hello.prompty", HELLO)
    write(tmp_path / "evals/greet.yaml", SUITE)
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    return load_project(tmp_path)


# The files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.text(), st.none() | st.text(), st.text(), st.text())
def test_a_draft_comes_back_as_it_was(project: Project, name: str, was: str | None, text: str, title: str) -> None:
    there = kept_draft(project, "suite", name)
    kept = keep_draft(project, KeptDraft("suite", name, was, text, title), there.stamp if there else "")
    assert kept_draft(project, "suite", name) == kept
    assert (kept.was, kept.text, kept.title) == (was, text, title)
    assert kept_draft(project, "prompt", name) is None


def test_who_has_not_seen_a_draft_does_not_overwrite_it(project: Project) -> None:
    first = keep_draft(project, KeptDraft("prompt", "a", "was", "one"), "")
    assert keep_draft(project, KeptDraft("prompt", "a", "was", "two"), "") == first
    assert keep_draft(project, KeptDraft("prompt", "a", "was", "one"), "") == first, "the same text is no other draft"
    second = keep_draft(project, KeptDraft("prompt", "a", "was", "two"), first.stamp)
    assert second.text == "two" and second.stamp != first.stamp
    drop_draft(project, "prompt", "a", first.stamp)
    assert kept_draft(project, "prompt", "a") == second, "it is another one by now"
    drop_draft(project, "prompt", "a", second.stamp)
    assert kept_draft(project, "prompt", "a") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"kind": "prompt", "name": "a", "was": 1, "text": "x"}', "null"]
)
def test_a_damaged_file_is_no_draft(project: Project, text: str) -> None:
    keep_draft(project, KeptDraft("prompt", "a", None, "x"), "")
    (file,) = (project.root / FOLDER).glob("*.json")
    file.write_text(text)
    assert kept_draft(project, "prompt", "a") is None
    assert keep_draft(project, KeptDraft("prompt", "a", None, "y"), "").text == "y"


def test_a_draft_is_not_written_through_a_link(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (project.root / ".workbench").mkdir()
    (project.root / FOLDER).symlink_to(elsewhere)
    with pytest.raises(UseError, match="reached by a link"):
        keep_draft(project, KeptDraft("prompt", "a", None, "x"), "")
    assert list(elsewhere.iterdir()) == []


# The screens. A new AppTest is a new window: a reload, another browser, or the app started anew.


def window(screen: str, **address: str) -> AppTest:
    return opened(
        AppTest.from_string(f"from workbench.views.screens.{screen} import show\nshow()\n", default_timeout=30),
        **address,
    )


def labels(app: AppTest) -> list[str]:
    return [b.label for b in app.button]


def notes(app: AppTest) -> str:
    return "\n".join(c.value for c in app.caption)


def kept_texts(project: Project) -> list[str]:
    return [json.loads(file.read_text())["text"] for file in (project.root / FOLDER).glob("*.json")]


def test_a_prompts_draft_is_restored_and_discarded(project: Project) -> None:
    app = window("prompts", prompt="hello")
    assert "restored" not in notes(app) and not (project.root / FOLDER).exists(), "nothing is written by looking"
    clean(app.text_area[0].set_value(HELLO + " mine").run())
    assert "restored" not in notes(app) and "Discard" in labels(app)
    for screen in ("prompts", "playground"):
        app = window(screen)
        area = next(a for a in app.text_area if a.label == "Text of hello")
        assert area.value == HELLO + " mine" and "A draft from 2" in notes(app) and "was restored" in notes(app)
    press(app, "Discard")
    app = window("prompts", prompt="hello")
    assert app.text_area[0].value == HELLO and "restored" not in notes(app) and kept_texts(project) == []
    assert (project.root / "prompts/hello.prompty").read_text() == HELLO


def test_a_saved_prompt_has_no_draft(project: Project) -> None:
    app = window("prompts", prompt="hello")
    clean(app.text_area[0].set_value(HELLO + " mine").run())
    press(app, "Save")
    assert kept_texts(project) == [] and "restored" not in notes(window("prompts", prompt="hello"))
    clean(app.text_area[0].set_value(HELLO + " more").run())
    clean(app.text_area[0].set_value(HELLO + " mine").run())
    assert kept_texts(project) == [], "what reads as the file is no draft"


def test_a_restored_draft_tells_of_a_file_that_changed(project: Project) -> None:
    clean(window("prompts", prompt="hello").text_area[0].set_value(HELLO + " mine").run())
    write(project.root / "prompts/hello.prompty", HELLO + " theirs")
    app = window("prompts", prompt="hello")
    assert app.text_area[0].value == HELLO + " mine" and "was changed by someone else" in said(app)
    press(app, "Save")
    assert (project.root / "prompts/hello.prompty").read_text() == HELLO + " theirs"
    write(project.root / "prompts/hello.prompty", HELLO + " mine")
    app = window("prompts", prompt="hello")
    assert not said(app) and kept_texts(project) == [], "the file has become what was drafted"


@pytest.mark.parametrize(("choice", "stands"), [("Take that one", "one"), ("Keep this one", "two")])
def test_two_windows_do_not_overwrite_each_other_unseen(project: Project, choice: str, stands: str) -> None:
    first, second = window("prompts", prompt="hello"), window("prompts", prompt="hello")
    clean(first.text_area[0].set_value("user:\none").run())
    clean(second.text_area[0].set_value("user:\ntwo").run())
    assert "Another window has written a different draft" in notes(second) and kept_texts(project) == ["user:\none"]
    press(second, choice)
    assert second.text_area[0].value == f"user:\n{stands}" and kept_texts(project) == [f"user:\n{stands}"]
    assert "Another window" not in notes(second)
    clean(first.text_area[0].set_value("user:\nthree").run())
    assert ("Another window" in notes(first)) == (choice == "Keep this one")


def test_saving_in_one_window_leaves_the_draft_of_another(project: Project) -> None:
    first, second = window("prompts", prompt="hello"), window("prompts", prompt="hello")
    clean(first.text_area[0].set_value("user:\none").run())
    clean(second.text_area[0].set_value("user:\ntwo").run())
    press(second, "Save")
    assert second.text_area[0].value == "user:\ntwo" and not second.warning
    clean(first.run())
    assert first.text_area[0].value == "user:\none" and "was changed by someone else" in said(first)


def test_what_was_typed_in_the_playground_is_restored(project: Project) -> None:
    app = window("playground", models="echo")
    clean(next(a for a in app.text_area if a.label == "who").set_value("Ann").run())
    app = window("playground", models="echo")
    assert next(a for a in app.text_area if a.label == "who").value == "Ann" and "What was typed at 2" in notes(app)
    press(app, "Discard")
    assert next(a for a in app.text_area if a.label == "who").value == "" and kept_texts(project) == []


def test_a_suites_draft_is_restored_in_form_and_yaml(project: Project) -> None:
    app = window("sweep", suite="greet")
    assert not (project.root / FOLDER).exists()
    clean(next(n for n in app.number_input if n.label == "Repeats of each case").set_value(3).run())
    for edit in ("form", "yaml"):
        app = window("sweep", suite="greet", edit=edit)
        shown = app.text_area[0].value if edit == "yaml" else texts(app)
        assert "repeats: 3" in shown and "was restored" in notes(app)
    write(project.root / "evals/greet.yaml", SUITE + "# theirs\n")
    app = window("sweep", suite="greet")
    assert "repeats: 3" in texts(app) and "was changed by someone else" in said(app)
    press(app, "Discard")
    assert "repeats" not in texts(app) and "theirs" in texts(app) and not said(app) and kept_texts(project) == []


def test_a_new_suite_is_restored_with_its_name_and_saved(project: Project) -> None:
    app = window("sweep", suite="*")
    clean(app.text_input(key="new suite").set_value("mine").run())
    clean(app.run())
    app = window("sweep", suite="*", edit="yaml")
    assert app.text_input(key="new suite").value == "mine"
    clean(app.text_area[0].set_value(SUITE).run())
    app = window("sweep", suite="*")
    assert app.text_input(key="new suite").value == "mine" and "prompts: [hello]" in texts(app)
    press(app, "Save")
    assert (project.root / "evals/mine.yaml").read_text() == SUITE and kept_texts(project) == []
    app = window("sweep", suite="*")
    assert app.text_input(key="new suite").value == "" and "restored" not in notes(app)


def test_two_windows_on_a_suite(project: Project) -> None:
    first, second = window("sweep", suite="greet", edit="yaml"), window("sweep", suite="greet", edit="yaml")
    clean(first.text_area[0].set_value(SUITE + "repeats: 2\n").run())
    clean(second.text_area[0].set_value(SUITE + "repeats: 3\n").run())
    assert "Another window" in notes(second)
    press(second, "Take that one")
    assert second.text_area[0].value == SUITE + "repeats: 2\n" and "Another window" not in notes(second)


def area(app: AppTest) -> str:
    return app.text_area[0].value


ELSEWHERE = {
    "prompt": ("prompts", {"prompt": "hello"}, HELLO + " now", "prompts/hello.prompty"),
    "suite": ("sweep", {"suite": "greet", "edit": "yaml"}, SUITE + "repeats: 2\n", "evals/greet.yaml"),
    "new suite": ("sweep", {"suite": "*", "edit": "yaml"}, SUITE, "evals/mine.yaml"),
}
"""A draft: its screen, the address, the text that is written, and the file that it is saved to."""


def drafted(draft: str) -> tuple[AppTest, AppTest]:
    """The window in which it was written, and a second one that took it up."""
    screen, address, text, _ = ELSEWHERE[draft]
    first = window(screen, **address)
    if draft == "new suite":
        clean(first.text_input(key="new suite").set_value("mine").run())
    clean(first.text_area[0].set_value(text).run())
    second = window(screen, **address)
    assert area(second) == text and "restored" in notes(second)
    return first, second


@pytest.mark.parametrize("draft", ELSEWHERE)
@pytest.mark.parametrize("names", [["Save"], ["Discard", "Undo all changes"]])
def test_a_draft_that_was_saved_or_discarded_elsewhere_is_offered_no_more(
    project: Project, draft: str, names: list[str]
) -> None:
    fresh = area(window(ELSEWHERE[draft][0], **ELSEWHERE[draft][1]))
    first, second = drafted(draft)
    press(first, next(label for label in labels(first) if label in names))
    clean(second.run())
    saved = names == ["Save"] and draft != "new suite"
    assert area(second) == (ELSEWHERE[draft][2] if saved else fresh)
    assert "restored" not in notes(second) and "draft" not in notes(second) and not said(second)
    assert kept_texts(project) == []


@pytest.mark.parametrize("draft", ELSEWHERE)
def test_what_was_written_on_a_draft_that_is_saved_elsewhere_stays(project: Project, draft: str) -> None:
    first, second = drafted(draft)
    text = ELSEWHERE[draft][2] + "# more\n"
    clean(second.text_area[0].set_value(text).run())
    press(first, "Save")
    clean(second.run())
    assert area(second) == text and kept_texts(project) == [text]


@pytest.mark.parametrize("draft", ELSEWHERE)
def test_what_a_second_window_discards_is_kept_anew_where_it_was_written(project: Project, draft: str) -> None:
    first, second = drafted(draft)
    press(second, "Discard")
    clean(first.run())
    assert area(first) == ELSEWHERE[draft][2] and kept_texts(project) == [ELSEWHERE[draft][2]]


def test_a_draft_that_is_saved_meanwhile_can_not_be_taken(project: Project) -> None:
    first, second = window("sweep", suite="greet", edit="yaml"), window("sweep", suite="greet", edit="yaml")
    clean(first.text_area[0].set_value(SUITE + "repeats: 2\n").run())
    clean(second.text_area[0].set_value(SUITE + "repeats: 3\n").run())
    press(first, "Save")
    press(second, "Take that one")
    assert area(second) == SUITE + "repeats: 3\n" and kept_texts(project) == [SUITE + "repeats: 3\n"]
    assert "Another window" not in notes(second) and "was changed by someone else" in said(second)


def test_a_folder_that_can_not_be_written_is_one_line(project: Project) -> None:
    write(project.root / ".workbench/drafts", "a file stands in the way")
    app = window("prompts", prompt="hello")
    clean(app.text_area[0].set_value(HELLO + " mine").run())
    assert "lost when the page is closed" in notes(app) and not app.error
    assert app.text_area[0].value == HELLO + " mine"
    press(app, "Save")
    assert (project.root / "prompts/hello.prompty").read_text() == HELLO + " mine"
