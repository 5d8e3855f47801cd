"""What people write, written for them: a prompt with its revision, a case in a data file, a new suite.

They are the same files that one would write by hand. Nothing is written through a link or outside the project, and
nothing is overwritten that was not shown before.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.define.data import load_cases
from workbench.define.files import own_file
from workbench.define.library import REVISION, Change, Library, merged_history
from workbench.define.project import Project
from workbench.define.suite import find_suite, suite_names
from workbench.define.suite_file import CasesFile, SuiteFile
from workbench.define.yamlfile import parse_yaml, read_yaml, validate, write_yaml
from workbench.errors import SuiteError, UnknownName, UseError
from workbench.records import EMPTY, Json, Prompt
from workbench.store.database import Database
from workbench.store.prompts import Recorded, Revision, find_revision, history, record_revision

SUITE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")


def find_prompt(library: Library, database: Callable[[], Database], ref: str) -> Prompt:
    """A prompt of the library, else one that the store recorded; raises UnknownName, UseError or PromptError."""
    try:
        return library.find(ref)
    except UnknownName:
        name, _, version = ref.partition("@")
        if not REVISION.fullmatch(version):
            raise
        with database().read() as connection:
            found = find_revision(connection, name, version)
        if len(found) > 1:
            raise UseError(f"'{ref}' fits {len(found)} recorded revisions; write more of it") from None
        if not found:
            raise
        return recorded_prompt(library, found[0])


def recorded_prompt(library: Library, found: Revision) -> Prompt:
    """A revision of the store as a prompt."""
    return library.parse(found.text, found.name, found.partials)


def prompt_history(library: Library, database: Database, name: str) -> list[Change]:
    """Git's history of a prompt, completed by the store's; on top the file, where neither knows it yet."""
    with database.read() as connection:
        stored = [Change(r.revision, r.parent, r.time, r.author, r.message) for r in history(connection, name)]
    changes = merged_history(library.git_history(name), stored)
    if not changes or library.path_of(name).is_file():
        current = library.get(name).revision
        if current not in [change.revision for change in changes]:
            parent = changes[0].revision if changes else None
            changes = [Change(current, parent, "", "", "on disk, not recorded yet"), *changes]
    return changes


def record(database: Database, prompt: Prompt, message: str) -> Recorded:
    """Records a revision with its message, as of this user."""
    with database.write() as connection:
        return record_revision(connection, prompt, message, _user())


def save_prompt(library: Library, database: Database, name: str, text: str, was: str | None, message: str) -> Prompt:
    """Writes a prompt's file (see `Library.save`) and records its revision."""
    prompt = library.save(name, text, was)
    record(database, prompt, message)
    return prompt


def suites_naming(project: Project, name: str) -> list[str]:
    """The suites whose files hold a prompt's name as a word."""
    word = re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])")
    files = {suite: find_suite(suite, project) for suite in suite_names(project)}
    return [suite for suite, file in files.items() if word.search(file.read_text("utf-8", "replace"))]


def add_case(project: Project, suite: str, inputs: Mapping[str, Json], expected: Json, name: str) -> tuple[str, str]:
    """Appends a case to the data file of a suite; returns the file as messages show it, and the case's id.

    A name that is taken gets a number; where the file's rows have no ids, the case has none of its own and the
    id is empty. Raises SuiteError or DataError, also where the cases are no JSONL file, or hold this case already.
    """
    file = find_suite(suite, project)
    located = read_yaml(file, project.shown(file))
    source = _jsonl_source(validate(SuiteFile, located).cases, located.path)
    path = own_file(project, str(source.file))
    load_cases(source, project, located)  # tells what is wrong with the file, before it grows
    text = path.read_text("utf-8-sig")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    row = _row(source, inputs, expected)
    id_field = source.id or ("id" if any("id" in other for other in rows) else None)
    if row in [{name: value for name, value in other.items() if name != id_field} for other in rows]:
        raise SuiteError(f"{project.shown(path)} holds this case already", located.path)
    case_id = ""
    if id_field:
        case_id = _free(name, {str(other.get(id_field)) for other in rows})
        row = {id_field: case_id, **row}
    gap = "" if not text or text.endswith("\n") else "\n"
    _append(path, f"{gap}{json.dumps(row, ensure_ascii=False)}\n")
    return project.shown(path), case_id


@dataclass(frozen=True, slots=True)
class NewSuite:
    """What a new suite's file says; its cases go into a data file of the same name."""

    prompts: Sequence[str]
    models: Sequence[str]
    rows: Sequence[Mapping[str, Json]]
    params: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    answer: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    scorers: Sequence[Any] = ()


def write_suite(project: Project, name: str, new: NewSuite) -> str:
    """Writes `evals/NAME.yaml` and `data/NAME.jsonl`; returns the suite's file as messages show it.

    Raises UseError for a bad name or a file that is there already, SuiteError for what no suite can be.
    """
    if not SUITE_NAME.fullmatch(name):
        raise UseError(f"'{name}' is no name for a suite; use letters, digits, '.', '_', '-', and '/' for folders")
    data = f"data/{name}.jsonl"
    said: dict[str, Json] = {"name": name, "stage": "prompt", "prompts": list(new.prompts), "models": list(new.models)}
    said |= {"params": dict(new.params)} if new.params else {}
    said |= {"answer": dict(new.answer)} if new.answer else {}
    said |= {"cases": {"file": data}, "scorers": list(new.scorers)}
    text = f"# Made in the playground. Run it: workbench run {name}\n"
    text += write_yaml(said)
    validate(SuiteFile, parse_yaml(text, f"evals/{name}.yaml"))
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new.rows)
    files = {own_file(project, data): rows, own_file(project, f"evals/{name}.yaml"): text}
    if there := [path for path in files if path.exists()]:
        raise UseError(f"{project.shown(there[0])} is there already; choose another name")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, content)
    return f"evals/{name}.yaml"


def _jsonl_source(cases: str | list[dict[str, Json]] | CasesFile, suite: str) -> CasesFile:
    """Where a suite's cases are, whole: without a limit or a condition."""
    source = CasesFile(file=cases) if isinstance(cases, str) else cases
    if isinstance(source, list) or source.file is None:
        raise SuiteError("its cases stand in the suite itself; add the case there by hand", suite)
    kind = source.format or Path(source.file).suffix.lower().lstrip(".").replace("ndjson", "jsonl")
    if kind != "jsonl":
        raise SuiteError(f"'{source.file}' is no JSONL file; add the case there by hand", suite)
    return source.model_copy(update={"limit": None})


def _row(source: CasesFile, inputs: Mapping[str, Json], expected: Json) -> dict[str, Json]:
    """A row that the suite reads as that case: with every field that it asks for."""
    row = {source.inputs.get(name, name): value for name, value in inputs.items()}
    if expected is not None:
        row[source.expected or "expected"] = expected
    for name, allowed in source.where.items():
        row.setdefault(name, allowed[0] if isinstance(allowed, list) else allowed)
    tags = [source.tags] if isinstance(source.tags, str) else source.tags or []
    named = [source.expected, source.cluster, source.messages, *tags, *source.inputs.values()]
    empty: dict[str, Json] = {name: None for name in named if name and name not in row}
    return empty | row


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(tried for number in range(2, len(taken) + 3) if (tried := f"{name}-{number}") not in taken)


def _append(path: Path, text: str) -> None:
    """At the end of a file, made where it is missing; never through a link."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(file, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
    except OSError as error:
        raise UseError(f"{path} can't be written: {error.strerror}") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a user without a name, as in some containers
        return ""
