"""Cases that a model was trained on, as the file tells that `workbench export training` writes beside its examples.

A case is known again by the values of the inputs that the prompt used, not by its id or its place, so that other
columns, another order or another file change nothing; one that continues a chat by all that it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from workbench.define.project import Project
from workbench.define.yamlfile import Located, Strict, validate
from workbench.errors import SuiteError
from workbench.records import Case, Json, Model, content_id

ENDING = ".cases.json"
"""Of such a file; its stem is that of the examples."""
NO_FILE = f"is no {ENDING} file that 'workbench export training' writes beside its examples"


class TrainingFile(Strict):
    """What `workbench export training` writes beside the examples."""

    training: int
    """The form of this file: 1."""
    examples: str
    """The file of examples, beside this one."""
    sha256: str
    """Of that file."""
    made_from: dict[str, Any] = Field(default_factory=dict)
    """The run, its variants, and what made an answer a good one."""
    inputs: list[str]
    """The inputs by which cases are known again: those that the prompts used."""
    trained: dict[str, str]
    """Cases that examples were made of: id → key."""
    passed_over: dict[str, str] = Field(default_factory=dict)
    """Cases on the side of training that gave no example. They are not held out: they are the hard ones."""
    held_out: int
    """How many cases of the run were kept for evaluation."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Which cases were trained on."""

    shown: str
    """The file, as messages name it."""
    inputs: tuple[str, ...]
    trained: frozenset[str]
    passed_over: frozenset[str]

    def key(self, case: Case) -> str:
        return case.key if case.messages else case_key(case.inputs, self.inputs) or case.key


def case_key(inputs: Mapping[str, Json], names: Sequence[str]) -> str | None:
    """What names a case by some of its inputs; None where it lacks one, or where there are none to name it by."""
    if not names or any(name not in inputs for name in names):
        return None
    return content_id("tc1", [inputs[name] for name in sorted(names)])


def read_trained(file: str, project: Project) -> Trained:
    """Raises SuiteError for a file that is missing, outside the project, or no such file."""
    path = project.path(file)
    shown = project.shown(path)
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SuiteError(f"{NO_FILE}: {error}", shown) from error
    if not isinstance(data, dict) or data.get("training") != 1:
        raise SuiteError(NO_FILE, shown)
    found = validate(TrainingFile, Located(data, {}, "", shown))
    keys = frozenset(found.trained.values()), frozenset(found.passed_over.values())
    return Trained(shown, tuple(sorted(found.inputs)), *keys)


def held_out(cases: Iterable[Case], files: Iterable[str], project: Project) -> list[Case]:
    """The cases that stand on the side of training in none of the files. Raises SuiteError where none is left."""
    known = [read_trained(file, project) for file in files]
    cases = list(cases)
    kept = [case for case in cases if not any(t.key(case) in t.trained | t.passed_over for t in known)]
    if not kept:
        told = ", ".join(t.shown for t in known)
        raise SuiteError(f"all {len(cases)} cases were for training ({told}); none is held out")
    return kept


def refuse_trained(models: Mapping[str, Model], cases: Sequence[Case], project: Project, suite: Located) -> None:
    """Raises SuiteError where a model was trained on some of the cases: its score on them says nothing of others."""
    for alias, file in ((alias, file) for alias, model in models.items() for file in model.trained_on):
        with suite.at("models"):
            known = read_trained(file, project)
        if count := sum(known.key(case) in known.trained for case in cases):
            raise SuiteError(
                f"model '{alias}' was trained on {count} of the {len(cases)} cases ({known.shown}), and its scores on "
                f"them say nothing of others; keep the rest with cases: {{held_out: {known.shown}}}",
                suite.path,
                suite.line(("cases",)),
            )
