"""From a scorer as a suite asks for it to one that judges; and the key of its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from workbench.errors import FileError, SuiteError, UnknownName, UseError, suggest
from workbench.records import Json, ScorerSpec, content_id
from workbench.registry import SCORERS
from workbench.scorers.base import Asking, Desk, Scorer
from workbench.scorers.best import Best
from workbench.scorers.combine import Not, Weighted
from workbench.scorers.judge import Judge
from workbench.scorers.parts import BuiltPart, Part, part_spec


def build_scorer(spec: ScorerSpec, project_root: Path, path: str | None, desk: Desk | None = None) -> Scorer:
    """The scorer of a suite; one that asks models finds them at the desk. Raises SuiteError, with the suite's
    `path`, for a name or a setting that is unknown, missing or of a wrong type; FileError where a file of the
    project that it names is wrong."""
    try:
        return _made(spec, project_root, desk)
    except FileError:
        raise
    except UseError as error:
        raise SuiteError(f"scorer '{spec.name}': {error}", path) from error


def _made(spec: ScorerSpec, project_root: Path, desk: Desk | None) -> Scorer:
    factory = SCORERS.get(spec.scorer)
    settings = checked_settings(factory, spec.settings, lambda entry: _made_part(entry, project_root, desk))
    given = {"project": project_root, "desk": desk}
    filled = {f.name: value for what, value in given.items() for f in fields(factory) if f.metadata.get(what)}
    scorer: Scorer = factory(**settings, **filled)
    return scorer


def asking_parts(scorer: object) -> Iterator[Asking]:
    """What asks models: the scorer itself, or those among its parts that do."""
    if isinstance(scorer, Asking):
        yield scorer
    elif is_dataclass(scorer):
        yield from (part for f in fields(scorer) for part in _asking_in(getattr(scorer, f.name)))


def share_of(scorer: object, part: object) -> float | None:
    """By how much the value moves with that of the only judge in it: of a weighted mean the judge's share, of `not` −1;
    None for anything else."""
    if isinstance(scorer, Not) and isinstance(part, Judge):
        return -1.0 if scorer.score.scorer is part else None
    if not isinstance(scorer, Weighted) or scorer.at_least is not None or not isinstance(part, Judge):
        return None
    judges = [inner for inner in asking_parts(scorer) if isinstance(inner, Judge)]
    weights = {id(held["score"].scorer): held.get("weight", 1.0) for held in scorer.parts}
    whole = sum(held.get("weight", 1.0) for held in scorer.parts)
    return weights[id(part)] / whole if len(judges) == 1 and id(part) in weights else None


def compares(scorer: object) -> bool:
    """Whether a scorer needs the answers of all variants."""
    return isinstance(scorer, Best)


def _asking_in(setting: Any) -> Iterator[Asking]:
    if isinstance(setting, BuiltPart):
        yield from asking_parts(setting.scorer)
    elif isinstance(setting, (dict, list, tuple)):
        for inner in setting.values() if isinstance(setting, dict) else setting:
            yield from _asking_in(inner)


def _made_part(entry: Json, project_root: Path, desk: Desk | None) -> BuiltPart:
    spec = part_spec(entry)
    try:
        return BuiltPart(spec, _made(spec, project_root, desk))
    except (FileError, UnknownName):
        raise
    except UseError as error:
        raise UseError(f"part '{spec.name}': {error}") from error


def checked_settings(
    factory: type[Any], given: Mapping[str, Json], build_part: Callable[[Json], BuiltPart]
) -> dict[str, Json]:
    """The settings by their names, each of the type that its field declares; raises UseError."""
    known = {f.name: f for f in setting_fields(factory)}
    types = get_type_hints(factory, include_extras=True)
    named = dict(given)
    if named and factory.shorthand and types[factory.shorthand] == Part and not named.keys() & {*known, "value"}:
        named = {factory.shorthand: named}  # {not: {regex: x}}: the mapping is the part, no settings
    if "value" in named and "value" not in known and factory.shorthand:
        named[factory.shorthand] = named.pop("value")
    for name in named:
        if name not in known:
            raise UseError(f"unknown setting '{name}'{suggest(name, known)}")
    for name, field in known.items():
        if name not in named and field.default is MISSING and field.default_factory is MISSING:
            raise UseError(f"the setting '{name}' is missing")
    return {name: _typed(name, types[name], value, build_part) for name, value in named.items()}


def score_key(spec: ScorerSpec, scorer: Scorer, expected: Json, others: Sequence[str] = ()) -> str:
    """What a score rests on beside the answer: the registered name, all settings (the defaults too), what
    the scorer reads from the project, the expected answer, the scorer's version, and the texts of other variants
    that it was compared with."""
    name, settings, content, version = _terms(spec.scorer, scorer)
    terms = [name, settings, content, expected, version]
    return content_id("sk1", [*terms, list(others)] if others else terms)


def scorer_terms(scorers: Sequence[tuple[ScorerSpec, Scorer]]) -> dict[str, str]:
    """Scorer → a hash of all that its scores rest on, but for the answers and the cases."""
    return {spec.name: content_id("st1", [*_terms(spec.scorer, scorer), spec.expected]) for spec, scorer in scorers}


def _terms(name: str, scorer: Scorer) -> list[Json]:
    """All that a scorer's judgement rests on, but the expected answer."""
    settings = {f.name: _plain(getattr(scorer, f.name)) for f in setting_fields(type(scorer))}
    return [name, settings, getattr(scorer, "content", None), scorer.version]


def _plain(setting: Any) -> Json:
    """A setting as JSON: a part is its terms, with its own expected answer."""
    if isinstance(setting, BuiltPart):
        return [*_terms(setting.spec.scorer, setting.scorer), setting.spec.expected]
    if isinstance(setting, dict):
        return {key: _plain(value) for key, value in setting.items()}
    return [_plain(item) for item in setting] if isinstance(setting, (list, tuple)) else setting


def setting_fields(factory: type[Any]) -> list[Field[Any]]:
    """The fields of a scorer that a suite sets, in their order."""
    return [f for f in fields(factory) if not f.metadata.get("project") and not f.metadata.get("desk")]


def _typed(name: str, wanted: Any, value: Json, build_part: Callable[[Json], BuiltPart]) -> Any:
    """The value, strictly of the type: `yes` in YAML is a boolean, and no text."""
    try:
        return TypeAdapter(wanted).validate_python(value, strict=True, context={"build_part": build_part})
    except ValidationError as error:
        first = max(error.errors(), key=lambda e: len(e["loc"]))  # of a union, where it came furthest
        where = "".join(f"[{step}]" for step in first["loc"] if isinstance(step, int))
        if first["type"] in ("missing", "extra_forbidden"):
            told = "lacks" if first["type"] == "missing" else "has an unknown"
            raise UseError(f"the setting '{name}'{where} {told} '{first['loc'][-1]}'") from None
        problem = first["msg"].replace("Input should", "should")
        quotes = first["type"] == "string_type" and isinstance(first["input"], (bool, int, float))
        hint = "; put it in quotes" if quotes else ""
        raise UseError(f"the setting '{name}'{where} {problem}, not {first['input']!r}{hint}") from None
