"""The files of a promptfoo config, each inside its folder: YAML, JSON, tables of tests, values of variables.

The format: https://www.promptfoo.dev/docs/configuration/reference/.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workbench.define.yamlfile import decode, parse_yaml
from workbench.errors import DataError, FileError
from workbench.interop.report import Left
from workbench.records import Json

CODE = (".js", ".cjs", ".mjs", ".ts", ".mts", ".cts", ".py", ".rb", ".go", ".sh")
MAX_BYTES = 64 * 2**20


def parse(text: str, shown: str) -> Json:
    """The data of a YAML or JSON text, which may be a list; raises Left."""
    try:
        if shown.endswith(".json"):
            return json.loads(text)
        first = re.sub(r"^\s*(#.*|---.*)?$\n?", "", text, flags=re.MULTILINE)
        if re.match(r"[\w'\"$].*?:(\s|$)", first):
            return parse_yaml(text, shown).data
        indented = "".join(f"  {line}" for line in text.splitlines(keepends=True) if not line.startswith("---"))
        return parse_yaml("data:\n" + indented, shown).data["data"]
    except (FileError, ValueError, RecursionError) as error:
        raise Left(f"{shown} can't be read: {str(error).splitlines()[0]}") from error


Generate = Callable[[Path, str, Json], Json]
"""Calls a function of a Python file with its settings, for the tests that it makes."""


def find(base: Path, name: str, root: Path | None = None, allowed: str = "") -> list[Path]:
    """The files of a name or a pattern, from `base` on and inside `root`; raises Left where there is none, or it is
    code, but of the kind that is allowed."""
    name = name.removeprefix("file://")
    plain = re.sub(r"(\.\w+):[\w.]+$", r"\1", name)
    code = tuple(ending for ending in CODE if ending != allowed)
    if plain.endswith(code):
        raise Left(f"{name} is code")
    try:
        folder, pattern = (base / plain).parent, Path(plain).name
        found = sorted(folder.glob(pattern)) if "*" in pattern else [base / plain]
    except (ValueError, NotImplementedError) as error:
        raise Left(f"'{name}' is no path inside the folder") from error
    for path in found:
        if not path.resolve().is_relative_to((root or base).resolve()):
            raise Left(f"{name} leaves the folder of the config")
        if path.suffix in code:
            raise Left(f"{path.name} is code")
    try:
        found = [path for path in found if path.is_file()]
    except OSError:  # a name that is too long for one
        found = []
    if not found:
        raise Left(f"there is no file '{name}'")
    return found


def read(path: Path) -> str:
    """A text file; raises Left."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Left(f"{path.name} is larger than {MAX_BYTES >> 20} MiB")
        return decode(path.read_bytes(), path.name, DataError)
    except (OSError, FileError) as error:
        raise Left(f"{path.name} can't be read: {error}") from error


def load(path: Path) -> Json:
    return parse(read(path), path.name)


def value_of(value: Json, base: Path, root: Path) -> Json:
    """A variable's value; `file://…` is the file's content."""
    if isinstance(value, str) and value.startswith("file://"):
        (path, *more) = find(base, value, root)
        if more:
            raise Left(f"{value}: a pattern as the value of a variable")
        if path.suffix in (".yaml", ".yml", ".json"):
            return load(path)
        if path.suffix in (".txt", ".md", ""):
            return read(path)
        raise Left(f"{value}: a file of this kind as a value")
    return value


def python_of(base: Path, name: str, default: str) -> tuple[Path, str]:
    """The Python file of `file://x.py:function`, and the function; raises Left."""
    place, colon, function = name.removeprefix("file://").partition(".py:")
    (path, *more) = find(base, f"{place}.py" if colon else place, allowed=".py")
    if more or path.suffix != ".py":
        raise Left(f"{name} is no Python file")
    return path, function if colon else default


def tests_of(source: Json, base: Path, generate: Generate | None = None) -> Iterator[dict[str, Json]]:
    """The tests that a config names: written there, in files, in tables, or made by `generate`."""
    if isinstance(source, str) and re.search(r"\.py(:\w+)?$", source):
        yield from _generated(source, None, base, generate)
    elif isinstance(source, str):
        for path in find(base, source):
            yield from _tests_in(path)
    elif isinstance(source, list):
        for entry in source:
            yield from tests_of(entry, base, generate)
    elif isinstance(source, dict):
        if "path" in source and re.search(r"\.py(:\w+)?$", str(source["path"])):
            yield from _generated(str(source["path"]), source.get("config"), base, generate)
            return
        if "path" in source:
            find(base, str(source["path"]))
            raise Left(f"{source['path']}: tests with settings of their own")
        yield {**source, "_base": base}
    elif source is not None:
        raise Left("tests that are neither a list nor a file")


def _generated(name: str, settings: Json, base: Path, generate: Generate | None) -> Iterator[dict[str, Json]]:
    path, function = python_of(base, name, "generate_tests")
    if generate is None:
        raise Left(f"{name.removeprefix('file://')} is code; --run-python runs it once, in a sandbox")
    for test in generate(path, function, settings):
        if not isinstance(test, dict):
            raise Left(f"{name}: a test that is no mapping")
        yield {**test, "_base": base}


def _tests_in(path: Path) -> Iterator[dict[str, Json]]:
    if path.suffix == ".csv":
        yield from ({**_from_table(row), "_base": path.parent} for row in _table(path))
    elif path.suffix == ".jsonl":
        for line in read(path).split("\n"):
            if line.strip():
                yield {**parse(line, f"{path.name}.json"), "_base": path.parent}
    elif path.suffix in (".yaml", ".yml", ".json"):
        yield from tests_of(load(path), path.parent)
    else:
        raise Left(f"{path.name}: tests in a file of this kind")


def _table(path: Path) -> Iterator[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read(path), newline=""), strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise Left(f"{path.name}: line {reader.line_num} has not as many fields as the header")
            yield row
    except csv.Error as error:
        raise Left(f"{path.name} is not CSV: {error}") from error


def _from_table(row: dict[str, str]) -> dict[str, Json]:
    """A row as a test; columns that begin with `__` are not variables."""
    test: dict[str, Any] = {"vars": {}, "assert": []}
    for name, cell in row.items():
        name = name.strip()  # noqa: PLW2901
        if not name.startswith("__"):
            test["vars"][name] = cell
        elif re.fullmatch(r"__expected\d*", name):
            test["assert"] += [_short(cell)] if cell.strip() else []
        elif name == "__description" or name.startswith("__metadata:"):
            test.setdefault("metadata", {})[name.removeprefix("__").removeprefix("metadata:")] = cell
        elif cell.strip():
            raise Left(f"the column {name}")
    return test


def _short(cell: str) -> dict[str, Json]:
    """An assertion in a cell: `contains: x`, `similar(0.8): x`, or a text to be equal to."""
    found = re.match(r"\s*(not-)?([a-z][a-z-]*)(?:\(([\d.]+)\))?\s*(?::\s*(.*))?\Z", cell, re.DOTALL)
    names = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript", "file": "javascript"}
    if found is None or (found[4] is None and found[2] not in ("is-json", "contains-json")):
        return {"type": "equals", "value": cell}
    kind = names.get(found[2], found[2])
    known = kind in SHORT
    if not known and found[4] is not None and found[3] is None and " " not in found[2]:
        return {"type": "equals", "value": cell}
    value: Json = found[4]
    if kind.endswith(("-any", "-all")) and value is not None:
        value = [item.strip() for item in value.split(",")]
    test: dict[str, Json] = {"type": (found[1] or "") + kind}
    if value is not None:
        test["value"] = value.strip() if isinstance(value, str) else value
    return test | ({"threshold": float(found[3])} if found[3] else {})


SHORT = frozenset(
    ("equals", "contains", "icontains", "contains-any", "contains-all", "icontains-any", "icontains-all", "regex",
     "is-json", "contains-json", "starts-with", "similar", "llm-rubric", "javascript", "python", "latency", "cost",
     "factuality", "model-graded-closedqa", "levenshtein", "rouge-n", "webhook", "answer-relevance")
)  # fmt: skip
