"""Cases: rows of a file, or of the suite itself, with stable ids.

A case is named by its row's own id, else by a hash of the row, never by its position, so that adding or
sorting rows keeps what was answered. Values are what the file says: CSV gives text, never a guessed number;
Parquet's missing values become None. Every complaint names the file and the line (Parquet: the row).
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from workbench.define.held_out import held_out
from workbench.define.images import inline_images
from workbench.define.project import Project
from workbench.define.suite_file import CasesFile, as_list
from workbench.define.yamlfile import Located, decode
from workbench.errors import DataError, SuiteError, UseError, suggest
from workbench.records import Case, Json, Message, content_id

ROLES = ("id", "expected", "cluster", "tags", "messages")
"""The parts a field can play beside being an input; also the fields' default names."""
CHAT_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    values: Mapping[str, Json]
    path: str
    line: int | None

    def fail(self, message: str) -> DataError:
        return DataError(message, self.path, self.line)

    def get(self, name: str) -> Json:
        """The value of a field; raises DataError where the row has none of that name."""
        if name not in self.values:
            raise self.fail(f"the row has no field '{name}'{suggest(name, self.values)}")
        return self.values[name]


def load_cases(
    source: str | list[dict[str, Json]] | CasesFile, project: Project, suite: Located, limit: int | None = None
) -> tuple[Case, ...]:
    """The cases that a suite's `cases` stands for, in the source's order.

    `limit` stands above the source's own. Raises DataError; SuiteError where a file leaves the project.
    """
    if isinstance(source, str):
        source = CasesFile(file=source)
    elif isinstance(source, list):
        source = CasesFile(rows=source)
    rows = list(_own_rows(source, suite) if source.file is None else _file_rows(source, project, suite))
    if not rows:
        raise DataError("holds no cases", source.file or suite.path)
    rows = [row for row in rows if _wanted(row, source.where)]
    if not rows:
        raise DataError("no row has what 'where' asks for", suite.path, suite.line(("cases", "where")))
    if source.id is None and any("id" in row.values for row in rows):
        source = source.model_copy(update={"id": "id"})
    cases = [_case(row, source, project) for row in rows]
    _refuse_twins(cases, rows, own_ids=source.id is not None)
    cases = _quarantined(cases, source, suite)
    if source.held_out is not None:
        with suite.at("cases", "held_out"):
            cases = held_out(cases, as_list(source.held_out), project)
    return _sample(cases, limit or source.limit, source.sample_seed)


def first_rows(file: str, project: Project, count: int) -> list[Mapping[str, Json]]:
    """The first rows of a file of the project, as they stand there. Raises DataError or SuiteError."""
    rows = _file_rows(CasesFile(file=file), project, Located({}, {}, "", file))
    return [row.values for row in islice(rows, count)]


def shuffled(cases: Iterable[Case], seed: int) -> list[Case]:
    """A random order that depends on seed and ids alone: where a case stands is not changed by the others."""
    return sorted(cases, key=lambda case: content_id("or1", [seed, case.id]))


def _quarantined(cases: list[Case], source: CasesFile, suite: Located) -> list[Case]:
    """The cases, those marked that the suite's `quarantine` names; some must be left that count."""
    known = {case.id for case in cases}
    aside: set[str] = set()
    for i, name in enumerate(map(str, source.quarantine)):
        with suite.at("cases", "quarantine", i):
            if name not in known:
                raise SuiteError(f"'quarantine' names '{name}', which is no case's id{suggest(name, known)}")
            if name in aside:
                raise SuiteError(f"'quarantine' names '{name}' twice; take one out")
        aside.add(name)
    if len(aside) == len(cases):
        raise SuiteError("'quarantine' names every case, so none would count; take some out", suite.path)
    return [replace(case, quarantined=True) if case.id in aside else case for case in cases]


def _sample(cases: list[Case], limit: int | None, seed: int) -> tuple[Case, ...]:
    if limit is None or limit >= len(cases):
        return tuple(cases)
    drawn = {case.id for case in shuffled(cases, seed)[:limit]}
    return tuple(case for case in cases if case.id in drawn)


def _own_rows(source: CasesFile, suite: Located) -> Iterator[Row]:
    inside: tuple[str, ...] = ("cases",) if isinstance(suite.data["cases"], list) else ("cases", "rows")
    for i, values in enumerate(source.rows or ()):
        yield Row(values, suite.path, suite.line((*inside, i)))


def _file_rows(source: CasesFile, project: Project, suite: Located) -> Iterator[Row]:
    assert source.file is not None
    with suite.at("cases", "file"):
        path = project.path(source.file)
    return read_rows(path, project.shown(path), source.format)


def read_rows(path: Path, shown: str, form: str | None = None) -> Iterator[Row]:
    """The rows of a data file; `form` stands above its ending. Raises DataError, which names the file as `shown`."""
    kind = form or path.suffix.lower().lstrip(".").replace("ndjson", "jsonl")
    if kind == "parquet":
        return _parquet(path, shown)
    if kind not in _READERS:
        known = ", ".join(sorted([*_READERS, "parquet"]))
        raise DataError(f"is of no known format; name one with 'format': {known}", shown)
    try:
        text = decode(path.read_bytes(), shown, DataError)
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", shown) from error
    return _READERS[kind](text, shown)


def _jsonl(text: str, shown: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028 inside a string
        if content.strip():
            try:
                yield _json_row(_DECODER.decode(content), shown, line)
            except json.JSONDecodeError as error:
                raise DataError(f"not JSON: {error.msg} at column {error.colno}", shown, line) from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"not a row: {error}", shown, line) from error


def _json(text: str, shown: str) -> Iterator[Row]:
    """A list of objects; scanned item by item, since the whole would not tell lines."""
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise DataError("must hold a list of objects", shown, 1)
    at, more = _skip(text, at + 1), True
    while more and text[at : at + 1] != "]":
        line = text.count("\n", 0, at) + 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg} at column {error.colno}", shown, error.lineno) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"not a row: {error}", shown, line) from error
        yield _json_row(value, shown, line)
        end = _skip(text, at)
        more = text[end : end + 1] == ","
        at = _skip(text, end + 1) if more else end
    if text[at : at + 1] != "]" or text[at + 1 :].strip():
        raise DataError("not JSON: ',' or the end of the list is expected", shown, text.count("\n", 0, at) + 1)


def _csv(text: str, shown: str, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(1 << 30)  # the module's own limit of 128 KiB is less than a long document
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not header and cells:
                header = _header(cells, shown, line, delimiter)
            elif cells:
                if len(cells) != len(header):
                    problem = f"the row has {len(cells)} fields, the header {len(header)}; quote text with commas"
                    raise DataError(problem, shown, line)
                yield Row(dict(zip(header, cells, strict=True)), shown, line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", shown, line) from error


def _header(cells: list[str], shown: str, line: int, delimiter: str) -> list[str]:
    other = next((mark for mark in ",;\t" if mark != delimiter and mark in cells[0]), None)
    if len(cells) == 1 and other:  # as a spreadsheet writes it where a comma stands in numbers
        names = {",": "commas", ";": "semicolons", "\t": "tabs"}
        how = {",": "name 'format: csv'", "\t": "name 'format: tsv'"}.get(other, "save it with commas")
        problem = f"the header's columns are parted by {names[other]}, not by {names[delimiter]}; {how}"
        raise DataError(problem, shown, line)
    for i, name in enumerate(cells):
        if not name.strip() or name in cells[:i]:
            problem = f"names '{name}' twice" if name.strip() else f"has no name for column {i + 1}"
            raise DataError(f"the header {problem}", shown, line)
    return cells


def _tsv(text: str, shown: str) -> Iterator[Row]:
    return _csv(text, shown, "\t")


_READERS = {"jsonl": _jsonl, "json": _json, "csv": _csv, "tsv": _tsv}


def _parquet(path: Path, shown: str) -> Iterator[Row]:
    """Through pyarrow and not pandas, which would turn whole numbers with gaps into fractions."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            line, names = 0, file.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"has the column '{twice[0]}' twice", shown)
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    line += 1
                    yield Row({name: _plain(value, shown, line) for name, value in values.items()}, shown, line)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {str(error).splitlines()[0]}", shown) from error
    except (ValueError, OverflowError) as error:  # of Python's dates, which end with the year 9999
        raise DataError(f"a value has no counterpart in Python: {error}", shown) from error


def _plain(value: Any, shown: str, line: int) -> Json:
    """Arrow's Python values as JSON ones."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, list):
        return [_plain(item, shown, line) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item, shown, line) for name, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DataError(f"holds a value of type {type(value).__name__}, which is not text, number or list", shown, line)


def _json_row(value: Json, shown: str, line: int) -> Row:
    if not isinstance(value, dict):
        raise DataError("a row must be an object {field: value}", shown, line)
    return Row(value, shown, line)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field '{next(n for n in names if names.count(n) > 1)}' stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; use null")


_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _skip(text: str, at: int) -> int:
    """The place of the next character that is no white space of JSON."""
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _wanted(row: Row, where: Mapping[str, Json]) -> bool:
    """Values are compared as text too, since CSV has nothing else."""
    for name, allowed in where.items():
        value = row.get(name)
        options = allowed if isinstance(allowed, list) else [allowed]
        if not any(value == option or str(value) == str(option) for option in options):
            return False
    return True


def _case(row: Row, source: CasesFile, project: Project) -> Case:
    part: dict[str, Json] = {}
    played: set[str] = set()
    for role in ROLES[:3] + ROLES[4:]:
        name = getattr(source, role)
        if name is None and role in row.values:
            name, played = role, played | {role}
        part[role] = None if name is None else row.get(name)
    names = source.tags
    if names is None and "tags" in row.values:
        names, played = "tags", played | {"tags"}
    if source.id == "id":
        played.add("id")
    inputs = {name: value for name, value in row.values.items() if name not in played}
    inputs |= {name: row.get(column) for name, column in source.inputs.items()}
    return Case(
        id=_row_hash(row) if source.id is None else _own_id(part["id"], source.id, row),
        inputs=inputs,
        expected=part["expected"],
        tags=tuple(tag for name in ([names] if isinstance(names, str) else names or []) for tag in _tags(row, name)),
        cluster=None if part["cluster"] is None else str(part["cluster"]),
        messages=_messages(part["messages"], row, project),
        origin=f"{row.path}:{row.line}",
    )


def row_id(row: Row, field: str | None) -> str:
    """What names the case of a row: the value of a field, by default of `id` where there is one, else a hash of the
    row. Raises DataError."""
    field = "id" if field is None and "id" in row.values else field
    return _row_hash(row) if field is None else _own_id(row.get(field), field, row)


def _row_hash(row: Row) -> str:
    try:
        return content_id("ro1", dict(row.values))[:16]
    except (ValueError, TypeError) as error:
        raise row.fail("the row holds a value that is not JSON, such as half a surrogate pair") from error


def _own_id(value: Json, name: str, row: Row) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise row.fail(f"the id in field '{name}' must be text or a whole number, not {json.dumps(value)[:40]}")
    _row_hash(row)  # only to refuse what is not JSON
    return str(value)


def _tags(row: Row, name: str) -> Iterator[str]:
    value = row.get(name)
    items = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [value]
    return (str(item).strip() for item in items if item is not None and str(item).strip())


def _messages(value: Json, row: Row, project: Project) -> tuple[Message, ...]:
    """A chat history; CSV holds it as JSON text. Images are files of the project."""
    if isinstance(value, str) and value.strip():
        try:
            value = _DECODER.decode(value)
        except ValueError as error:
            raise row.fail("the chat history is not JSON") from error
    try:
        found = tuple(Message.from_json(inline_images(item, project)) for item in value or ())
    except UseError as error:
        raise row.fail(str(error)) from error
    except (TypeError, KeyError) as error:
        raise row.fail("a chat history must be a list of {role, content}") from error
    if wrong := [m.role for m in found if m.role not in CHAT_ROLES]:
        raise row.fail(f"unknown role '{wrong[0]}' in the chat history{suggest(str(wrong[0]), CHAT_ROLES)}")
    return found


def _refuse_twins(cases: list[Case], rows: list[Row], own_ids: bool) -> None:
    first: dict[str, Row] = {}
    for case, row in zip(cases, rows, strict=True):
        other = first.setdefault(case.id, row)
        if other is not row and own_ids:
            raise row.fail(f"two cases have the id '{case.id}', lines {other.line} and {row.line}; rename one")
        if other is not row:
            raise row.fail(f"lines {other.line} and {row.line} hold the same row; remove one, or give rows an id")
