"""The screen Judge by eye: blind pairs and ratings, votes kept, agreement, labels, expected answers."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from pathlib import Path

import pytest
from doubles.pages import clean, opened, press
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from workbench.define.labels import Change, apply_change, merge_labels, propose_expected
from workbench.define.library import Library
from workbench.define.project import Project, load_project
from workbench.define.suite import load_suite
from workbench.errors import WorkbenchError
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store.database import Database
from workbench.store.runs import trial_rows
from workbench.store.votes import VoteRow, keep_vote, list_votes, take_back
from workbench.views.blind import agreement, queue
from workbench.views.screens import judge

SCRIPT = "from workbench.views.screens.judge import show\nshow()\n"
SUITE = """\
name: greet
prompts: [hello, bye]
models: [house]
cases: {file: data/people.jsonl}
"""
ROWS = [{"id": n.lower(), "who": n, "expected": None} for n in ("Ann", "Ben", "Cat")]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    write(tmp_path / "prompts/hello.prompty", "user:\nHello {{ who }}")
    write(tmp_path / "prompts/bye.prompty", "user:\nBye <b>{{ who }}</b>")
    write(tmp_path / "data/people.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    write(tmp_path / "evals/greet.yaml", SUITE)
    write(tmp_path / "workbench.yaml", "models: {house: {engine: echo}}\n")
    monkeypatch.setenv("WORKBENCH_PROJECT", str(tmp_path))
    return load_project(tmp_path)


@pytest.fixture
def run(project: Project) -> str:
    suite = load_suite("greet", project, Library(project.library_root), SCORERS.names())
    with closing(Database.open(project.store_url)) as database:
        return run_suite(prepare_suite(suite, project.root), database)[0].run


def page(**address: str) -> AppTest:
    return opened(AppTest.from_string(SCRIPT, default_timeout=30), **address)


def everything(app: AppTest) -> str:
    return str(app.main) + "\n".join(e.value for e in [*app.text, *app.code, *app.markdown, *app.caption])


def votes(project: Project, run: str, kind="pair") -> list[VoteRow]:
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        return list_votes(connection, run, kind)


def test_an_empty_store_says_what_to_do(project: Project) -> None:
    assert "Sweep" in page().info[0].value


def test_a_name_is_asked_for_first(project: Project, run: str) -> None:
    app = page(run=run)
    assert "Type your name" in app.info[0].value and not app.button


def test_pairs_are_blind_and_all_are_shown_once(project: Project, run: str) -> None:
    app = page(run=run, rater="Eva")
    seen = set()
    for label in ("The first is better", "The second is better", "A tie"):
        blocks = [code.value for code in app.code]
        assert not {"hello", "house", "temperature"} & set(everything(app).replace("Hello", "").split())
        seen.add(frozenset(blocks[-2:]))
        press(app, label)
    assert app.success and len(seen) == 3
    cast = votes(project, run)
    assert sorted(v.said for v in cast) == ["first", "second", "tie"] and {v.rater for v in cast} == {"Eva"}
    assert {v.case for v in cast} == {"ann", "ben", "cat"}
    assert all(v.first_variant != v.second_variant for v in cast)


def test_a_key_that_presses_a_button_of_the_last_item_changes_no_vote(
    project: Project, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser holds the old buttons for a moment: one key press then presses both items' buttons."""
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        rows = list(trial_rows(connection, run))
    old, new = (tuple(row.trial_id for row in rows if row.case_id == case) for case in ("ann", "ben"))
    session = {judge.SHOWN: " ".join(old)}
    monkeypatch.setattr(judge.st, "session_state", session)
    skipped: set = set()
    judge._vote(run, "Eva", old, "second")
    session[judge.SHOWN] = " ".join(new)  # as the next pass over the page does
    judge._vote(run, "Eva", old, "tie")
    judge._skip(skipped, old, " ".join(old))
    judge._vote(run, "Eva", new, "tie")
    judge._vote(run, "Eva", new, "first")  # before the page shows the next
    assert [(v.case, v.said) for v in votes(project, run)] == [("ann", "second"), ("ben", "tie")]
    assert not skipped


def test_a_vote_is_taken_back_and_an_item_is_skipped(project: Project, run: str) -> None:
    app = page(run=run, rater="Eva")
    first = [code.value for code in app.code]
    press(app, "A tie")
    assert [code.value for code in app.code] != first
    press(app, "Take back")
    assert [code.value for code in app.code] == first and votes(project, run) == []
    press(app, "Skip")
    assert [code.value for code in app.code] != first and "skipped 1" in app.caption[0].value


def test_results_agreement_and_labels(project: Project, run: str) -> None:
    for rater in ("Eva", "Max"):
        app = page(run=run, rater=rater)
        for _ in ROWS:
            texts = [code.value for code in app.code][-2:]
            press(app, "The first is better" if "Hello" in texts[0] else "The second is better")
    clean(app.toggle[0].set_value(True).run())
    table = app.dataframe[-1].value
    assert list(table["variant"]) == ["hello", "bye"] and table["won / lost / tied"][0] == "6 / 0 / 0"
    said = " ".join(c.value for c in app.caption)
    assert "6 votes by 2" in said and "Agreement" in said
    press(app, "Write as human labels")
    file = project.root / f"evals/labels/{run}-pairs.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len(rows) == 6 and {row["rater"] for row in rows} == {"Eva", "Max"}
    assert all(row[row["label"]].startswith("Hello") and row["first_model"] == "house" for row in rows)
    press(app, "Write as human labels")
    assert len(file.read_text("utf-8").splitlines()) == 6, "written twice, each label stands once"


def test_ratings_and_the_expected_answer(project: Project, run: str) -> None:
    app = page(run=run, rater="Eva", ask="good or bad")
    shown = [code.value.strip() for code in app.code]
    assert any(line.startswith("+{") for line in shown[-1].splitlines())
    answer = next(text for text in shown if text.startswith(("Hello", "Bye")))
    press(app, "Write it")
    rows = [json.loads(line) for line in (project.root / "data/people.jsonl").read_text("utf-8").splitlines()]
    assert [row["expected"] for row in rows if row["expected"]] == [answer]
    press(app, "Good")
    press(app, "Bad")
    clean(app.toggle[0].set_value(True).run())
    assert sorted(app.dataframe[-1].value["ratings"]) and sum(app.dataframe[-1].value["ratings"]) == 2
    assert [v.said for v in votes(project, run, "rating")] == ["good", "bad"]


@given(st.integers(2, 5), st.integers(1, 6), st.sampled_from(["pair", "rating"]), st.integers(0, 9))
def test_the_queue_holds_everything_once_and_evenly(variants: int, cases: int, kind, seed: int) -> None:
    names, ids = [f"v{i}" for i in range(variants)], [f"c{i}" for i in range(cases)]
    items = list(queue(names, ids, kind, seed))
    groups = [frozenset(g) for g in itertools.combinations(names, 2 if kind == "pair" else 1)]
    assert sorted(items, key=str) == sorted(itertools.product(ids, groups), key=str)
    assert len({case for case, _ in items[:cases]}) == cases, "each case once before any comes again"
    assert items == list(queue(names, ids, kind, seed))


def test_a_new_vote_takes_the_place_of_the_old_one(project: Project, run: str) -> None:
    with closing(Database.open(project.store_url)) as database:
        with database.read() as connection:
            trials = [r[0] for r in connection.exec_driver_sql("SELECT id FROM trials ORDER BY id")]
        with database.write() as connection:
            keep_vote(connection, run, "Eva", (trials[0], trials[1]), "first")
            keep_vote(connection, run, "Eva", (trials[1], trials[0]), "tie")
            keep_vote(connection, run, "Eva", (trials[0],), "3")
            keep_vote(connection, run, "Max", (trials[0], trials[1]), "second")
        assert [(v.rater, v.said) for v in votes(project, run)] == [("Eva", "tie"), ("Max", "second")]
        with database.write() as connection:
            assert take_back(connection, run, "Eva", "pair") and not take_back(connection, run, "Eva", "pair")
    assert [v.said for v in votes(project, run, "rating")] == ["3"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ([("first", "second"), ("second", "first"), ("tie", "tie")], 1 / 6),
        ([("first", "first"), ("second", "second"), ("tie", "tie")], 1.0),
    ],
)
def test_agreement_is_about_who_won_not_about_sides(said: list[tuple[str, str]], value: float) -> None:
    """By hand: 2 of 3 items disagree, chance has 24 of 30 ordered pairs disagree: 1 - (4/6) / (24/30) = 1/6."""
    rows = [VoteRow(rater, said[i][j], f"c{i}", "t1", "a", "t2", "b") for i in range(3) for j, rater in enumerate("xy")]
    found = agreement(rows, "pair")
    assert found is not None and found.value == pytest.approx(value)
    turned = [VoteRow(v.rater, {"first": "second", "second": "first"}.get(v.said, v.said), v.case, "t2", "b", "t1", "a")
              if v.rater == "y" else v for v in rows]  # fmt: skip
    again = agreement(turned, "pair")
    assert again is not None and again.value == found.value


def test_nobody_judged_the_same_item() -> None:
    assert agreement([VoteRow("x", "tie", "c", "t1", "a", "t2", "b")], "pair") is None


@pytest.mark.parametrize(
    ("cases", "error"),
    [
        ("data/people.csv", "is no JSONL file"),
        ("[{id: ann, who: Ann}]", "stand in the suite itself"),
        ("{file: ../outside.jsonl}", "leaves the project folder"),
        ("{file: data/people.jsonl, where: {who: Ben}}", "has no case 'ann' any more"),
    ],
)
def test_where_no_expected_answer_can_be_written(project: Project, cases: str, error: str) -> None:
    write(project.root / "data/people.csv", "id,who\nann,Ann\n")
    with pytest.raises(WorkbenchError, match=error):
        propose_expected(project, f"prompts: [hello]\ncases: {cases}\n", "ann", "x")


def test_a_line_that_changed_meanwhile_is_not_overwritten(project: Project) -> None:
    change = propose_expected(project, SUITE, "ben", "Ben ☺")
    file = project.root / "data/people.jsonl"
    before = file.read_text("utf-8").splitlines()
    write(file, "\n".join([before[0], before[1].replace("Ben", "Bob"), before[2]]))
    with pytest.raises(WorkbenchError, match=r"data/people.jsonl:2 was changed"):
        apply_change(project, change)
    write(file, "\n".join(before))
    apply_change(project, change)
    after = file.read_text("utf-8").splitlines()
    assert (after[0], after[2]) == (before[0], before[2]) and json.loads(after[1]) == {**ROWS[1], "expected": "Ben ☺"}


def test_labels_go_through_no_link(project: Project, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (project.root / "evals/labels").symlink_to(outside)
    with pytest.raises(WorkbenchError, match="reached by a link"):
        merge_labels(project, "x", [{"label": 1}])
    with pytest.raises(WorkbenchError, match="leaves the project"):
        apply_change(project, Change("../x", 1, "", ""))
    assert list(outside.iterdir()) == []
