"""From a scorer as a suite asks for it to one that judges; and the key of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from workbench.errors import FileError, SuiteError, UseError, suggest
from workbench.records import Json, ScorerSpec, content_id
from workbench.registry import SCORERS
from workbench.scorers.base import Scorer

STRICT = ConfigDict(strict=True)


def build_scorer(spec: ScorerSpec, project_root: Path, path: str | None) -> Scorer:
    """The scorer of a suite. Raises SuiteError, with the suite's `path`, for a name or a setting that is
    unknown, missing or of a wrong type; FileError where a file of the project that it names is wrong."""
    try:
        factory = SCORERS.get(spec.scorer)
        settings = checked_settings(factory, spec.settings)
        scorer: Scorer = factory(**settings, **{f.name: project_root for f in _project_fields(factory)})
        return scorer
    except FileError:
        raise
    except UseError as error:
        raise SuiteError(f"scorer '{spec.name}': {error}", path) from error


def checked_settings(factory: type[Any], given: Mapping[str, Json]) -> dict[str, Json]:
    """The settings by their names, each of the type that its field declares; raises UseError."""
    known = {f.name: f for f in setting_fields(factory)}
    named = dict(given)
    if "value" in named and "value" not in known and factory.shorthand:
        named[factory.shorthand] = named.pop("value")
    for name in named:
        if name not in known:
            raise UseError(f"unknown setting '{name}'{suggest(name, known)}")
    for name, field in known.items():
        if name not in named and field.default is MISSING and field.default_factory is MISSING:
            raise UseError(f"the setting '{name}' is missing")
    types = get_type_hints(factory)
    return {name: _typed(name, types[name], value) for name, value in named.items()}


def score_key(spec: ScorerSpec, scorer: Scorer, expected: Json) -> str:
    """What a score rests on beside the answer: the registered name, all settings (the defaults too), what
    the scorer reads from the project, the expected answer and the scorer's version."""
    settings = {f.name: getattr(scorer, f.name) for f in setting_fields(type(scorer))}
    return content_id("sk1", [spec.scorer, settings, getattr(scorer, "content", None), expected, scorer.version])


def setting_fields(factory: type[Any]) -> list[Field[Any]]:
    """The fields of a scorer that a suite sets, in their order."""
    return [f for f in fields(factory) if not f.metadata.get("project")]


def _project_fields(factory: type[Any]) -> list[Field[Any]]:
    return [f for f in fields(factory) if f.metadata.get("project")]


def _typed(name: str, wanted: Any, value: Json) -> Any:
    """The value, strictly of the type: `yes` in YAML is a boolean, and no text."""
    try:
        return TypeAdapter(wanted, config=STRICT).validate_python(value)
    except ValidationError as error:
        first = max(error.errors(), key=lambda e: len(e["loc"]))  # of a union, where it came furthest
        where = "".join(f"[{step}]" for step in first["loc"] if isinstance(step, int))
        problem = first["msg"].replace("Input should", "should")
        quotes = first["type"] == "string_type" and isinstance(first["input"], (bool, int, float))
        hint = "; put it in quotes" if quotes else ""
        raise UseError(f"the setting '{name}'{where} {problem}, not {first['input']!r}{hint}") from None
