"""Stores put together: exported as one file, taken in from such a file or from another store.

An export is gzip'd JSON Lines. First `{"format": "workbench-store/1", "schema": …}`, then one `[table, row]` a line,
each row after those that it points to, at last `{"end": {table: rows}}`: a file that was cut off or damaged is seen
by that line and by gzip's checksum. What is read is checked (`store.rows`) and nothing of it is run.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NoReturn

import sqlalchemy as sa

from workbench.errors import FileError
from workbench.records import Json
from workbench.store import database as db
from workbench.store.rows import MAX_TEXT, TABLES, checked_row

FORMAT = "workbench-store/1"
MAX_LINE = 4 * MAX_TEXT
"""Bytes of one row."""
MAX_BYTES = 16 * 2**30
"""Of an export, unpacked: one that unpacks to more is refused."""
SQLITE, GZIP = b"SQLite format 3\0", b"\x1f\x8b"
_STRUCTURE = {*TABLES, "summaries", "score_sums", "reservations", "alembic_version", "sqlite_sequence"}


def export_lines(connection: sa.Connection, runs: Sequence[str] = ()) -> Iterator[bytes]:
    """The lines of an export: of the whole store, or of these runs alone, with all that they refer to."""
    yield _line({"format": FORMAT, "schema": db.HEAD})
    counts: Counter[str] = Counter()
    for name, query in _queries(runs).items():
        for row in connection.execute(query).mappings():
            counts[name] += 1
            yield _line([name, dict(row)])
    yield _line({"end": dict(counts)})


def write_export(connection: sa.Connection, file: IO[bytes], runs: Sequence[str] = ()) -> int:
    """Writes an export; gives the number of its rows. The same store gives the same bytes."""
    count = -2
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        for line in export_lines(connection, runs):
            packed.write(line)
            count += 1
    return count


def read_export(path: Path) -> Iterator[tuple[str, dict[str, Json]]]:
    """(table, row) of each line of an export; raises FileError where it is none, damaged, or of a newer version."""
    counts: Counter[str] = Counter()
    number = 0
    ended = False
    try:
        with gzip.open(path) as file:
            for number, value in enumerate(_values(file), 1):
                if number == 1:
                    _check_head(value)
                elif ended:
                    raise FileError("something follows the end")
                elif isinstance(value, dict):
                    if value.get("end") != dict(counts):
                        raise FileError("the number of its rows is not the one that it tells")
                    ended = True
                elif isinstance(value, list) and len(value) == 2 and value[0] in TABLES:
                    counts[value[0]] += 1
                    yield value[0], checked_row(value[0], value[1])
                else:
                    raise FileError("a line is no row of a store")
            if not ended:
                raise FileError("the file ends too early")
    except FileError as error:
        _refuse(path, error.message, number)
    except (EOFError, OSError, zlib.error, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or cut off"
        _refuse(path, reason, number)


def read_store(path: Path) -> Iterator[tuple[str, dict[str, Json]]]:
    """(table, row) of another store's SQLite file, which is only read; raises FileError as `read_export` does."""
    table = ""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "query_only=ON"):
                connection.execute(f"PRAGMA {pragma}")
            _check_structure(connection)
            for table, known in TABLES.items():
                columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                wanted = ", ".join(f'"{c.name}"' for c in known.columns if c.name in columns)
                if not wanted:
                    continue  # a table that a later version added
                for row in connection.execute(f"SELECT {wanted} FROM {table}"):  # noqa: S608  our own names
                    yield table, checked_row(table, _decoded(known, row))
    except FileError as error:
        _refuse(path, error.message)
    except (sqlite3.Error, ValueError, RecursionError, OSError) as error:
        _refuse(path, f"{table}: {error}" if table else str(error))


def kind_of(path: Path) -> str:
    """`export` or `store`, by the file's first bytes; raises FileError for anything else."""
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE))
    except OSError as error:
        raise FileError(f"can't be read: {error.strerror}", path) from error
    if start.startswith(GZIP):
        return "export"
    if start == SQLITE:
        return "store"
    raise FileError("is neither an export ('workbench store export') nor a store; nothing was taken in", path)


def _queries(runs: Sequence[str]) -> dict[str, sa.Select[Any]]:
    """Table → its rows that belong to the runs, in an order that content decides."""
    chosen = {name: sa.select(table).order_by(*table.primary_key) for name, table in TABLES.items()}
    if not runs:
        return chosen
    own = {name: query.where(TABLES[name].c.run.in_(runs)) for name, query in chosen.items() if "run" in TABLES[name].c}
    t, o = db.trials.c, db.outputs.c
    trials = sa.and_(t.run.in_(runs), t.output.is_not(None))
    reused = sa.select(db.reused.c.output).where(db.reused.c.run.in_(runs))
    is_theirs = sa.or_(o.run.in_(runs), o.number.in_(sa.select(t.output).where(trials)), o.number.in_(reused))
    outputs = chosen["outputs"].where(is_theirs)
    requests = chosen["requests"].where(
        sa.or_(
            db.requests.c.id.in_(sa.select(o.request).where(is_theirs)),
            db.requests.c.id.in_(sa.select(t.request).where(t.run.in_(runs))),
        )
    )
    named = sa.select(db.variants.c.revision).where(db.variants.c.run.in_(runs))
    revisions = chosen["revisions"].where(db.revisions.c.revision.in_(named))
    heads = chosen["runs"].where(db.runs.c.id.in_(runs))
    parts = {"revisions": revisions, "runs": heads, "requests": requests, **own, "outputs": outputs}
    return {name: parts[name] for name in TABLES if name in parts}


def _line(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _values(file: Any) -> Iterator[Json]:
    total = 0
    while line := file.readline(MAX_LINE + 1):
        total += len(line)
        if len(line) > MAX_LINE or total > MAX_BYTES:
            raise FileError("is larger than a store may be")
        yield json.loads(line, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_head(value: Json) -> None:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FileError("is no export of a store")
    if not str(value.get("schema")).isdigit() or int(value["schema"]) > int(db.HEAD):
        raise FileError(f"has version {value.get('schema')}, which this version of workbench does not know; update it")


def _check_structure(connection: sqlite3.Connection) -> None:
    """Only our tables and their indexes: a view or a trigger would be code."""
    found = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
    if not any(row["name"] == "alembic_version" for row in found):
        raise FileError("is an SQLite file, but no store")
    for row in found:
        if row["type"] not in ("table", "index") or row["tbl_name"] not in _STRUCTURE:
            raise FileError(f"holds '{row['name']}', which no store has")
    version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if version is None or not str(version[0]).isdigit() or int(version[0]) > int(db.HEAD):
        raise FileError("was written by a newer version of workbench; update it")
    if (said := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise FileError(f"is damaged: {said}")


def _decoded(table: sa.Table, row: sqlite3.Row) -> dict[str, Json]:
    """SQLite's values as those of the columns: JSON is text there, and yes and no are numbers."""
    values: dict[str, Json] = {}
    for name in row.keys():  # noqa: SIM118  a Row iterates over its values
        value, kind = row[name], table.columns[name].type
        if isinstance(kind, sa.JSON) and value is not None:
            value = json.loads(value, parse_constant=_no_constant)
        elif isinstance(kind, sa.Boolean) and value in (0, 1):
            value = bool(value)
        values[name] = value
    return values


def _refuse(path: Path, reason: str, line: int | None = None) -> NoReturn:
    raise FileError(f"{' '.join(reason.split())[:200]}; nothing was taken in", path, line or None)
