"""Scorers of structured answers: JSON, JSON of a given schema, and YAML.

Nothing is fetched: a `$ref` leads inside its schema, or to the JSON Schema drafts themselves, or nowhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import yaml
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

YAML_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


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


@dataclass(frozen=True)
class Yaml:
    """The answer is YAML (1.1, as PyYAML reads it): documents that are mappings or lists, no key twice. Every text
    is a YAML scalar, so prose is no pass. Nothing is built from it, and no tag does anything."""

    fence: bool = True
    """Where there is a Markdown code block, it is read in place of the whole answer."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        blocks = YAML_FENCE.findall(answer.text) if self.fence else []
        text = next((block for language, block in blocks if language.lower() in ("", "yaml", "yml")), answer.text)
        try:
            documents = list(yaml.compose_all(text, yaml.SafeLoader))
            problem = _yaml_problem(documents)
        except yaml.MarkedYAMLError as error:
            where = f" in {_marked(error.problem_mark)}" if error.problem_mark else ""
            return passed(False, f"not YAML: {error.problem or error.context}{where}")
        except yaml.YAMLError as error:
            return passed(False, f"not YAML: {error}")
        except RecursionError:
            return passed(False, "not YAML: it is nested too deeply")
        return passed(False, problem) if problem else passed(True, f"is YAML: {quote(text.strip())}")


def _yaml_problem(documents: Sequence[yaml.Node | None]) -> str | None:
    if not any(documents):
        return "the answer is empty"
    for node in documents:
        if isinstance(node, yaml.ScalarNode):
            return f"plain text, no mapping or list: {quote(node.value)}"
    todo, seen = [node for node in documents if node is not None], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = [
                (key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"
            ]
            twice = next((key for key, n in Counter(keys).items() if n > 1), None)
            if twice:
                return f"not YAML: the key {quote(twice[1])} stands twice in the mapping of {_marked(node.start_mark)}"
            todo += [child for pair in node.value for child in pair]
    return None


def _marked(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


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
