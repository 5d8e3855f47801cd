"""Answers that exist already: `models: [{recorded: data/answers.jsonl, field: text}]` in a suite. No model is asked.

Each row is an answer to the case of its id. Several rows with one id are that case's repeats, in the file's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from workbench.define.data import read_rows, row_id
from workbench.define.project import Project
from workbench.define.prompt import parse_prompt
from workbench.define.suite_file import RecordedUse
from workbench.errors import DataError, SuiteError
from workbench.records import Json, Model, Suite, canonical

ENGINE = "recorded"
PROMPT = parse_prompt("user:\n(asked elsewhere)", ENGINE)
"""Of a suite that names none, since nobody knows what was asked."""
Answers = Mapping[str, Mapping[str, tuple[str | None, ...]]]
"""Alias → case → its answers; None where a row has none."""


def recorded_model(entry: RecordedUse, project: Project) -> Model:
    """The model that stands for a file of answers. Raises SuiteError where it is missing or outside the project."""
    path = project.path(entry.recorded)
    told = {"file": project.shown(path), "field": entry.field, **({"id": entry.id} if entry.id else {})}
    settings = {**told, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return Model(entry.alias, ENGINE, settings, price={"input": 0.0, "output": 0.0})


def read_recorded(suite: Suite, root: Path) -> Answers:
    """The answers of the suite's recorded models. Raises DataError for a file that can't be read, a row without the
    field or the id, and a case with more answers than repeats; SuiteError where no case has an answer."""
    found = {}
    for alias, model in suite.models.items():
        if model.engine == ENGINE:
            found[alias] = _read(root / str(model.settings["file"]), model)
            _check(suite, found[alias], str(model.settings["file"]))
    return found


def _read(path: Path, model: Model) -> dict[str, tuple[str | None, ...]]:
    answers: dict[str, tuple[str | None, ...]] = {}
    for row in read_rows(path, str(model.settings["file"])):
        own = model.settings.get("id")
        name = row_id(row, None if own is None else str(own))
        answers[name] = (*answers.get(name, ()), _text(row.get(str(model.settings["field"]))))
    return answers


def _text(value: Json) -> str | None:
    """What is no text is its JSON; null is no answer."""
    return value if value is None or isinstance(value, str) else canonical(value)


def _check(suite: Suite, answers: Mapping[str, tuple[str | None, ...]], file: str) -> None:
    cases = [case.id for case in suite.cases]
    for name in cases:
        if len(answers.get(name, ())) > suite.repeats:
            what = f"has {len(answers[name])} answers to case '{name}', more than the suite's repeats ({suite.repeats})"
            raise DataError(f"{what}; write repeats: {len(answers[name])}, or keep one row a case", file)
    if not any(name in answers for name in cases):
        first = next(iter(answers), None)
        ids = f"its first id is '{first}', the suite's '{cases[0]}'" if first is not None else "it has no row"
        raise SuiteError(f"models: {file} has no answer to any case: {ids}; name its field of ids with 'id'")
