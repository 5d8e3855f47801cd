"""Human judgements that become files in git: labels, and expected answers of cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.define.data import load_cases
from workbench.define.files import own_file, replace_text
from workbench.define.project import Project
from workbench.define.suite_file import CasesFile, SuiteFile
from workbench.define.yamlfile import parse_yaml, validate
from workbench.errors import DataError, UseError
from workbench.records import Json


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a file, before and after."""

    file: str
    """From the project's folder on."""
    line: int
    before: str
    after: str


def merge_labels(project: Project, name: str, rows: Sequence[Mapping[str, Json]]) -> str:
    """Writes rows into `evals/labels/NAME.jsonl`, in place of those of the same rater about the same trials; all
    other rows stay. Returns the file as messages show it. Raises UseError or DataError."""
    shown = f"evals/labels/{name}.jsonl"
    path = own_file(project, shown)
    mine = {_about(row) for row in rows}
    kept = [line for line, row in _lines(path, shown) if _about(row) not in mine]
    replace_text(path, "".join(f"{line}\n" for line in [*kept, *(json.dumps(r, ensure_ascii=False) for r in rows)]))
    return shown


def _about(row: Mapping[str, Json]) -> tuple[Json, ...]:
    trials = sorted(str(row[name]) for name in ("trial", "first_trial", "second_trial") if name in row)
    return row.get("run"), row.get("rater"), *trials


def _lines(path: Path, shown: str) -> list[tuple[str, Mapping[str, Json]]]:
    if not path.exists():
        return []
    found: list[tuple[str, Mapping[str, Json]]] = []
    for number, line in enumerate(_text(path, shown).split("\n"), 1):
        if line.strip():
            found.append((line, _row(line, shown, number)))
    return found


def propose_expected(project: Project, suite: str, case: str, answer: str) -> Change:
    """How the data file of a suite, given as text, would change if `answer` were the expected answer of a case.

    Raises UseError where the cases stand in no JSONL file of the project, or the case is there no more.
    """
    located = parse_yaml(suite, "the suite of the run")
    cases = validate(SuiteFile, located).cases
    source = CasesFile(file=cases) if isinstance(cases, str) else cases
    if isinstance(source, list) or source.file is None:
        raise UseError("the cases stand in the suite itself; write the expected answer there by hand")
    if (source.format or Path(source.file).suffix.lower().lstrip(".")) not in ("jsonl", "ndjson"):
        raise UseError(f"'{source.file}' is no JSONL file; write the expected answer there by hand")
    source = source.model_copy(update={"limit": None})
    found = next((c for c in load_cases(source, project, located) if c.id == case), None)
    if found is None:
        raise UseError(f"'{source.file}' has no case '{case}' any more")
    shown, _, number = found.origin.rpartition(":")
    line = _text(own_file(project, shown), shown).split("\n")[int(number) - 1]
    row = {**_row(line.removeprefix("\ufeff"), shown, int(number)), source.expected or "expected": answer}
    mark = "\ufeff" if line.startswith("\ufeff") else ""
    return Change(shown, int(number), line, mark + json.dumps(row, ensure_ascii=False))


def apply_change(project: Project, change: Change) -> None:
    """Writes the line. Raises UseError where it is another by now."""
    path = own_file(project, change.file)
    lines = _text(path, change.file).split("\n")
    if change.line > len(lines) or lines[change.line - 1] != change.before:
        raise UseError(f"{change.file}:{change.line} was changed by someone else meanwhile; look at it anew")
    end = "\r" if change.before.endswith("\r") else ""
    lines[change.line - 1] = change.after + end
    replace_text(path, "\n".join(lines))


def _text(path: Path, shown: str) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("can't be read as UTF-8 text", shown) from error


def _row(line: str, shown: str, number: int) -> dict[str, Json]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", shown, number) from error
    if not isinstance(row, dict):
        raise DataError("a row must be an object {field: value}", shown, number)
    return row
