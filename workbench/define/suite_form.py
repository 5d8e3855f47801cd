"""A suite's file as a form: what its plain fields hold as text, and the file again with what was changed in them.

The file's data stays the truth. Only a field whose content differs from before is written, so that all that a form
has no field for, and all that nobody touched, stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.define.files import own_file, replace_text
from workbench.define.project import Project
from workbench.define.suite import ENDINGS, find_suite
from workbench.define.suite_file import SuiteFile
from workbench.define.yamlfile import (
    Located,
    decode,
    parse_keys,
    parse_value,
    parse_values,
    parse_yaml,
    validate,
    write_yaml,
)
from workbench.errors import SuiteError, UnknownName, UseError
from workbench.records import Json

SUITE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
RANGE = re.compile(r"(-?[0-9.]+) *\.\.\.? *(-?[0-9.]+)(?: +step +([0-9.]+))?")
MOST_STEPS = 100
LARGEST = 2**53 - 1
"""The largest whole number that a browser tells from its neighbours."""
NEW = """\
# A suite: which prompts, models and parameters are compared on which cases, and how they are scored.
stage: prompt
prompts: []
models: []
cases: []
scorers: []
"""
OUTSIDE_SCORERS = ("cost", "latency", "errors")
"""What a gate can be about beside a scorer."""


@dataclass(frozen=True, slots=True)
class ScorerFields:
    """One scorer, its settings as YAML texts."""

    scorer: str
    name: str = ""
    """Its name in the suite; empty: the scorer's own."""
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GateFields:
    """One gate: what it is about, its rule with the bound as YAML text, and further keys as YAML."""

    about: str
    rule: str
    bound: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class SuiteForm:
    """What the form shows of a suite's file; empty text and None: not given."""

    stage: str = "prompt"
    prompts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    vars: tuple[tuple[str, str], ...] = ()
    repeats: int | None = None
    file: str = ""
    """The file with the cases."""
    expected: str = ""
    id: str = ""
    cluster: str = ""
    limit: int | None = None
    inputs: tuple[tuple[str, str], ...] = ()
    """(input, field of the file)."""
    scorers: tuple[ScorerFields, ...] = ()
    gates: tuple[GateFields, ...] = ()
    cost: float | None = None
    """US dollars."""
    time: str = ""


def read_form(data: Mapping[str, Json]) -> SuiteForm:
    """The form of a suite's data, which `validate` has accepted or will complain of."""
    cases = data.get("cases")
    source: Mapping[str, Json] = {"file": cases} if isinstance(cases, str) else _mapping(cases)
    budget = _mapping(data.get("budget"))
    return SuiteForm(
        stage=str(data.get("stage", "prompt")),
        prompts=tuple(_plain(item) for item in _list(data.get("prompts"))),
        models=tuple(_plain(item) for item in _list(data.get("models"))),
        params=tuple((name, axis_text(name, value)) for name, value in _mapping(data.get("params")).items()),
        vars=tuple((name, axis_text(name, value)) for name, value in _mapping(data.get("vars")).items()),
        repeats=_whole(data.get("repeats")),
        file=str(source.get("file") or ""),
        expected=str(source.get("expected") or ""),
        id=str(source.get("id") or ""),
        cluster=str(source.get("cluster") or ""),
        limit=_whole(source.get("limit")),
        inputs=tuple((name, str(value)) for name, value in _mapping(source.get("inputs")).items()),
        scorers=tuple(_scorer_fields(entry) for entry in _list(data.get("scorers"))),
        gates=tuple(_gate_fields(entry) for entry in _list(data.get("gates")) if isinstance(entry, dict)),
        cost=_held(budget.get("cost"), 0),
        time=_text(budget["time"]) if budget.get("time") is not None else "",
    )


def with_form(data: Mapping[str, Json], old: SuiteForm, new: SuiteForm) -> dict[str, Json]:
    """The data with what `new` has otherwise than `old`. Raises SuiteError for a text that is no value."""
    changed = dict(data)
    for field in fields(SuiteForm):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            _WRITERS[field.name](changed, after)
    return changed


def suite_text(data: Mapping[str, Json], above: str = "") -> str:
    """The file's text; comment lines at the top of `above`, the text before, stay."""
    head = []
    for line in above.split("\n"):
        if not line.startswith("#"):
            break
        head.append(line)
    return "".join(f"{line}\n" for line in head) + write_yaml(dict(data))


def check_suite(text: str, shown: str) -> Located:
    """The text as a suite's data with its lines; raises SuiteError for the first thing that is wrong."""
    located = parse_yaml(text, shown)
    validate(SuiteFile, located)
    return located


def suite_file(project: Project, name: str) -> str:
    """The file of a suite from the project's folder on, there or not; raises UseError for a bad name."""
    if not SUITE_NAME.fullmatch(name) or name.endswith(ENDINGS):
        raise UseError(f"'{name}' is no name for a suite; use letters, digits, '.', '_', '-', and '/' for folders")
    try:
        return project.shown(find_suite(name, project))
    except UnknownName:
        return str(PurePosixPath("evals", f"{name}.yaml"))


def save_suite(project: Project, name: str, text: str, was: str | None) -> str:
    """Writes a suite's file; `was` is the text that it had when it was opened, None for a new suite. Returns the
    file as messages show it.

    Raises SuiteError for a text that is no suite, UseError for a bad name, a link, or a file that is another by now.
    """
    shown = suite_file(project, name)
    check_suite(text, shown)
    path = own_file(project, shown)
    if was is None and path.exists():
        raise UseError(f"there is a suite '{name}' already; choose another name")
    if was is not None and (not path.is_file() or read_text(path, shown) != was):
        raise UseError(f"{shown} was changed by someone else meanwhile; open it anew, or save under another name")
    replace_text(path, text)
    return shown


def read_text(path: Path, shown: str) -> str:
    """A suite's text with the newlines that it has; raises SuiteError."""
    try:
        return decode(path.read_bytes(), shown, SuiteError)
    except OSError as error:
        raise SuiteError(f"can't be read: {error.strerror}", shown) from error


def axis_text(name: str, value: Json) -> str:
    """A parameter's values as one types them: `0, 0.7`; a list that is one value in brackets: `[a, b]`."""
    one_value = not isinstance(value, list) or (name == "stop" and all(isinstance(v, str) for v in value))
    text = _text(value) if one_value else ", ".join(_text(item) for item in value)
    return f"'{text}'" if RANGE.fullmatch(text) else text


def axis_values(text: str, about: str) -> Json:
    """What `axis_text` stands for, and ranges: `0..1 step 0.25`. Raises SuiteError."""
    if found := RANGE.fullmatch(text.strip()):
        return _range(found[1], found[2], found[3], about)
    values = parse_values(text, about)
    if not values:
        raise SuiteError(f"{about} has no value; give one, or several with commas, such as 0, 0.7")
    return values[0] if len(values) == 1 else values


def _range(first: str, last: str, step: str | None, about: str) -> list[int | float]:
    try:
        low, high, by = Decimal(first), Decimal(last), Decimal(step or "1")
    except InvalidOperation:
        raise SuiteError(f"{about}: '{first}..{last}' is no range; write it as 0..1 step 0.25") from None
    count = int((high - low) / by) + 1 if by > 0 else 0
    if not 1 <= count <= MOST_STEPS:
        raise SuiteError(f"{about}: {first}..{last} has {max(count, 0)} values; a range has 1 to {MOST_STEPS}, upwards")
    values = [low + i * by for i in range(count)]
    return [int(v) if v == v.to_integral_value() else float(v) for v in values]


def _text(value: Json) -> str:
    return write_yaml(value, flow=True)


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else _text(value)


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _whole(value: Json) -> int | None:
    found = _held(value, 1)
    return int(found) if found is not None and isinstance(value, int) else None


def _held(value: Json, least: float) -> float | None:
    """A number that a field can hold; of any other the file's own text stays, and is complained of."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= LARGEST
    return float(value) if fits else None


def _scorer_fields(entry: Json) -> ScorerFields:
    if not isinstance(entry, dict):
        return ScorerFields(str(entry))
    name = next((key for key in entry if key != "as"), "")
    value = entry.get(name)
    settings = value if isinstance(value, dict) else {} if value is None else {"value": value}
    return ScorerFields(name, str(entry.get("as", "")), tuple((key, _text(v)) for key, v in settings.items()))


def _scorer_entry(given: ScorerFields) -> Json:
    about = f"scorer '{given.scorer}',"
    settings = {key: parse_value(text, f"{about} {key}") for key, text in given.settings if text.strip()}
    if not settings and not given.name:
        return given.scorer
    entry: dict[str, Json] = {given.scorer: settings["value"] if [*settings] == ["value"] else settings or None}
    return {**entry, "as": given.name} if given.name else entry


def _gate_fields(entry: dict[str, Json]) -> GateFields:
    about = next((key for key in OUTSIDE_SCORERS if isinstance(entry.get(key), dict)), None)
    rules = entry[about] if about else {k: v for k, v in entry.items() if k in ("at_least", "at_most", "no_worse_than")}
    rule, bound = next(iter(rules.items()), ("", ""))
    used = {about} if about else {"scorer", rule}
    rest = {key: value for key, value in entry.items() if key not in used}
    more = ", ".join(f"{key}: {_text(value)}" for key, value in rest.items())
    return GateFields(about or str(entry.get("scorer", "")), rule, _text(bound), more)


def _gate_entry(given: GateFields) -> Json:
    what = f"the gate about '{given.about}'"
    more = parse_keys(given.more, what, "margin: 0.02")
    if not given.about or not given.rule or not given.bound.strip():
        raise SuiteError(f"{what} is not complete: it needs what it is about, a rule and a bound")
    bound = parse_value(given.bound, what)
    if given.about in OUTSIDE_SCORERS:
        return {given.about: {given.rule: bound}, **more}
    return {"scorer": given.about, given.rule: bound, **more}


def _put(data: dict[str, Json], key: str, value: Json) -> None:
    """Sets a key, or takes it out where there is nothing to say."""
    if value in (None, "", [], {}):
        data.pop(key, None)
    else:
        data[key] = value


def _put_models(data: dict[str, Json], models: tuple[str, ...]) -> None:
    _put(data, "models", [parse_value(text, "models") if text.startswith("{") else text for text in models])


def _put_axes(key: str) -> Callable[[dict[str, Json], Any], None]:
    def put(data: dict[str, Json], rows: tuple[tuple[str, str], ...]) -> None:
        _put(data, key, {name: axis_values(text, f"{key}.{name}") for name, text in rows})

    return put


def _put_case(key: str) -> Callable[[dict[str, Json], Any], None]:
    def put(data: dict[str, Json], value: Any) -> None:
        cases = data.get("cases")
        source = {"file": cases} if isinstance(cases, str) else dict(_mapping(cases))
        if isinstance(cases, list) and key != "file":
            source = {"rows": cases}
        if key == "file":
            source.pop("rows", None)
        _put(source, key, dict(value) if key == "inputs" else value)
        data["cases"] = source["file"] if [*source] == ["file"] else source or []

    return put


def _put_budget(key: str) -> Callable[[dict[str, Json], Any], None]:
    def put(data: dict[str, Json], value: Any) -> None:
        budget = dict(_mapping(data.get("budget")))
        _put(budget, key, parse_value(value, "budget.time") if key == "time" and value else value)
        _put(data, "budget", budget)

    return put


_WRITERS: dict[str, Callable[[dict[str, Json], Any], None]] = {
    "stage": lambda data, value: _put(data, "stage", value),
    "prompts": lambda data, value: data.update(prompts=list(value)),
    "models": _put_models,
    "params": _put_axes("params"),
    "vars": _put_axes("vars"),
    "repeats": lambda data, value: _put(data, "repeats", value),
    **{name: _put_case(name) for name in ("file", "expected", "id", "cluster", "limit", "inputs")},
    "scorers": lambda data, value: data.update(scorers=[_scorer_entry(given) for given in value]),
    "gates": lambda data, value: _put(data, "gates", [_gate_entry(given) for given in value]),
    "cost": _put_budget("cost"),
    "time": _put_budget("time"),
}


def renamed(given: ScorerFields, shorthand: str | None) -> ScorerFields:
    """With the bare value of `{scorer: value}` under the name of the setting that it stands for."""
    if shorthand is None:
        return given
    return replace(given, settings=tuple((shorthand if key == "value" else key, text) for key, text in given.settings))
