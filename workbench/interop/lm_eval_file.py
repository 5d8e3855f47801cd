"""Files of a task of lm-evaluation-harness: its YAML with what it includes, and the documents of its splits.

https://github.com/EleutherAI/lm-evaluation-harness, `lm_eval/tasks/_yaml_loader.py` and `api/task.py`. Nothing is
fetched and no Python is run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.define.data import first_rows
from workbench.define.project import Project
from workbench.define.yamlfile import read_yaml
from workbench.errors import FileError
from workbench.interop.report import Left
from workbench.records import Json

LOCAL = ("json", "csv", "parquet")
"""`dataset_path` of files; all else is a data set of the hub."""
_PYTHON = re.compile(r"^\s*(?:-\s*)?([\w-]+)\s*:\s*!function\s+(\S+)", re.MULTILINE)
_WHOLE, _DECIMAL = re.compile(r"[-+]?\d+"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Task:
    """What a task's YAML says, with what it includes."""

    config: Mapping[str, Json]
    """Without what is null."""
    path: Path
    places: Mapping[str, str]
    """Key → file and line."""

    def get(self, key: str, default: Json = None) -> Json:
        return self.config.get(key, default)

    def place(self, key: str) -> str:
        return self.places.get(key, self.path.name)


@dataclass(frozen=True, slots=True)
class Doc:
    """A document of a split."""

    values: Mapping[str, Json]
    place: str
    """File and row."""


def read_task(path: Path) -> Task:
    """Raises Left for what is no task, names Python, or includes a file of another folder."""
    config, places = _merged(path, path.resolve().parent, ())
    return Task({key: value for key, value in config.items() if value is not None}, path, places)


def _merged(path: Path, folder: Path, within: tuple[Path, ...]) -> tuple[dict[str, Json], dict[str, str]]:
    """Included files first, local keys win."""
    here = path.resolve()
    if here in within:
        raise Left("it includes itself", path.name)
    if not here.is_relative_to(folder):
        raise Left("it leaves the folder of the task", path.name)
    try:
        text = here.read_text("utf-8-sig")
        if found := _PYTHON.search(text):
            line = text.count("\n", 0, found.start(1)) + 1
            raise Left(
                f"{found[1]}: !function {found[2]} is Python, which an import does not run", f"{path.name}:{line}"
            )
        located = read_yaml(here, path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise Left(f"it can't be read: {getattr(error, 'strerror', None) or error}", path.name) from error
    except FileError as error:
        raise Left(error.message, path.name + (f":{error.line}" if error.line else "")) from error
    config: dict[str, Json] = {}
    places: dict[str, str] = {}
    given = located.data.get("include") or []
    for name in given if isinstance(given, list) else [given]:
        inner, lines = _merged(folder / str(name), folder, (*within, here))
        config |= {key: value for key, value in inner.items() if key != "task_list"}
        places |= lines
    own = {key: value for key, value in located.data.items() if key != "include"}
    return config | own, places | {key: f"{path.name}:{located.line((key,))}" for key in own}


def read_split(task: Task, split: str, given: Mapping[str, Path]) -> list[Doc]:
    """The documents of a split, from the files that are given for it, else those that the task names; raises Left."""
    if split in given:
        return _documents([given[split]])
    if task.get("dataset_path") not in LOCAL:
        name = " ".join(str(task.get(key)) for key in ("dataset_path", "dataset_name") if task.get(key))
        hint = f"download it and give its file with --data {split}=FILE"
        raise Left(f"the split '{split}' of the data set {name} lies elsewhere; {hint}", task.place("dataset_path"))
    place, settings = task.place("dataset_kwargs"), task.get("dataset_kwargs") or {}
    if odd := settings.keys() - {"data_files", "trust_remote_code"}:
        raise Left(f"'{min(odd)}' of dataset_kwargs", place)
    named = settings.get("data_files")
    found = (named if isinstance(named, dict) else {"train": named}).get(split)
    if found is None:
        raise Left(f"data_files names no file for the split '{split}'; give it with --data {split}=FILE", place)
    folder = task.path.resolve().parent
    names: list[Json] = found if isinstance(found, list) else [found]
    paths = [folder / str(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if "://" in str(name) or not path.resolve().is_relative_to(folder) or not path.is_file():
            hint = f"give it with --data {split}=FILE"
            raise Left(f"there is no file '{name}' in the folder of the task; {hint}", place)
    return _documents(paths)


def _documents(paths: Sequence[Path]) -> list[Doc]:
    """The rows of all files; a field that a row lacks is null, as in a data set with one schema."""
    found: list[tuple[Mapping[str, Json], str]] = []
    for path in paths:
        try:
            rows = first_rows(path.name, Project(path.resolve().parent, ""), sys.maxsize)
        except FileError as error:
            raise Left(error.message, path.name + (f":{error.line}" if error.line else "")) from error
        rows = _typed(rows) if path.suffix.lower() in (".csv", ".tsv") else rows
        found += [(row, f"{path.name} row {number}") for number, row in enumerate(rows, 1)]
    if not found:
        raise Left("it holds no documents", paths[0].name)
    names = dict.fromkeys(name for row, _ in found for name in row)
    return [Doc({name: row.get(name) for name in names}, place) for row, place in found]


def _typed(rows: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """A table's cells as pandas reads them: a column of nothing but numbers is numbers, an empty cell is null."""
    kinds = {}
    for name in rows[0] if rows else ():
        cells = [str(row[name]) for row in rows if row[name] != ""]
        whole = len(cells) == len(rows) and all(map(_WHOLE.fullmatch, cells))
        number = bool(cells) and all(map(_DECIMAL.fullmatch, cells))
        kinds[name] = int if whole else float if number else str
    return [{n: None if cell == "" else kinds[n](cell) for n, cell in row.items()} for row in rows]
