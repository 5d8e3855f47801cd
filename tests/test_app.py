"""The app's frame and its screens Journey, Runs and Compare; its server started for real; a wheel that holds all."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from streamlit import config
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from workbench.cli import main
from workbench.cli.ui import SAFE
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store.database import Database
from workbench.store.database import runs as runs_table
from workbench.store.notes import add_note, list_notes, pinned_runs
from workbench.views.model import ScorerView
from workbench.views.screens import PAGES, compare_axes, compare_parallel, loaded
from workbench.views.screens.access import TOKEN
from workbench.views.screens.compare import PARTS
from workbench.views.screens.compare_outputs import MOST_OUTPUTS, OUTPUT_CHARS
from workbench.views.screens.compare_parallel import places, spread, told_apart
from workbench.views.screens.page import literal

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) \x1b[31m \u202egpj :red[x] $y$ `z`"
SUITE = """
name: greet
prompts: [hello, bye]
models: [house]
params: {temperature: [0, 1], max_tokens: 20}
repeats: 2
cases:
  - {id: a, who: Ann, expected: Ann, tags: [early]}
  - {id: b, who: Ben, expected: Ben}
  - {id: c, who: Cat, expected: "no"}
scorers: [contains, length]
"""
SETTINGS = {"server.address": "127.0.0.1", "browser.gatherUsageStats": False, "client.disableDataExport": True}


@pytest.fixture(autouse=True)
def _safe_settings():
    """What `workbench ui` would set; put back at the end."""
    before = {name: config.get_option(name) for name in [*SETTINGS, "server.enableXsrfProtection", "server.enableCORS"]}
    for name, value in SETTINGS.items():
        config.set_option(name, value)
    yield
    for name, value in before.items():
        config.set_option(name, value)
    for kept in (loaded._frame, loaded._names, loaded._columns, loaded._part, loaded._alike):
        kept.clear()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def echo(options: str) -> str:
    """A workbench.yaml."""
    return f"models: {{house: {{engine: echo, options: {{{options}}}}}}}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nGoodbye then, {{ who }}")
    write(tmp_path / "evals/greet.yaml", SUITE)
    write(tmp_path / "workbench.yaml", echo(""))
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    return tmp_path


def ask(root: Path) -> str:
    """Runs the suite; returns the run's id."""
    project = load_project(root)
    suite = load_suite("greet", project, Library(project.library_root), SCORERS.names())
    progress, _ = run_suite(prepare_suite(suite, root), Database.open(project.store_url))
    return progress.run


def page(screen: str = "compare", **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=20)
    app._page_hash = calc_hash("" if screen == "journey" else screen)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def address_of(app: AppTest, name: str) -> str | None:
    value = app.query_params.get(name)
    return value[0] if isinstance(value, list) else value  # which of them depends on Streamlit's version


def box(app: AppTest, label: str):
    return next(widget for widget in app.main.selectbox if widget.label == label)


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.main.text, *app.main.code])


def markdown(app: AppTest) -> list[str]:
    """Everything that the page has for Markdown to read."""
    found = [*app.markdown, *app.title, *app.subheader, *app.caption, *app.info, *app.warning, *app.error]
    return [element.value for element in found]


# The frame


@pytest.mark.parametrize("screen", PAGES)
def test_every_screen_of_an_empty_project_says_what_to_do(project: Path, screen: str) -> None:
    app = page(screen)
    assert [title.value for title in app.main.title] == [PAGES[screen][0]]
    assert not app.error
    assert texts(app) or app.info or app.main.caption or app.button or app.warning


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("browser.gatherUsageStats", True, "usage statistics"),
        ("server.enableXsrfProtection", False, "XSRF"),
        ("server.enableCORS", False, "other hosts"),
        ("client.disableDataExport", False, "live formulas"),
        ("server.address", "0.0.0.0", "no token"),
        ("server.address", None, "no token"),
    ],
)
def test_unsafe_settings_show_nothing(project: Path, name: str, value: object, said: str) -> None:
    ask(project)
    config.set_option(name, value)
    app = page()
    assert len(app.error) == 1 and said in app.error[0].value and "workbench ui" in app.error[0].value
    assert not app.title and not app.text and not app.dataframe and not app.button


def test_a_token_is_asked_for_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(project)
    monkeypatch.setenv(TOKEN, "the-token")
    config.set_option("server.address", "0.0.0.0")
    app = page(token="another", runs=run)
    assert not app.title and "not the token" in app.error[0].value
    assert address_of(app, "token") is None
    app = page(runs=run)
    assert not app.title and not app.error and not app.text
    app.text_input[0].set_value("the-token").run()
    assert app.title[0].value == "Compare" and address_of(app, "runs") == run
    app = page(token="the-token", runs=run)
    assert app.title[0].value == "Compare" and address_of(app, "token") is None, "it does not stay in the address"
    app.run()
    assert app.title[0].value == "Compare"


def test_what_runs_stands_in_the_sidebar(project: Path) -> None:
    run = ask(project)
    with Database.open(load_project(project).store_url).write() as connection:
        values = {"status": "running", "pid": os.getpid(), "heartbeat": time.time(), "host": socket.gethostname()}
        connection.execute(runs_table.update().values(**values))
    app = page("runs")
    assert "greet: 24 of 24" in app.sidebar.get("progress")[0].proto.text
    app.sidebar.button[0].click().run()
    assert app.title[0].value == "Compare" and address_of(app, "runs") == run


@pytest.mark.parametrize("screen", ["journey", "compare", "judge", "runs"])
@pytest.mark.parametrize(
    ("yaml", "store", "line"),
    [
        ("models: {house: {engin: echo}}\n", None, "workbench.yaml:1"),
        ("models: [\n", None, "workbench.yaml"),
        ("store: nosuch://x\n", None, "can't be used"),
        (None, "sqlite:////proc/none/x.db", "can't be used"),
        (None, f"sqlite:///{ROOT / 'pyproject.toml'}", "is no SQLite file"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    project: Path, monkeypatch, screen: str, yaml: str | None, store: str | None, line: str
) -> None:
    if yaml:
        write(project / "workbench.yaml", yaml)
    if store:
        monkeypatch.setenv("WORKBENCH_STORE", store)
    app = page(screen)
    assert len(app.main.error) == 1 and line in app.main.error[0].value and "\n" not in app.main.error[0].value
    assert not app.main.selectbox


# Journey and Runs


def test_the_journey_has_a_point_a_run(project: Path) -> None:
    first, second = ask(project), ask(project)
    app = page("journey", table="1")
    table = app.main.dataframe[0].value
    assert list(table["run"]) == [first, second] and set(table["stage"]) == {"prompt"}
    assert "67 % [" in table["score"][0], "the reference finds the name in two of three cases"
    assert "Nothing runs." in [caption.value for caption in app.main.caption]
    box(app, "Of").select("best").run()
    assert len(app.main.dataframe[0].value) == 4, "the best variant of each of two prompts, in two runs"
    box(app, "Scorer").select("length").run()
    assert address_of(app, "scorer") == "length" and "%" not in app.main.dataframe[0].value["score"][0]


def test_runs_of_the_journey_are_chosen_without_a_mouse(project: Path) -> None:
    first, second = ask(project), ask(project)
    app = page("journey")
    (chosen,) = app.main.multiselect
    assert chosen.value == [] and app.main.button[0].disabled
    chosen.set_value([second, first]).run()
    assert address_of(app, "picked") == f"{second},{first}"
    app.main.button[0].click().run()
    assert app.title[0].value == "Compare" and address_of(app, "runs") == f"{second},{first}"


def test_the_journey_tells_what_got_worse_and_what_is_open(project: Path) -> None:
    cases = "\n".join(f'  - {{id: c{i}, who: "{i}", expected: "{i}"}}' for i in range(40))
    write(project / "evals/greet.yaml", SUITE[: SUITE.index("cases:")] + f"cases:\n{cases}\nscorers: [contains]\n")
    ask(project)
    write(project / "workbench.yaml", echo('answers: {"Hello": "no idea"}'))
    newer = ask(project)
    app = page("journey")
    shown = texts(app)
    assert "greet: hello" in shown and any("worse" in c.value and "run before" in c.value for c in app.main.caption)
    compare = next(button for button in app.main.button if button.label == "Compare")
    compare.click().run()
    assert app.title[0].value == "Compare" and (address_of(app, "runs") or "").endswith(newer)


def test_runs_are_listed_and_found(project: Path) -> None:
    older, newer = ask(project), ask(project)
    with Database.open(load_project(project).store_url).write() as connection:
        add_note(connection, older, "keep", pinned=True)
    app = page("runs")
    table = app.dataframe[0].value
    assert list(table["run"]) == [newer, older] and list(table["answered"]) == ["24 of 24"] * 2
    assert list(table["pinned"]) == ["", "pinned"]
    app.text_input[0].set_value(older).run()
    assert list(app.dataframe[0].value["run"]) == [older] and address_of(app, "find") == older
    app.text_input[0].set_value("%").run()
    assert not app.dataframe and "No run is so" in app.info[0].value, "a wildcard is a letter like others"


# Compare


def test_a_run_is_shown(project: Path) -> None:
    run = ask(project)
    app = page()
    assert address_of(app, "runs") == run, "the address names what is shown"
    assert [widget.label for widget in app.main.selectbox] == ["Scorer", "Reference"]
    shown = texts(app)
    assert "24 of 24 trials answered" in shown and "On contains, " in shown
    table = app.dataframe[0].value
    assert list(table["cases"]) == [3] * 4 and "(reference)" in table["variant"][0] and table["verdict"][1]
    assert app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")
    every = page(all="1").dataframe[1].value
    assert list(every["scorer"]) == ["contains", "length"] and len(every.columns) == 5, "variants as columns"


def test_choices_are_kept_in_the_address(project: Path) -> None:
    older, newer = ask(project), ask(project)
    app = page(runs=older, scorer="length", view="outputs", case="b")
    assert app.multiselect[0].value == [older] and "Hello Ben" in texts(app) and "Ann" not in texts(app)
    app.number_input[0].set_value(3).run()
    assert address_of(app, "case") == "c" and "Hello Cat" in texts(app)
    app.multiselect[0].set_value([newer]).run()
    assert address_of(app, "runs") == newer and "Hello Cat" in texts(app), "the case stays when the run changes"
    app.query_params["runs"] = older  # the browser's way back
    app.run()
    assert app.multiselect[0].value == [older]
    app = page(runs=older, scorer="length")
    assert "On length, " in texts(app)
    box(app, "Scorer").select("contains").run()
    assert address_of(app, "scorer") == "contains" and "On contains, " in texts(app)
    other = box(app, "Reference").options[3]
    box(app, "Reference").select_index(3).run()
    assert f"{other} (reference)" in list(app.dataframe[0].value["variant"])


def test_several_runs_side_by_side(project: Path) -> None:
    older = ask(project)
    write(project / "workbench.yaml", echo('answers: {"Hello": "Ann, is it?"}'))
    newer = ask(project)
    app = page(runs=f"{older},{newer}")
    table = app.dataframe[0].value
    assert len(table) == 8 and table["variant"][0].endswith(f"@ {older} (reference)")
    app = page(runs=f"{older},{newer}", view="outputs", case="b")
    assert "Hello Ben" in texts(app) and "Ann, is it?" in texts(app)
    app = page(runs=f"{older},nosuch", view="scores")
    assert "nosuch" in app.warning[0].value and address_of(app, "runs") == older


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "address",
    [
        {},
        {"scorer": "none", "case": "none", "page": "-1", "ref": "none", "order": "x", "tag": "x", "x": "y", "y": "x"},
        {"page": "²", "trial": "![x](http://evil.example)"},
        {"page": "99", "price": "x"},
        {"view": "nosuch"},
    ],
)
def test_an_address_that_names_nothing_does_no_harm(project: Path, part: str, address: dict[str, str]) -> None:
    run = ask(project)
    app = page(**{"view": part, **address})
    assert app.multiselect[0].value == [run] and not app.error and not app.warning


def test_an_unknown_run_is_said_and_the_newest_shown(project: Path) -> None:
    run = ask(project)
    app = page(runs="![x](http://evil.example/x.png)")
    assert app.multiselect[0].value == [run]
    assert [e.value for e in app.warning] == [literal(e.value.strip("` ")) for e in app.warning] and app.warning


def test_axes_are_drawn_and_exported(project: Path) -> None:
    ask(project)
    app = page(view="axes")
    assert box(app, "Across").value == "temperature" and box(app, "Down").value == "prompt"
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 2, "a heat map and a curve"
    box(app, "Across").select("prompt").run()
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 1, "no curve along names"
    assert "not enough data: 3 cases" in texts(app)


def test_which_axis_matters_is_a_table(project: Path) -> None:
    names = ["Ann", "Ben", "Cat", "Dora", "Emil", "Fay", "Gus", "Hedwig"]
    cases = "".join(f"\n  - {{id: {name}, who: {name}, expected: {name}}}" for name in names)
    write(project / "evals/greet.yaml", SUITE.split("cases:")[0] + f"cases:{cases}\nscorers: [length]\n")
    ask(project)
    app = page(view="axes")
    [table] = [frame.value for frame in app.dataframe if "share" in frame.value]
    assert list(table["axis"]) == ["prompt", "temperature", "prompt × temperature"]
    assert list(table["share"]) == ["100 % [?]", "0 % [?]", "0 % [?]"]
    assert list(table["verdict"]) == ["matters", "not enough data", "not enough data"]
    assert "slope: not enough data" in texts(app)


def test_all_axes_are_drawn_and_a_variant_picked_out(project: Path) -> None:
    ask(project)
    app = page(view="parallel")
    table = app.main.dataframe[0].value
    assert list(table["number"]) == [1, 2, 3, 4] and set(table["temperature"]) == {"0", "1"}
    assert {r["axis"] for r in chart_rows(app)} == {"prompt", "temperature", "score"}
    app.main.multiselect[1].set_value(["temperature"]).run()
    assert address_of(app, "along") == "temperature"
    variant = box(app, "Picked out").options.index(table["variant"][2])
    box(app, "Picked out").select_index(variant).run()
    rows = chart_rows(app)
    assert {r["axis"] for r in rows} == {"temperature", "score"}
    assert {r["number"] for r in rows if r["weight"] == "picked out"} == {3}
    again = page(view="parallel", along="temperature", picked=str(address_of(app, "picked")))
    assert chart_rows(again) == rows, "the address says all"


def chart_rows(app: AppTest) -> list[dict]:
    """What the only chart is drawn from."""
    (chart,) = app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")
    return convert_arrow_bytes_to_pandas_df(chart.proto.data.data).to_dict("records")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 5, 10], [0, 0.5, 1]),
        (["b", "a", "b", "c"], [0, 0.5, 0, 1]),
        ([None, None], [0.5, 0.5]),
        ([1, "x"], [0, 1]),
        ([True, False], [0, 1]),
    ],
)
def test_values_have_their_place_on_an_axis(values: list, wanted: list[float]) -> None:
    assert places(values) == wanted


@given(st.lists(st.floats(0, 1), max_size=30).map(sorted))
def test_texts_at_the_ends_of_lines_stay_apart(heights: list[float]) -> None:
    moved = spread(heights, 0.05)
    assert len(moved) == len(heights)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(moved))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sentiment/role", "sentiment/few-shot"], ["…/role", "…/few-shot"]),
        (["a/role", "a/few"], ["a/role", "a/few"]),
        (["sentiment/role"], ["sentiment/role"]),
        (["support/reply-1-warm", "support/reply-2-warm"], ["…-1-warm", "…-2-warm"]),
        (["0.7", "0.75"], ["0.7", "0.75"]),
        ([], []),
    ],
)
def test_long_names_are_told_apart(words: list[str], told: list[str]) -> None:
    assert told_apart(words) == told


@pytest.mark.parametrize("width", [330, 900])
def test_names_on_an_axis_do_not_reach_the_next_one(width: int) -> None:
    """As drawn: a text is cut where the next axis begins, with an average letter of half its height."""
    names = [f"{word} complaint answered in a warm and professional tone" for word in ("first", "second")]
    axes = {"prompt": names, "model": [f"{name} by a model" for name in names], "temperature": [0, 0.01]}
    lines = [
        {"number": i, "variant": "v", "mean": "1 [0, 2]", "weight": "other", "axis": axis, "y": i, "value": "x"}
        for i in range(2)
        for axis in (*axes, "score")
    ]
    spec = compare_parallel._chart(lines, axes).to_dict() | {"width": width}
    said = re.findall(r">([^<]+)</text>", vl_convert.vegalite_to_svg(spec))
    assert any(text.startswith("first c") for text in said) and {"0", "0.01"} <= set(said)
    assert max(map(len, said)) <= width / len(axes) / 5


@pytest.mark.parametrize("prices", [(32, 89), (3000, 3001), (0.0001, 0.02), (0, 0)])
def test_prices_begin_at_nothing(prices: tuple[float, float]) -> None:
    own = {"mean": 0.5, "low": 0.4, "high": 0.6, "place": "on the front"}
    rows = [{"price": price, "least": 0.9 * price, "most": 1.1 * price, **own} for price in prices]
    spec = compare_axes._price_chart(rows, ScorerView("choice", "pass", (), (), ""), "Price").to_dict()
    below, _, _ = vl_convert.vegalite_to_svg(spec | {"width": 700}).partition(">Price<")
    marks = re.findall(r">([−\d][^<]*)</text>", below)
    assert float(marks[0]) == 0 and not [mark for mark in marks if "−" in mark]


def test_suspicious_and_nearly_equal_cases_are_kept(project: Path) -> None:
    long = "the quick brown fox jumps over the lazy dog while it rains"
    cases = [("a", "Ann", "Ann"), ("b", "Ben", "Ben"), ("c", "Cat", "no"), ("d", long, "fox"), ("e", long + "s", "fox")]
    lines = "\n".join(f"  - {{id: {i}, who: {w}, expected: {e}}}" for i, w, e in cases)
    write(
        project / "evals/greet.yaml", SUITE[: SUITE.index("cases:")] + f"cases:\n{lines}\nscorers: [contains, length]"
    )
    ask(project)
    app = page(view="cases", only="suspicious")
    assert list(app.dataframe[0].value["case"]) == ["c"] and "surprise, bits" in app.dataframe[0].value
    box(app, "Cases").select("duplicates").run()
    table = app.dataframe[0].value
    assert list(table["case"]) == ["d", "e"] and set(table["alike with (cases)"]) == {"d (2)"}
    assert address_of(app, "only") == "duplicates" and "n is inflated by" in texts(app)
    assert list(page(view="cases", only="duplicates", order="hardest").dataframe[0].value["case"]) == ["d", "e"]
    numbers = page(view="cases", only="suspicious", scorer="length")
    assert "none is a failure" in numbers.info[0].value and not numbers.dataframe


def test_cases_by_what_stands_out(project: Path) -> None:
    ask(project)
    table = page(view="cases").dataframe[0].value
    assert list(table["case"]) == ["a", "b", "c"] and "2 of 2" in set(table.iloc[0]) and "0 of 2" in set(table.iloc[2])
    assert page(view="cases", order="hardest").dataframe[0].value["case"][0] == "c"
    assert list(page(view="cases", tag="early").dataframe[0].value["case"]) == ["a"]
    assert "No case is so." in page(view="cases", order="flaky").info[0].value


def test_words_that_differ_and_a_trial_in_full(project: Path) -> None:
    ask(project)
    app = page(view="outputs", diff="1")
    assert "<del>Hello</del><ins>Goodbye then,</ins><span> Ann</span>" in str(app.main.get("html")[-1].proto.body)
    trials = box(app, "A trial in full")
    trials.select_index(1).run()
    assert "request rq" in texts(app) and "user" in texts(app) and "settings: " in texts(app)
    assert address_of(app, "trial")


def test_a_very_long_name_of_a_case_leaves_room_for_its_answers(project: Path) -> None:
    name = "w" * 5000
    write(
        project / "evals/greet.yaml",
        SUITE.replace("id: a,", f"id: {name},").replace("tags: [early]", f"tags: [{name}]"),
    )
    ask(project)
    app = page(view="outputs", case=name)
    app.text_area[0].input("long")
    next(b for b in app.button if b.label == "Keep").click().run()
    shown = [*page(view="outputs", case=name).main.text, *page(view="notes").main.text]
    assert any("of 5,000 characters shown" in element.value for element in shown)
    assert max(len(element.value) for element in shown) < 1000


def test_notes_are_kept_pinned_and_deleted(project: Path) -> None:
    run = ask(project)
    database = Database.open(load_project(project).store_url)
    app = page(view="notes")
    app.text_area[0].input(HOSTILE)
    next(b for b in app.button if b.label == "Keep").click().run()
    with database.read() as connection:
        (note,) = list_notes(connection, [run])
    assert note.text == HOSTILE and not note.pinned
    assert "<script>" in texts(app) and "\x1b" not in texts(app)
    next(b for b in app.button if b.label == "Pin").click().run()
    with database.read() as connection:
        assert pinned_runs(connection) == {run}
    next(b for b in app.button if b.label == "Delete").click().run()
    with database.read() as connection:
        assert list_notes(connection, [run]) == []
    app = page(view="outputs", case="b")
    app.text_area[0].input("odd")
    next(b for b in app.button if b.label == "Keep").click().run()
    with database.read() as connection:
        assert [(n.case, n.text) for n in list_notes(connection, [run])] == [("b", "odd")]


def test_a_store_that_can_only_be_read_keeps_no_note_and_says_so(project: Path, monkeypatch) -> None:
    ask(project)
    monkeypatch.setenv("WORKBENCH_STORE", f"sqlite:///file:{project}/.workbench/runs.db?mode=ro&uri=true")
    app = page(view="notes")
    app.text_area[0].input("first")
    next(b for b in app.button if b.label == "Keep").click().run()
    assert "readonly database" in app.error[0].value and not app.toast
    assert app.text_area[0].label and not app.exception


@pytest.mark.parametrize("part", PARTS)
def test_foreign_text_stays_text(project: Path, part: str) -> None:
    answer = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace('"', '\\"')
    write(project / "workbench.yaml", echo(f'answers: {{".": "{answer}"}}'))
    write(project / "evals/greet.yaml", SUITE.replace("id: a", 'id: "<b>![x](http://evil.example/y)"'))
    ask(project)
    app = page(view=part)
    if part == "outputs":
        assert "<script>" in texts(app) and "␛[31m" in texts(app) and "⟨U+202E⟩gpj" in texts(app)
        assert "<b>![x](http://evil.example/y)" in texts(app)
    assert "\x1b" not in texts(app) and "\u202e" not in texts(app)
    assert not [value for value in markdown(app) if "evil" in value or "<" in value]


def test_markdown_on_demand_is_harmless(project: Path) -> None:
    write(
        project / "workbench.yaml",
        echo('answers: {".": "# Hi\\n**bold** <img src=x> ![x](http://evil.example/x.png)"}'),
    )
    ask(project)
    app = page(view="outputs", markdown="1")
    html = [str(e.proto.body) for e in app.main.get("html")][-1]
    assert "<strong>bold</strong>" in html and "<h4>Hi</h4>" in html
    assert "<img" not in html and "&lt;img src=x&gt;" in html and "![x](http://evil.example/x.png)" in html


@pytest.mark.parametrize("text", ["plain", "`a` ``b``", "```", "a\nb", "![x](http://evil.example)", "\x1b\u202e", ""])
def test_a_code_span_holds_foreign_text(text: str) -> None:
    found = re.fullmatch(r"(`+) (.*) \1", literal(text))
    assert found and found[1] not in re.findall("`+", text) and "\n" not in found[2] and "\x1b" not in found[2]


def test_a_failed_trial_and_an_empty_answer(project: Path) -> None:
    write(
        project / "workbench.yaml", echo('fail: {Hello: {kind: refused, message: no *room* left}}, answers: {".": ""}')
    )
    ask(project)
    app = page(view="outputs")
    assert "failed (" in texts(app) and "no *room* left" in texts(app) and "an empty answer" in texts(app)
    assert "12 failed" in texts(app)


def test_an_interrupted_run_says_so(project: Path) -> None:
    run = ask(project)
    with Database.open(load_project(project).store_url).write() as connection:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        connection.execute(runs_table.update().values(status="running", pid=dead.pid))
    app = page(runs=run)
    assert "interrupted" in app.warning[0].value and "24 of 24" in app.warning[0].value
    assert app.dataframe


def test_long_and_many_outputs_are_cut_and_paged(project: Path) -> None:
    write(project / "workbench.yaml", echo(f'answers: {{".": "{"long " * 2000}"}}'))
    write(
        project / "evals/greet.yaml",
        SUITE.replace("repeats: 2", "repeats: 15").replace("max_tokens: 20", "max_tokens: 9999"),
    )
    ask(project)
    app = page(view="outputs")
    turns = {"Previous", "Next"}
    assert len(app.code) == 1 + MOST_OUTPUTS
    assert all(len(block.value) < OUTPUT_CHARS + 100 for block in app.code)
    assert "4,000 of 10,000 characters shown" in app.code[1].value
    assert [button.disabled for button in app.button if button.label in turns] == [True, False]
    next(button for button in app.button if button.label == "Next").click().run()
    assert address_of(app, "page") == "2"
    assert len(app.code) == 1 + 60 - MOST_OUTPUTS
    assert [button.disabled for button in app.button if button.label in turns] == [False, True]
    app.number_input[0].set_value(2).run()
    assert address_of(app, "page") is None and len(app.code) == 1 + MOST_OUTPUTS


@pytest.mark.parametrize("part", PARTS)
def test_a_run_without_scores(project: Path, part: str) -> None:
    write(project / "evals/greet.yaml", SUITE.replace("scorers: [contains, length]", ""))
    ask(project)
    app = page(view=part)
    assert not app.error and (app.info or part in ("outputs", "training"))


def test_names_on_the_heat_map_are_whole_where_there_is_room() -> None:
    names = [f"customer-support/answers-number-{i}" for i in range(3)]
    rows = [{"x": name, "y": "", "mean": 0.5, "text": "50 %", "lines": "50 %", "variants": 1} for name in names]
    drawn = compare_axes._heat_map(
        rows, SimpleNamespace(name="s", summaries=[SimpleNamespace(confidence=0.95)]), "p", "–"
    )
    svg = vl_convert.vegalite_to_svg({**drawn.to_dict(), "width": 760})
    assert [f">{name}</text>" in svg for name in names] == [True] * 3


# The server, for real


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(url: str, server: subprocess.Popen) -> str:
    for _ in range(150):
        assert server.poll() is None, "the server has ended"
        try:
            return get(url)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what is in the checkout and unpacked as an installation would."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"  # setuptools writes beside what it builds
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_text((ROOT / name).read_text("utf-8") if (ROOT / name).exists() else "", "utf-8")
    shutil.copytree(ROOT / "workbench", source / "workbench", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        str(place),
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(place / "site")
    return place / "site"


def test_the_wheel_holds_everything(installed: Path) -> None:
    package = ROOT / "workbench"
    wanted = {p.relative_to(ROOT) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    there = {p.relative_to(installed) for p in (installed / "workbench").rglob("*") if p.is_file()}
    assert sorted(map(str, wanted - there)) == []
    names = {str(p) for p in there}
    assert {
        "workbench/views/report.html",
        "workbench/views/screens/__main__.py",
        "workbench/store/migrations/env.py",
    } <= names
    assert any("define/starter/evals" in name for name in names)


def test_the_app_starts_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """In an empty home, on a terminal, with settings about that would open it to the network."""
    (tmp_path / "project/prompts").mkdir(parents=True)
    write(tmp_path / "project/random.py", "raise SystemExit('a file of the project was imported')")
    write(tmp_path / "project/.streamlit/config.toml", '[server]\naddress = "0.0.0.0"\nenableXsrfProtection = false\n')
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(installed),
        "BROWSER": "true",
    }
    (tmp_path / "home").mkdir()
    terminal, ours = pty.openpty()  # Streamlit asks for an e-mail address where it can
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys, workbench; print(workbench.__file__, flush=True)\nfrom workbench.cli import main; sys.exit(main())",
        "ui",
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path / "project",
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/_stcore/health", server) == "ok"
            assert "<title>" in get(f"http://127.0.0.1:{port}/")
            assert listening(port) == {"0100007F"}, "only on 127.0.0.1"
            assert main_line(tmp_path, port).startswith(f"workbench: port {port} is already in use; choose another")
        finally:
            server.send_signal(signal.SIGTERM)  # to the process that was started: no other is left behind
            said = server.communicate(timeout=10)[0]
    os.close(terminal)
    os.close(ours)
    assert str(installed) in said and "mail" not in said and "Traceback" not in said
    with pytest.raises(urllib.error.URLError):
        get(f"http://127.0.0.1:{port}/_stcore/health")


def listening(port: int) -> set[str]:
    """The addresses that listen on the port, as Linux writes them: 0100007F is 127.0.0.1."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def main_line(tmp_path: Path, port: int) -> str:
    command = [
        sys.executable,
        "-m",
        "workbench",
        "--project",
        str(tmp_path / "project"),
        "ui",
        "--port",
        str(port),
        "--headless",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    return done.stderr


def test_another_address_prints_its_token(installed: Path, tmp_path: Path) -> None:
    """The token is the only way in, and stands in the terminal only."""
    (tmp_path / "prompts").mkdir()
    port = free_port()
    command = [sys.executable, "-m", "workbench", "--project", str(tmp_path), "ui", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--host", "0.0.0.0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/_stcore/health", server) == "ok"
            assert listening(port) == {"00000000"}
        finally:
            server.terminate()
            said = server.communicate(timeout=10)[0]
    assert re.search(rf":{port}/\?token=[\w-]{{32}}$", said, re.MULTILINE) and said.count("token=") == 1


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "x"], ["--host", "no such host"]])
def test_a_wrong_port_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_safe_settings_exist() -> None:
    """An option that Streamlit has renamed would be refused at the start; a wrong value would not."""
    from streamlit import config

    assert SAFE["server.address"] == "127.0.0.1"
    assert not set(SAFE) - set(config.get_config_options())
