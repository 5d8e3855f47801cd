"""Scorers of structured answers: JSON, and JSON of a given schema.

Nothing is fetched: a `$ref` leads inside its schema, or to the JSON Schema drafts themselves, or nowhere.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from workbench.errors import ScorerError, UseError
from workbench.records import Json as JsonValue
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote

FENCE = re.compile(r"^[ \t]*```[ \t]*(?:jsonc?\b)?(.*?)(?:```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE | re.IGNORECASE)
"""A Markdown code block. JSON holds no line break within a string, so no line of it ends in a fence."""


class NotJsonError(Exception):
    """Why a text is not JSON, and where."""


def parse(text: str, fence: bool) -> JsonValue:
    """The JSON value of a text (RFC 8259), else of its first code block; raises NotJsonError."""
    try:
        return _loads(text)
    except NotJsonError:
        block = FENCE.search(text) if fence else None
        if block is None:
            raise
        return _loads(block.group(1))


def _loads(text: str) -> JsonValue:
    try:
        return json.loads(text.strip(), parse_constant=_not_a_number)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise NotJsonError("the answer is empty") from None
        here = quote(error.doc[error.pos : error.pos + 40]) if error.pos < len(error.doc) else "the end"
        raise NotJsonError(f"{error.msg} in line {error.lineno}, column {error.colno}, at {here}") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
    except RecursionError:
        raise NotJsonError("it is nested too deeply") from None


def _not_a_number(name: str) -> None:
    raise NotJsonError(f"{name} is not a JSON value")


@dataclass(frozen=True)
class Json:
    """The answer is JSON (RFC 8259)."""

    fence: bool = True
    """JSON inside a Markdown code block, with text around it, counts too."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        try:
            value = parse(answer.text, self.fence)
        except NotJsonError as error:
            return passed(False, f"not JSON: {error}")
        return passed(True, f"is JSON: {quote(json.dumps(value, ensure_ascii=False))}")


@dataclass(frozen=True)
class JsonSchema:
    """The answer is JSON of this JSON Schema (draft 2020-12)."""

    schema: dict[str, Any]
    """The schema itself; where a suite names a file, reading the suite has put its content here."""
    fence: bool = True
    """JSON inside a Markdown code block, with text around it, counts too."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "schema"

    def __post_init__(self) -> None:
        try:
            Draft202012Validator.check_schema(self.schema)
            _check_references(REGISTRY.resolver_with_root(self._resource), self._resource)
        except SchemaError as error:
            raise UseError(f"the schema is wrong at {error.json_path}: {error.message}") from None

    def __call__(self, answer: Answered) -> Judgement:
        try:
            value = parse(answer.text, self.fence)
        except NotJsonError as error:
            return passed(False, f"not JSON: {error}")
        try:
            worst = best_match(self._validator.iter_errors(value))
        except RecursionError:
            raise ScorerError("the schema refers to itself without end, or the answer is nested too deeply") from None
        return passed(False, _told(worst)) if worst else passed(True, "fits the schema")

    @cached_property
    def _resource(self) -> Resource[Any]:
        return DRAFT202012.create_resource(self.schema)

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.schema, registry=REGISTRY)


def _check_references(resolver: Any, resource: Resource[Any]) -> None:
    """Raises UseError for a reference that leads nowhere: before the run, not at the first answer that meets it."""
    reference = resource.contents.get("$ref") if isinstance(resource.contents, dict) else None
    try:
        if isinstance(reference, str):
            resolver.lookup(reference)
    except Unresolvable:
        raise UseError(f"the schema's reference {reference!r} leads nowhere; nothing is fetched") from None
    for inner in resource.subresources():
        _check_references(resolver.in_subresource(inner), inner)


def _told(error: ValidationError) -> str:
    """`$.items[2].price: 'x' is not of type 'number'`, a long value in the message shortened."""
    shown = repr(error.instance)
    return f"{error.json_path}: {error.message.replace(shown, _short(shown), 1)}"


def _short(shown: str) -> str:
    return shown if len(shown) <= 60 else f"{shown[:30]} … {shown[-30:]}"
