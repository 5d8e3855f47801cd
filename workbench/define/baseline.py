"""Baselines: what a suite scored when it was blessed, as a small file in git that later runs are held against.

`evals/baselines/SUITE.json`, format `workbench-baseline/1`: {format, suite, run, message, asked, measured,
picked_of, variants: [{id, label, prompt, revision, model, identity, params, vars, answer}], scorers: {NAME: kind},
cases: {ID: {key, cluster?, scores: {SCORER: {key, of: [[sum, n] or null, one for each variant]}}}}}. One case a
line, keys sorted, so that a change reads well in a diff. Keys of cases and scores are cut to 16 characters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workbench.define.files import replace_text
from workbench.define.gates import Gate
from workbench.define.project import Project
from workbench.errors import SuiteError, UnknownName, UseError
from workbench.records import Json, canonical

FORMAT = "workbench-baseline/1"
MAX_BYTES = 64 << 20
_NAME = re.compile(r"[\w][\w. -]*(/[\w][\w. -]*)*")


@dataclass(frozen=True, slots=True)
class BaselineVariant:
    """One variant of the blessed run."""

    id: str
    label: str
    prompt: str
    revision: str
    model: str
    """The alias."""
    identity: str
    """What the alias stood for."""
    params: Mapping[str, Json]
    vars: Mapping[str, Json]
    answer: Mapping[str, Json]

    @property
    def place(self) -> str:
        """What its counterpart in another run has in common with it: all but the revision."""
        return place(self.prompt, self.model, {"params": self.params, "vars": self.vars, "answer": self.answer})


@dataclass(frozen=True, slots=True)
class CaseScores:
    """What one scorer gave one case."""

    key: str
    of: tuple[tuple[float, int] | None, ...]
    """For each variant the sum of its scores and their number; None where it has none."""


@dataclass(frozen=True, slots=True)
class BaselineCase:
    key: str
    """The beginning of the case's content id."""
    scores: Mapping[str, CaseScores]
    """By scorer."""
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A blessed run."""

    suite: str
    run: str
    """The run that was blessed."""
    message: str
    asked: tuple[str, ...]
    """The runs that asked for its answers: itself, and those whose answers it reused."""
    measured: int
    """How many variants the blessed run had measured."""
    picked_of: int | None
    """Of how many the variant was chosen by an earlier run; it was measured again for this one. None: no choice."""
    variants: tuple[BaselineVariant, ...]
    scorers: Mapping[str, str]
    """Name → kind."""
    cases: Mapping[str, BaselineCase]


def place(prompt: str, model: str, settings: Mapping[str, Json]) -> str:
    """Prompt name, model alias and parameters as one text: what counterparts of two runs share."""
    kept = {name: dict(settings.get(name) or {}) for name in ("params", "vars", "answer")}
    return canonical([prompt, model, kept])


def short_key(key: str) -> str:
    """The first 16 characters of a content id's hash."""
    return key.partition("-")[2][:16]


def baseline_path(evals: Path, suite: str) -> Path:
    """`evals/baselines/SUITE.json`. Raises UseError for a name that leads elsewhere."""
    if not _NAME.fullmatch(suite):
        raise UseError(f"suite '{suite}' can't name a baseline's file: only letters, digits, spaces, . _ - and / do")
    return evals / "baselines" / f"{suite}.json"


def find_baseline(project: Project, suite: str, given: Path | None = None) -> Baseline | None:
    """The baseline of a suite, or of the file given; None where the suite has none. Raises what `read_baseline`
    raises."""
    path = given or baseline_path(project.evals_root, suite)
    if given is None and not path.is_file():
        return None
    return read_baseline(path, str(given) if given else project.shown(path))


def baseline_for(project: Project, suite: str, gates: Sequence[Gate], given: Path | None = None) -> Baseline | None:
    """The baseline that gates are held against; None where none asks for one, or there is none."""
    if given is None and all(gate.against != "baseline" for gate in gates):
        return None
    return find_baseline(project, suite, given)


def read_baseline(path: Path, shown: str) -> Baseline:
    """Raises SuiteError where the file can't be read or is no baseline."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        data = json.loads(raw.decode(), parse_constant=_no_constant) if len(raw) <= MAX_BYTES else None
    except OSError as error:
        raise SuiteError(f"can't be read: {error.strerror}", shown) from error
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise SuiteError("is not JSON; restore it from git, or bless a run again", shown, line) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise SuiteError(f"is no baseline of this version ('format' must be {FORMAT}); bless a run again", shown)
    try:
        found = TypeAdapter(Baseline).validate_python({k: v for k, v in data.items() if k != "format"})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(map(str, detail["loc"]))
        raise SuiteError(f"{where}: {detail['msg']}; restore it from git, or bless a run again", shown) from None
    for name, case in found.cases.items():
        if problem := _problem(found, case):
            raise SuiteError(f"case '{name}' {problem}; restore it from git, or bless a run again", shown)
    return found


def write_baseline(baseline: Baseline, path: Path, root: Path) -> None:
    """Whole or not at all, one case a line. Raises UseError where the place leads out of the project by a link,
    or can't be written."""
    if path.is_symlink() or not path.parent.resolve().is_relative_to(root.resolve()):
        raise UseError(f"{path} leads out of the project by a link; remove the link")
    replace_text(path, baseline_text(baseline))


def baseline_text(baseline: Baseline) -> str:
    """The file: a line for each fact, each variant and each case."""
    facts = {f.name: getattr(baseline, f.name) for f in fields(baseline) if f.name not in ("variants", "cases")}
    lines = [f" {_json(name)}: {_json(value)}" for name, value in ({"format": FORMAT} | facts).items()]
    variants = ",\n".join(f"  {_json(_plain(v))}" for v in baseline.variants)
    lines.append(f' "variants": [\n{variants}\n ]')
    cases = ",\n".join(f"  {_json(name)}: {_json(_plain(baseline.cases[name]))}" for name in sorted(baseline.cases))
    lines.append(f' "cases": {{\n{cases}\n }}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def find_blessed(baseline: Baseline, name: str) -> BaselineVariant:
    """The variant of that label or beginning of an id. Raises UnknownName."""
    found = [v for v in baseline.variants if v.label == name or v.id.startswith(name)]
    if len(found) != 1:
        raise UnknownName("variant", name, [v.label for v in baseline.variants])
    return found[0]


def _problem(baseline: Baseline, case: BaselineCase) -> str:
    """What can't be in a case's scores; empty where they can be."""
    for name, scores in case.scores.items():
        if name not in baseline.scorers:
            return f"has scores of '{name}', which is not among the scorers"
        if len(scores.of) != len(baseline.variants):
            return f"has not one entry for each variant by '{name}'"
        for total, count in (of for of in scores.of if of is not None):
            bounded = baseline.scorers[name] != "number"
            if count < 1 or not math.isfinite(total) or (bounded and not 0 <= total <= count):
                return f"has scores by '{name}' that can't be: {total:g} of {count}"
    return ""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _plain(record: Any) -> dict[str, Json]:
    """A record as JSON: whole sums as `3`, which reads better than `3.0`, and is the same."""
    found: dict[str, Json] = {k: v for k, v in asdict(record).items() if v is not None}
    for scores in found.get("scores", {}).values():
        scores["of"] = [of and [int(of[0]) if of[0] == int(of[0]) else of[0], of[1]] for of in scores["of"]]
    return found


def _json(value: Json) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=dict)
