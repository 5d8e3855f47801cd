"""What `workbench store prune` leaves: whatever kept runs rest on, so that scoring or resuming them asks nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from doubles.asking import RUBRIC
from doubles.stores import at_version, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.begin import RunOptions
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.evaluate import run_suite
from workbench.loopback import Script, Server, serve
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store.database import Database

WORDINGS = ("Say {{ question }}", "Please say {{ question }}")
JUDGE = "judge: {rubric: judges/helpful, model: bench}"
OTHER = "judge: {rubric: judges/helpful, model: bench, params: {max_tokens: 9}}"
SUITE = """
prompts: [%s]
models: [house]
params: {temperature: 0, max_tokens: 20}
cases:
  - {id: c0, question: when do dogs bark, expected: dogs}
  - {id: c1, question: who sings, expected: birds}
  - {id: c2, question: who sings at night, expected: dogs}
  - {id: c3, question: who barks, expected: dogs}
scorers: [{%s}, semantic: maker]
"""
RETRIEVE = 'retrieve: {documents: docs.jsonl, query: "{{ question }}", search: maker, k: 1}\n'
DOCUMENTS = {"dogs": "Dogs bark at night.", "birds": "Birds sing in the morning."}
ANSWERS = {"Answered": '{"verdict": "yes"}'}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def project(root: Path, url: str) -> Path:
    write(root / "prompts/judges/helpful.prompty", RUBRIC)
    write(root / "prompts/found.prompty", "user:\n{% for p in passages %}{{ p.text }} {% endfor %}{{ question }}")
    write(root / "docs.jsonl", "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in DOCUMENTS.items()))
    word(root, 0)
    for name in ("a", "b"):
        write(root / f"evals/{name}.yaml", f"name: {name}\n{SUITE % ('plain', JUDGE)}")
    write(root / "evals/rag.yaml", f"name: rag\n{RETRIEVE}{SUITE % ('found', JUDGE)}")
    write(
        root / "workbench.yaml",
        f"models:\n  house: {{engine: echo}}\n  bench: {{engine: openai, model: judge, base_url: {url}}}\n"
        f"  maker: {{engine: openai, model: embed, base_url: {url}, api: embeddings}}\n",
    )
    return root


def word(root: Path, wording: int) -> None:
    write(root / "prompts/plain.prompty", f"user:\n{WORDINGS[wording]}")


def call(root: Path, *arguments: str) -> None:
    assert main(["--project", str(root), *arguments]) == 0


def run(root: Path, suite: str, options: RunOptions | None = None) -> str:
    found = load_project(root)
    prepared = prepare_suite(load_suite(suite, found, Library(found.library_root), SCORERS.names()), root)
    database = Database.open(found.store_url)
    try:
        ended, status = run_suite(prepared, database, options)
    finally:
        database.close()
    assert status == "complete"
    return ended.run


def change(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / ".workbench/runs.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def kept(root: Path) -> set[str]:
    with closing(sqlite3.connect(root / ".workbench/runs.db")) as connection:
        return {name for (name,) in connection.execute("SELECT id FROM runs")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(Script(answers=ANSWERS)) as running:
        yield running


STEPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(["a", "b"]), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("run"), st.just("rag"), st.just(0), st.just(False)),
    st.tuples(st.just("score"), st.integers(0, 9)),
    st.tuples(st.just("prune"), st.integers(1, 2)),
)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(STEPS, min_size=2, max_size=7))
def test_after_a_prune_kept_runs_are_scored_and_resumed_without_a_call(
    tmp_path_factory: pytest.TempPathFactory, server: Server, steps: list[tuple]
) -> None:
    root = project(tmp_path_factory.mktemp("history"), server.url)
    made: dict[str, tuple[str, int]] = {}
    scored: set[str] = set()
    for step in [*steps, ("prune", 1)]:
        there = [one for one in made if one in kept(root)] if made else []
        match step:
            case ("run", suite, wording, fresh):
                word(root, wording)
                made[run(root, suite, RunOptions(fresh=fresh))] = suite, wording
            case ("score", number) if there:
                scored.add(there[number % len(there)])
                call(root, "score", there[number % len(there)], "--with", OTHER)
            case ("prune", number) if made:
                call(root, "store", "prune", "--keep", str(number))
    if not made:
        return
    shutil.rmtree(root / ".workbench/index", ignore_errors=True)  # it is made again from the store
    change(root, "DELETE FROM scores")
    before = server.calls.total()
    for one in kept(root):
        suite, wording = made[one]
        word(root, wording)
        assert run(root, suite, RunOptions(resume=one)) == one
        if one in scored:
            call(root, "score", one, "--with", OTHER)
    assert server.calls.total() == before
    call(root, "store", "verify")


def older(root: Path) -> None:
    """The store as it was before it was noted what runs reuse."""
    file = root / ".workbench/runs.db"
    old = at_version(file.with_name("old.db"), "0010", file)
    for name in ("runs.db-wal", "runs.db-shm"):
        file.with_name(name).unlink(missing_ok=True)
    old.replace(file)
    change(root, "UPDATE runs SET header = json_remove(header, '$.reuse_noted')")


def stopped(root: Path) -> None:
    """As if the later runs had been stopped before they asked their judges anything."""
    change(
        root,
        "UPDATE runs SET status = 'stopped' WHERE suite = 'b'",
        "DELETE FROM scores WHERE run IN (SELECT id FROM runs WHERE suite = 'b')",
        "DELETE FROM reused",
    )


@pytest.mark.parametrize(
    ("suites", "between"),
    [
        ("a b a", lambda root: None),
        ("a b a", older),
        ("rag rag rag", lambda root: None),
        ("rag rag rag", older),
        ("a b b", stopped),
    ],
    ids=[
        "noted",
        "an older store",
        "an index that was there",
        "an older store with an index",
        "stopped before judging",
    ],
)
def test_what_a_pruned_run_asked_first_stays_until_the_last_that_needs_it(
    tmp_path: Path, server: Server, suites: str, between: Callable[[Path], None]
) -> None:
    """It is handed on twice: from the first run to the second, and from that to the third."""
    root = project(tmp_path, server.url)
    made = [run(root, suite) for suite in suites.split()]
    between(root)
    asked = server.calls.total()
    for going, left in ((0, made[1:]), (1, made[2:])):
        change(root, f"UPDATE runs SET started = '2020-01-01T00:00:00.000+00:00' WHERE id = '{made[going]}'")
        call(root, "store", "prune", "--older", "1000d")
        assert kept(root) == set(left)
    shutil.rmtree(root / ".workbench/index", ignore_errors=True)
    change(root, "DELETE FROM scores")
    run(root, suites.split()[2], RunOptions(resume=made[2]))
    assert server.calls.total() == asked
    assert main(["--project", str(root), "store", "verify"]) == 0
    call(root, "store", "prune", "--keep", "0")
    assert not any(rows(root / ".workbench/runs.db", without=["revisions"]).values())


def test_what_a_run_reused_goes_where_it_goes(tmp_path: Path, server: Server) -> None:
    """An export of one run, and the joined run of shards."""
    root = project(tmp_path / "here", server.url)
    run(root, "a")
    second = run(root, "b")
    asked = server.calls.total()
    call(root, "store", "export", str(tmp_path / "x.gz"), "--run", second)
    there = project(tmp_path / "there", server.url)
    call(there, "store", "import", str(tmp_path / "x.gz"))
    change(there, "DELETE FROM scores")
    run(there, "b", RunOptions(resume=second))
    assert server.calls.total() == asked


def test_shards_may_go_once_they_are_joined(tmp_path: Path, server: Server, capsys) -> None:
    root = project(tmp_path, server.url)
    run(root, "a")
    parts = []
    for shard in ("1/2", "2/2"):
        capsys.readouterr()
        call(root, "run", "b", "--shard", shard, "--quiet")
        parts.append(capsys.readouterr().out.strip())
    capsys.readouterr()
    call(root, "runs", "join", *parts)
    joined = capsys.readouterr().out.strip()
    change(root, f"UPDATE runs SET started = '2020-01-01T00:00:00.000+00:00' WHERE id <> '{joined}'")
    call(root, "store", "prune", "--older", "1000d")
    assert kept(root) == {joined}
    change(root, "DELETE FROM scores")
    asked = server.calls.total()
    call(root, "score", joined)
    assert server.calls.total() == asked
