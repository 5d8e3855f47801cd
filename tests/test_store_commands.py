"""`workbench store`: exported, taken in, merged, pruned, verified; a cached store makes a rerun cheap."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from workbench.cli import main
from workbench.store import database as db
from workbench.store import notes, runs
from workbench.store.database import Database
from workbench.store.rows import TABLES

PROMPTS = 10
CASES = 4


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_project(root: Path) -> Path:
    for i in range(PROMPTS):
        write(root / f"prompts/p{i}.prompty", f"user:\nPrompt {i}: hello {{{{ who }}}}")
    names = ", ".join(f"p{i}" for i in range(PROMPTS))
    cases = "".join(f"  - {{id: c{i}, who: W{i}, expected: W{i}}}\n" for i in range(CASES))
    write(root / "evals/s.yaml", f"prompts: [{names}]\nmodels: [echo]\ncases:\n{cases}scorers: [contains]\n")
    return root


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def counts(root: Path) -> dict[str, int]:
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    with database.read() as connection:
        found = {
            n: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for n, t in TABLES.items()
        }
    database.close()
    return found


def change(root: Path, *statements: str) -> None:
    connection = sqlite3.connect(root / ".workbench/runs.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "a")
    assert call(root, "run", "s", "--quiet") == 0
    return root


def test_editing_one_prompt_of_ten_after_an_import_asks_one_tenth(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.gz"
    assert call(project, "store", "export", str(cache)) == 0
    fresh = make_project(tmp_path / "b")
    assert call(fresh, "store", "import", str(cache)) == 0
    assert counts(fresh) == counts(project)
    write(fresh / "prompts/p3.prompty", "user:\nEdited: hello {{ who }}")
    assert call(fresh, "run", "s", "--quiet") == 0
    assert counts(fresh)["outputs"] == PROMPTS * CASES + CASES
    assert counts(fresh)["scores"] == 2 * PROMPTS * CASES


@pytest.mark.parametrize("how", ["import", "merge"])
def test_taken_in_twice_adds_nothing(
    project: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = make_project(tmp_path / "b")
    file = project / ".workbench/runs.db"
    if how == "import":
        file = tmp_path / "x.gz"
        call(project, "store", "export", str(file))
    assert call(fresh, "store", how, str(file)) == 0
    once = counts(fresh)
    assert once == counts(project)
    assert call(fresh, "store", how, str(file), "--json") == 0
    assert counts(fresh) == once
    assert not any(json.loads(capsys.readouterr().out.splitlines()[-1]).values())
    assert call(fresh, "store", "verify") == 0


def test_two_stores_are_put_together(project: Path, tmp_path: Path) -> None:
    other = make_project(tmp_path / "b")
    assert call(other, "run", "s", "--quiet", "--seed", "7", "--set", "temperature=1") == 0
    assert call(project, "store", "merge", str(other / ".workbench/runs.db")) == 0
    found = counts(project)
    assert (found["runs"], found["outputs"], found["scores"]) == (2, 80, 80)
    assert call(project, "store", "verify") == 0


def test_an_export_of_one_run_has_all_it_refers_to(project: Path, tmp_path: Path) -> None:
    write(project / "prompts/p3.prompty", "user:\nEdited: hello {{ who }}")
    assert call(project, "run", "s", "--quiet") == 0  # refers to outputs of the first run
    assert call(project, "store", "export", str(tmp_path / "x.gz"), "--run", "latest") == 0
    fresh = make_project(tmp_path / "b")
    assert call(fresh, "store", "import", str(tmp_path / "x.gz")) == 0
    found = counts(fresh)
    assert (found["runs"], found["outputs"], found["trials"]) == (1, 40, 40)


def test_the_same_store_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        call(project, "store", "export", str(tmp_path / name))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def lines_of(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines(keepends=True)


def edited(table: str, column: str, value: object):
    """An export in which the first row of a table has another value."""

    def edit(file: Path) -> bytes:
        lines = lines_of(file)
        at = next(i for i, line in enumerate(lines) if line.startswith(f'["{table}"'.encode()))
        name, row = json.loads(lines[at])
        lines[at] = json.dumps([name, {**row, column: value}]).encode() + b"\n"
        return gzip.compress(b"".join(lines))

    return edit


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda f: f.read_bytes()[:-200], "damaged or cut off"),
        (lambda f: f.read_bytes()[:-8] + bytes(4) + f.read_bytes()[-4:], "damaged or cut off"),  # its checksum
        (lambda f: gzip.compress(b"".join(lines_of(f)[:-1])), "ends too early"),
        (lambda f: gzip.compress(b"".join([*lines_of(f)[:5], *lines_of(f)[6:]])), "number of its rows"),
        (lambda f: gzip.compress(b'{"a": 1}\n'), "no export"),
        (lambda f: gzip.compress(b'{"format":"workbench-store/1","schema":"9999"}\n'), "update it"),
        (lambda f: b"hello", "neither an export"),
        (lambda f: b"", "neither an export"),
        (edited("runs", "id", "../../x"), "'id' that can't be one"),
        (edited("runs", "header", [1]), "'header' that can't be one"),
        (edited("runs", "header", {"seed": "x"}), "'header' that can't be one"),
        (edited("variants", "settings", {"params": [], "vars": {}, "answer": {}}), "'settings' that can't be one"),
        (edited("runs", "pid", "1"), "is no whole number"),
        (edited("runs", "suite", None), "has no 'suite'"),
        (edited("runs", "more", 1), "unknown columns: more"),
        (edited("requests", "identity", "another"), "not what its id says"),
        (edited("requests", "messages", [{"role": "user"}]), "'messages' that can't be one"),
        (edited("outputs", "failure", {"kind": "x", "boom": 1}), "'failure' that can't be one"),
        (edited("outputs", "request", "rq1-0"), "request rq1-0 is missing"),
        (edited("outputs", "seconds", True), "is no number"),
        (edited("trials", "output", 999), "output 999, which is missing"),
        (edited("trials", "run", "other"), "a run that is missing"),
        (edited("trials", "variant", "other"), "has trials without a variant or a case: tr1-"),
        (edited("trials", "case", "other"), "has trials without a variant or a case: tr1-"),
        (edited("scores", "trial", "tr1-0"), "has scores without a trial: tr1-0"),
        (edited("scores", "kind", "odd"), "'kind' that can't be one"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_changes_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make, problem: str
) -> None:
    good, bad = tmp_path / "good.gz", tmp_path / "bad.gz"
    call(project, "store", "export", str(good))
    bad.write_bytes(make(good))
    fresh = make_project(tmp_path / "b")
    capsys.readouterr()
    assert call(fresh, "store", "import", str(bad)) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1
    assert not any(counts(fresh).values())


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["CREATE VIEW v AS SELECT 1"], "'v', which no store has"),
        (["CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END"], "'t', which no store has"),
        (["UPDATE alembic_version SET version_num = '9999'"], "newer version"),
        (["DROP TABLE alembic_version"], "no store"),
        (["UPDATE outputs SET text = x'ff00'"], "is no text"),
        (["UPDATE requests SET messages = '{'"], "requests:"),
    ],
)
def test_a_foreign_store_is_refused(project: Path, tmp_path: Path, capsys, statements: list[str], problem: str) -> None:
    change(project, *statements)
    fresh = make_project(tmp_path / "b")
    assert call(fresh, "store", "merge", str(project / ".workbench/runs.db")) == 2
    assert problem in capsys.readouterr().err
    assert not any(counts(fresh).values())


def test_prune_keeps_what_kept_runs_refer_to(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project / "prompts/p3.prompty", "user:\nEdited: hello {{ who }}")
    assert call(project, "run", "s", "--quiet") == 0
    before = counts(project)
    assert call(project, "store", "prune", "--keep", "1", "--dry-run") == 0
    assert "would go: 1 run, 4 outputs, 4 requests" in capsys.readouterr().out
    assert counts(project) == before
    assert call(project, "store", "prune", "--keep", "1") == 0
    assert counts(project) == {
        **before,
        "runs": 1,
        "outputs": 40,
        "requests": 40,
        "variants": 10,
        "cases": 4,
        "trials": 40,
        "scores": 40,
    }
    assert call(project, "store", "verify") == 0


def test_prune_spares_what_people_wrote_on(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database.open(f"sqlite:///{project}/.workbench/runs.db")
    with database.write() as connection:
        notes.add_note(connection, runs.get_run(connection, "latest").id, "the one")
    database.close()
    assert call(project, "store", "prune", "--keep", "0") == 0
    assert "written on" in capsys.readouterr().err
    assert counts(project)["runs"] == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [([], "--keep N or --older"), (["--keep", "1", "--older", "3d"], "--keep N or"), (["--older", "soon"], "must be a time")],
)  # fmt: skip
def test_prune_wants_one_rule(project: Path, capsys, arguments: list[str], problem: str) -> None:
    assert call(project, "store", "prune", *arguments) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE requests SET identity = 'x' WHERE id = (SELECT min(id) FROM requests)", "requests whose id"),
        ("UPDATE variants SET model = 'x' WHERE position = 0", "variants whose id"),
        ("UPDATE trials SET repeat = 9 WHERE id = (SELECT min(id) FROM trials)", "trials whose id"),
        ("DELETE FROM trials WHERE id = (SELECT min(id) FROM trials)", "scores without a trial"),
        ("DELETE FROM cases WHERE id = 'c1'", "trials without a variant or a case"),
        ("DELETE FROM requests WHERE id = (SELECT min(id) FROM requests)", "rows that point to nothing"),
        ("UPDATE trials SET output = 1 WHERE output = 2", "answer to another request"),
    ],
)
def test_verify_finds_it(project: Path, capsys: pytest.CaptureFixture[str], statement: str, found: str) -> None:
    assert call(project, "store", "verify") == 0
    change(project, statement)
    assert call(project, "store", "verify") == 3
    assert found in capsys.readouterr().out


def test_a_missing_file_and_the_wrong_command_are_told(project: Path, tmp_path: Path, capsys) -> None:
    assert call(project, "store", "import", str(tmp_path / "no.gz")) == 2
    assert "can't be read" in capsys.readouterr().err
    assert call(project, "store", "import", str(project / ".workbench/runs.db")) == 2
    assert "store merge" in capsys.readouterr().err


def test_all_tables_are_exported() -> None:
    derived = {db.summaries.name, db.score_sums.name, db.reservations.name}
    assert set(TABLES) == {t.name for t in db.metadata.sorted_tables} - derived
