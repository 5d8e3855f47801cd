"""What is written for people: prompts with their revisions, cases appended, suites made; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.authoring import NewSuite, add_case, prompt_history, save_prompt, suites_naming, write_suite
from workbench.define.library import Library
from workbench.define.project import Project, load_project
from workbench.define.suite import load_suite
from workbench.errors import UseError, WorkbenchError
from workbench.store.database import Database

TEXT = "user:\nSay {{ word }}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for folder in ("prompts", "evals", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "prompts/say.prompty").write_text(TEXT)
    return load_project(tmp_path)


@pytest.fixture
def library(project: Project) -> Library:
    return Library(project.library_root)


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


def suite(project: Project, cases: str, rows: str | None = None, file: str = "data/rows.jsonl") -> None:
    (project.root / "evals/s.yaml").write_text(f"prompts: [say]\nmodels: [echo]\ncases: {cases}\n")
    if rows is not None:
        (project.root / file).write_text(rows)


def test_saving_writes_the_file_and_records_why(library: Library, database: Database) -> None:
    new = TEXT + ", please"
    prompt = save_prompt(library, database, "say", new, TEXT, "politer")
    assert library.get("say") == prompt and (library.root / "say.prompty").read_text() == new
    newest = prompt_history(library, database, "say")[0]
    assert (newest.revision, newest.message) == (prompt.revision, "politer") and newest.author


@pytest.mark.parametrize(
    ("name", "text", "was", "problem"),
    [
        ("say", TEXT, "user:\nolder", "was changed by someone else"),
        ("gone", TEXT, TEXT, "was changed by someone else"),
        ("say", TEXT, None, "already"),
        ("say", "user:\n{{ word", TEXT, "prompts/say.prompty:2"),
        ("../out", TEXT, None, "without '..'"),
        ("a/.hidden", TEXT, None, "without '..'"),
        ("a@b", TEXT, None, "'@'"),
        ("a\nb", TEXT, None, "one line"),
        ("link", TEXT, TEXT, "reached by a link"),
        ("folder/new", TEXT, None, "reached by a link"),
        ("outside/new", TEXT, None, "out of the library"),
    ],
)
def test_what_is_not_saved(
    project: Project, library: Library, database: Database, name: str, text: str, was: str | None, problem: str
) -> None:
    (library.root / "link.prompty").symlink_to("say.prompty")
    (library.root / "real").mkdir()
    (library.root / "folder").symlink_to("real")
    (library.root / "outside").symlink_to(project.root / "data")
    before = {p: p.read_text() for p in project.root.rglob("*.prompty")}
    with pytest.raises(UseError, match=problem):
        save_prompt(library, database, name, text, was, "no")
    assert {p: p.read_text() for p in project.root.rglob("*.prompty")} == before


def test_a_new_name_takes_the_labels_along(library: Library) -> None:
    library.label("say", "production", "say")
    revision = library.get("say").revision
    library.rename("say", "talk/say")
    assert library.names() == ["talk/say"] and library.labels("talk/say") == {"production": revision}
    assert library.find("talk/say@production").revision == revision
    library.delete("talk/say")
    assert library.names() == [] and library.find("talk/say@production").revision == revision


def test_suites_that_name_a_prompt_are_found(project: Project) -> None:
    suite(project, "[{word: x}]")
    (project.root / "evals/other.yaml").write_text("prompts: [say/more, say-less, a/say]\n")
    assert suites_naming(project, "say") == ["s"]


ROWS = '{"id": "a", "word": "x", "label": "X"}\n{"id": "b", "word": "y", "label": "Y"}'


@pytest.mark.parametrize(
    ("cases", "rows", "name", "case_id", "row"),
    [
        ("{file: data/rows.jsonl, expected: label}", ROWS, "c", "c", {"id": "c", "word": "hi", "label": "HI"}),
        (
            "{file: data/rows.jsonl, expected: label}",
            ROWS + "\n",
            "a",
            "a-2",
            {"id": "a-2", "word": "hi", "label": "HI"},
        ),
        ("data/rows.jsonl", '{"word": "x"}\n', "c", "", {"word": "hi", "expected": "HI"}),
        (
            "{file: data/rows.jsonl, id: n, inputs: {word: w}, tags: t, cluster: g, where: {k: [1, 2]}}",
            '{"n": "1", "w": "x", "t": [], "g": "u", "k": 1}\n',
            "c",
            "c",
            {"n": "c", "w": "hi", "expected": "HI", "t": None, "g": None, "k": 1},
        ),
    ],
)
def test_a_case_is_appended_as_the_suite_reads_it(
    project: Project, library: Library, cases: str, rows: str, name: str, case_id: str, row: dict
) -> None:
    suite(project, cases, rows)
    assert add_case(project, "s", {"word": "hi"}, "HI", name) == ("data/rows.jsonl", case_id)
    lines = (project.root / "data/rows.jsonl").read_text().splitlines()
    assert lines[:-1] == rows.splitlines() and json.loads(lines[-1]) == row
    case = load_suite("s", project, library).cases[-1]
    assert (case.inputs["word"], case.expected, case.id) == ("hi", "HI", case_id or case.id)
    with pytest.raises(UseError, match="already"):
        add_case(project, "s", {"word": "hi"}, "HI", "other")


@pytest.mark.parametrize(
    ("cases", "file", "problem"),
    [
        ("[{word: x}]", "data/rows.jsonl", "in the suite itself"),
        ("data/rows.csv", "data/rows.csv", "no JSONL file"),
        ("data/broken.jsonl", "data/broken.jsonl", "broken.jsonl:1"),
        ("data/link.jsonl", "data/rows.jsonl", "reached by a link"),
        ("../rows.jsonl", "data/rows.jsonl", "leaves the project"),
        ("data/none.jsonl", "data/rows.jsonl", "no file"),
    ],
)
def test_where_no_case_is_appended(project: Project, cases: str, file: str, problem: str) -> None:
    suite(project, cases, "word" if file.endswith("csv") else "{" if "broken" in file else ROWS, file)
    (project.root / "data/link.jsonl").symlink_to("rows.jsonl")
    before = (project.root / file).read_text()
    with pytest.raises(UseError, match=problem):
        add_case(project, "s", {"word": "hi"}, None, "c")
    assert (project.root / file).read_text() == before


def test_a_suite_is_written_and_can_be_loaded(project: Project, library: Library) -> None:
    new = NewSuite(
        ["say"], ["echo"], [{"id": "a", "word": "no", "expected": "no"}], {"temperature": 0.5}, {}, ["contains"]
    )
    assert write_suite(project, "mine/first", new) == "evals/mine/first.yaml"
    loaded = load_suite("mine/first", project, library)
    assert [c.expected for c in loaded.cases] == ["no"] and loaded.variants[0].params == {"temperature": 0.5}
    assert add_case(project, "mine/first", {"word": "yes"}, "yes", "b") == ("data/mine/first.jsonl", "b")
    with pytest.raises(UseError, match="there already"):
        write_suite(project, "mine/first", new)


@pytest.mark.parametrize("name", ["", "../x", "a b", "/x", "x/", ".x", "evals/../../x"])
def test_a_suite_with_no_name_for_a_file(project: Project, name: str) -> None:
    with pytest.raises(UseError, match="no name for a suite"):
        write_suite(project, name, NewSuite(["say"], ["echo"], [{"word": "x"}]))
    assert not list(project.root.rglob("x.*"))


def test_a_suite_is_not_written_through_a_link(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    (project.root / "evals/away").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(UseError, match="reached by a link"):
        write_suite(project, "away/x", NewSuite(["say"], ["echo"], [{"word": "x"}]))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["word", "id", "tone"]), st.text() | st.integers() | st.booleans(), min_size=1),
    st.text(),
)
def test_any_values_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, inputs: dict, expected: str
) -> None:
    root = tmp_path_factory.mktemp("p")
    for folder in ("prompts", "evals", "data"):
        (root / folder).mkdir()
    project = load_project(root)
    suite(project, "{file: data/rows.jsonl, id: key}", '{"key": "first", "word": "x"}\n')
    try:
        add_case(project, "s", inputs, expected, "second")
    except WorkbenchError:
        assert inputs == {"word": "x"} and expected is None
        return
    row = json.loads((root / "data/rows.jsonl").read_text().split("\n")[1])
    assert row == {"key": "second", **inputs, "expected": expected}
