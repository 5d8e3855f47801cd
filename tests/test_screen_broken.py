"""A project whose files break while the app is open: told once above every screen, which goes on with what it has."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from doubles.pages import PLACES
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from workbench.api import run_suite
from workbench.jobs import list_jobs
from workbench.views.screens.page import open_project

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("safe_settings")
SUITE = """\
prompts: [hello, bye]
models: [house]
params: {temperature: [0, 1]}
cases: [{id: a, who: Ann, expected: Ann}, {id: long, who: Ben, expected: Ben}]
scorers: [contains, length]
"""
SETTINGS = "models: {house: {engine: echo}}\n"
OPEN = "not valid YAML: a '[' or '{' is not closed"
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "settings, no YAML": ("workbench.yaml", b"models:\n  house: {engine: echo\n", f"workbench.yaml:3: {OPEN}"),
    "settings, no such key": ("workbench.yaml", b"\nmodles: {}\n", "workbench.yaml:2: unknown key 'modles'"),
    "settings, no UTF-8": ("workbench.yaml", b"models: {}\n\xff\n", "workbench.yaml:2: is not UTF-8 text"),
    "suite, no YAML": ("evals/greet.yaml", b"prompts: [hello\n", f"evals/greet.yaml:2: {OPEN}"),
    "suite, no such key": ("evals/greet.yaml", b"promts: [hello]\n", "evals/greet.yaml:1: unknown key 'promts'"),
    "suite, no UTF-8": ("evals/greet.yaml", b"\n\xff\xfe\n", "evals/greet.yaml:2: is not UTF-8 text"),
    "prompt, no YAML": ("prompts/bye.prompty", b"---\ninputs: [\n---\nuser:\nBye", f"prompts/bye.prompty:3: {OPEN}"),
    "prompt, no such partial": ("prompts/bye.prompty", b"user:\n{% include 'x.txt' %}", "prompts/bye.prompty:2: the "),
    "labels": ("prompts/labels.json", b"{", "prompts/labels.json: is not JSON"),
}  # fmt: skip
"""What is broken: the file, what stands in it then, and how the line begins that tells of it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a run in its store, as an app has read it once."""
    for name, text in (
        ("prompts/hello.prompty", "user:\nHello {{ who }}"), ("prompts/bye.prompty", "user:\nBye {{ who }}"),
        ("evals/greet.yaml", SUITE), ("evals/other.yaml", SUITE), ("workbench.yaml", SETTINGS),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    run_suite("greet", tmp_path)
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    open_project()
    return tmp_path


def at(place: str) -> AppTest:
    address = urlsplit(place)
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=20)
    app._page_hash = calc_hash(address.path.strip("/"))
    for name, value in parse_qsl(address.query):
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def told(app: AppTest) -> list[str]:
    """The lines of the error above the title; none where there is no error."""
    first = next(element for element in app.main if element.type in ("error", "title"))
    return first.value.split("  \n") if first.type == "error" else []


def shown(app: AppTest) -> list[tuple[str, str]]:
    """The kinds and labels of all that can be used or read, but what is told of files."""
    kinds = ("title", "subheader", "button", "selectbox", "multiselect", "text_area", "text_input", "dataframe")
    return [(kind, getattr(element, "label", "")) for kind in kinds for element in app.main.get(kind)]


@pytest.mark.parametrize("broken", BROKEN)
def test_each_broken_file_is_told_with_its_place_until_it_is_mended(project: Path, broken: str) -> None:
    file, content, line = BROKEN[broken]
    before = (project / file).read_bytes() if (project / file).exists() else None
    assert not told(at("/compare"))
    (project / file).write_bytes(content)
    (only,) = told(app := at("/compare"))
    assert only.strip("` ").startswith(line) and "Mend" in only
    assert app.main.dataframe, "the stored run is read"
    (project / file).unlink() if before is None else (project / file).write_bytes(before)
    assert not told(at("/compare"))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_screen_goes_on_below_the_line_of_broken_settings(project: Path, place: str) -> None:
    whole = at(place)
    (project / "workbench.yaml").write_text("models: [\n")
    app = at(place)
    assert len(told(app)) == 1 and len(app.main.error) == len(whole.main.error) + 1, "told once"
    assert shown(app) == shown(whole)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_screen_tells_of_broken_suites_prompts_and_labels(project: Path, place: str) -> None:
    whole = shown(at(place))
    for file in ("evals/greet.yaml", "prompts/bye.prompty", "prompts/labels.json"):
        (project / file).write_bytes(b"---\n[\n")
    app = at(place)
    assert [line.strip("`").split(":")[0].strip() for line in told(app)] == [
        "prompts/labels.json", "prompts/bye.prompty", "evals/greet.yaml",
    ]  # fmt: skip
    asks_for_them = place.startswith(("/prompts", "/playground", "/sweep"))
    assert shown(app) == whole or asks_for_them
    assert len(shown(app)) > 3


@pytest.mark.parametrize("place", ["/prompts?prompt=hello", "/playground?prompts=hello", "/sweep?suite=other"])
def test_what_is_whole_can_be_worked_on_beside_what_is_broken(project: Path, place: str) -> None:
    whole = shown(at(place))
    for file in ("evals/greet.yaml", "prompts/bye.prompty", "prompts/labels.json"):
        (project / file).write_bytes(b"---\n[\n")
    app = at(place)
    assert shown(app) == whole and len(app.main.error) == 1


def test_many_broken_files_are_counted(project: Path) -> None:
    for number in range(6):
        (project / f"evals/s{number}.yaml").write_text("[")
    lines = told(at("/runs"))
    assert len(lines) == 4 and lines[-1] == "… and 3 more files"


def test_no_run_is_started_with_settings_that_cannot_be_read(project: Path) -> None:
    (project / "workbench.yaml").write_text("models: [\n")
    app = at("/sweep?suite=greet")
    next(button for button in app.button if button.label == "Start").click().run()
    assert [error.value.count("workbench.yaml:2") for error in app.main.error] == [1, 1], "above, and by the button"
    assert not list_jobs(open_project())
