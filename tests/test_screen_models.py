"""The models screen: what is known, measuring, the ranking on a suite, and the line to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.pages import opened, texts
from streamlit.testing.v1 import AppTest

from workbench.checks import keep_check, kept_check
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.engines.base import Speed
from workbench.evaluate import run_suite
from workbench.models import Check, check_model
from workbench.prepare import prepare_suite
from workbench.records import Model
from workbench.registry import SCORERS
from workbench.stats.summary import summarise
from workbench.store.database import Database
from workbench.store.grouped import grouped_scores
from workbench.store.runs import list_runs, score_columns
from workbench.views.screens.models import chosen_lines

YAML = """
models:
  good: {engine: echo, options: {answers: {'.': "yes"}}, price: {input: 1, output: 2}}
  poor: {engine: echo, options: {answers: {'.': "no"}}}
  gone: {engine: llama, path: nowhere.gguf}
"""
SUITE = (
    """
stage: select
prompts: [p]
models: [poor, good]
params: {temperature: [0, 1]}
repeats: 2
cases:
"""
    + "".join(f"  - {{id: c{i}, q: q{i}, expected: {'yes' if i % 4 else 'maybe'}}}\n" for i in range(12))
    + "scorers: [contains, length]\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"prompts/p.prompty": "user:\n{{ q }}", "evals/s.yaml": SUITE, "workbench.yaml": YAML}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(root: Path) -> None:
    project = load_project(root)
    suite = load_suite("s", project, Library(project.library_root), SCORERS.names())
    run_suite(prepare_suite(suite, root), Database.open(project.store_url))


def _screen() -> None:
    from workbench.views.screens import models

    models.show()


def page(**address: str) -> AppTest:
    return opened(AppTest.from_function(_screen, default_timeout=30), **address)


def test_every_model_is_a_row_and_one_that_cannot_be_opened_says_why(root: Path) -> None:
    app = page()
    table = app.dataframe[0].value.set_index("model")
    assert list(table.index) == ["smollm2", "echo", "good", "poor", "gone"]
    assert table["price in / out"]["good"] == "$1 / $2" and table["ready"]["gone"] == "✗ no"
    assert "gone: there is no model file" in texts(app)
    assert "stage: select" in app.info[0].value and not app.error


def test_measuring_is_kept_for_this_machine(root: Path) -> None:
    app = page(model="good")
    assert "Not measured here yet" in "".join(c.value for c in app.caption)
    next(b for b in app.button if b.label == "Ask and measure").click().run()
    assert not app.exception and "yes" in texts(app)
    assert kept_check(load_project(root).models["good"]) is not None
    assert "yes" in texts(page(model="good"))


def test_a_check_comes_back_as_it_was(root: Path) -> None:
    model = Model("a", "llama", {"path": "x"})
    assert kept_check(model) is None
    check = Check("a", True, "hi", 1.5, 3, 4, 2.0, None, (Speed("a", 100.0, {1: 10.0, 32: 90.0}, 5),))
    keep_check(model, check)
    assert (kept_check(Model("other", "llama", {"path": "x"})) or [None])[0] == check, (
        "by what is opened, not its alias"
    )
    assert kept_check(Model("a", "llama", {"path": "x", "quantise": "q4_0"})) is None
    next((root / "cache").rglob("ck1-*.json")).write_text("{")
    assert kept_check(model) is None


def test_the_ranking_has_its_uncertainty(root: Path) -> None:
    run(root)
    app = page()
    ranks = app.dataframe[1].value
    assert list(ranks["model"]) == ["good", "poor"] and ranks["mean"][0].startswith("75 % [")
    assert list(ranks["cases"]) == [12, 12] and list(ranks["difference"])[1] == "reference"
    assert ranks["verdict"][0] == "better" and ranks["cost"][1] == "unknown"
    app = page(scorer="length", against="good")
    assert list(app.dataframe[1].value["difference"]).count("reference") == 1 and not app.error


@pytest.mark.parametrize("scorer", ["contains", "length"])
def test_reduced_in_sql_as_in_stats(root: Path, scorer: str) -> None:
    """A model with one variant and no repeats has the same summary; with more, the same mean."""
    run(root)
    with Database.open(load_project(root).store_url).read() as connection:
        found = list_runs(connection)[0].id
        whole, grouped = score_columns(connection, found, scorer), grouped_scores(connection, found, scorer, "model")
    means = {s.variant: s.mean for s in summarise(grouped)}
    by_variant = [s.mean for s in summarise(whole)]
    assert means["poor"] == pytest.approx(sum(by_variant[:2]) / 2) and means["good"] == pytest.approx(
        sum(by_variant[2:]) / 2
    )
    assert grouped.missing == (0, 0) and len(grouped.value) == 24


@pytest.mark.parametrize(
    "model",
    [
        Model("a", "llama", {"path": "pkg:x/y.gguf", "quantise": "q4_0", "threads": 2}),
        Model(
            "b",
            "openai",
            {"model": "m", "base_url": "http://h/v1", "api_key_env": "K"},
            {"input": 1.0, "output": 2.0},
            {"concurrency": 3},
        ),
        Model("c", "echo", {"answers": {"no": "#: yes"}}),
    ],
)
def test_the_lines_to_write_mean_the_same_model(tmp_path: Path, model: Model) -> None:
    (tmp_path / "workbench.yaml").write_text(chosen_lines(model))
    found = load_project(tmp_path).models["chosen"]
    assert (found.engine, dict(found.settings), found.price, dict(found.limits)) == (
        model.engine, dict(model.settings), model.price, dict(model.limits),
    )  # fmt: skip


def test_a_checked_model_that_does_not_answer(root: Path) -> None:
    model = load_project(root).models["gone"]
    keep_check(model, check_model(model))
    assert "no answer" in page(model="gone").warning[0].value
