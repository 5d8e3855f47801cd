"""Scorers inside scorers, and settings that a case fills.

A part is written as any scorer of a suite: NAME, {NAME: value} or {NAME: {settings}}, with `as` beside it for
its name in reasons and `expected` among its settings. A field of type `Part` makes `build` build it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import PlainValidator, ValidationInfo

from workbench.errors import ScorerError, UseError
from workbench.records import Case, Json, Judgement, ScorerSpec, canonical
from workbench.scorers.base import Answered, Scorer, quote

NAMED = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class BuiltPart:
    """A part, ready to judge."""

    spec: ScorerSpec
    scorer: Scorer

    @property
    def needs_expected(self) -> bool:
        return self.scorer.needs_expected and self.spec.expected is None

    def __call__(self, answer: Answered) -> Judgement:
        """Raises ScorerError, which says which part it is about."""
        try:
            if self.spec.expected is not None:
                answer = replace(answer, expected=filled(self.spec.expected, answer.case))
            return self.scorer(answer)
        except ScorerError as error:
            raise ScorerError(f"part '{self.spec.name}': {error}") from error


def _build(entry: Json, info: ValidationInfo) -> BuiltPart:
    built: BuiltPart = (info.context or {})["build_part"](entry)
    return built


Part = Annotated[BuiltPart, PlainValidator(_build)]
"""The type of a field that holds a part; `list[Part]` holds several."""


def part_spec(entry: Json) -> ScorerSpec:
    """A part as it is written; raises UseError."""
    if isinstance(entry, str):
        return ScorerSpec(entry, entry)
    names = [name for name in entry if name != "as"] if isinstance(entry, Mapping) else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise UseError(f"{_shown(entry)} is no scorer; a part is NAME, {{NAME: value}} or {{NAME: {{settings}}}}")
    (name,) = names
    value = entry[name]
    settings = {} if value is None else dict(value) if isinstance(value, Mapping) else {"value": value}
    expected = settings.pop("expected", None)
    if expected is not None and not isinstance(expected, str):
        raise UseError(f"the expected answer of part '{name}' is {_shown(expected)}; give a text, or '{{{{ name }}}}'")
    check_names(expected or "", "expected")
    return ScorerSpec(str(entry.get("as", name)), name, settings, expected)


def check_names(setting: str, name: str) -> None:
    """Raises UseError for a template that says more than `{{ name }}`."""
    rest = NAMED.sub("", setting)
    if "{{" in rest or "{%" in rest:
        raise UseError(f"{name} is {quote(setting)}; only '{{{{ name }}}}', for an input of the case, can be filled in")


def filled(setting: str, case: Case) -> Json:
    """The setting with each `{{ name }}` replaced by the case's input: exactly one gives its value as it is,
    else the values stand in the text. Raises ScorerError for an input that the case lacks."""
    whole = NAMED.fullmatch(setting.strip())
    if whole:
        return _value(whole, case)
    return NAMED.sub(lambda m: _as_text(_value(m, case)), setting)


def _value(match: re.Match[str], case: Case) -> Json:
    if match[1] not in case.inputs:
        raise ScorerError(f"case '{case.id}' has no input '{match[1]}', which a setting of the scorer names")
    return case.inputs[match[1]]


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value)


def _shown(value: Json) -> str:
    return quote(repr(value))
