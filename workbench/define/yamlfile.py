"""YAML files that people write: read safely, and every complaint with its line.

Plain values are read as in YAML 1.2's core schema, as editors do: `no` and `on` are text, `1e-3` is a
number, dates are text (yaml.org/spec/1.2.2, 10.3). Only JSON's types exist; a key stands once in its
mapping; aliases and merges (`<<`) count expanded, so that a few lines can't become millions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from workbench.errors import FileError, SuiteError, UseError, suggest
from workbench.records import Json

MAX_BYTES = 1 << 20
MAX_NODES = 100_000

KeyPath = tuple[str | int, ...]
"""The way from the top of a file to a value: keys and list positions."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Located:
    """A file's data, and where each value stands."""

    data: Json
    lines: Mapping[KeyPath, int]
    """Key path → line, counted from 1."""
    text: str
    path: str
    """The file's name as messages show it."""

    def line(self, at: KeyPath) -> int | None:
        """The line of a value, or of the nearest thing around it that has one; None for the whole file."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at) if at else None

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Gives a UseError raised inside this file's name and the line of `place`, unless it has its own."""
        try:
            yield
        except UseError as error:
            if isinstance(error, FileError) and error.path is not None:
                raise
            raise SuiteError(str(error), self.path, self.line(place)) from error


class Strict(BaseModel):
    """A mapping in a file: nothing is converted, unknown keys are refused with the nearest right one."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    refused: ClassVar[Mapping[str, str]] = {}
    """Keys that are refused with a reason of their own."""

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            text = cls.refused.get(key) or f"unknown key '{key}'{suggest(str(key), known)}"
            if key in cls.refused or key not in known:
                raise PydanticCustomError("key", "{text}", {"text": text, "key": key})
        return data


def read_yaml(path: Path, shown: str | None = None) -> Located:
    """Reads a file; raises SuiteError where it is missing, too large, not UTF-8, empty or not YAML."""
    name = shown or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SuiteError(f"can't be read: {error.strerror}", name) from error
    if len(raw) > MAX_BYTES:
        raise SuiteError(f"is larger than {MAX_BYTES >> 20} MiB; keep cases in a data file", name)
    return parse_yaml(decode(raw, name, SuiteError), name)


def decode(raw: bytes, shown: str, error_class: type[FileError]) -> str:
    """UTF-8 with or without a byte order mark, as text; raises `error_class` with the line that is not."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise error_class("is not UTF-8 text; save it as UTF-8", shown, line) from error


def parse_yaml(text: str, shown: str) -> Located:
    """The data of a YAML text, which must hold one mapping; raises SuiteError."""
    lines: dict[KeyPath, int] = {}
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else _Builder(shown, lines).build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SuiteError(_plain(error.problem or "not valid"), shown, mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SuiteError("holds a control character; remove it", shown, line) from error
    except RecursionError as error:
        raise SuiteError("is nested too deeply, or an alias contains itself", shown) from error
    except (ValueError, OverflowError) as error:  # of `chr`, in PyYAML's reading of escapes
        at = loader.line + 1 if loader is not None else None
        raise SuiteError("an escape stands for no character; the largest is \\U0010FFFF", shown, at) from error
    finally:
        if loader is not None:
            loader.dispose()
    if data is None:
        raise SuiteError("is empty; write keys with their values into it, or delete it", shown)
    if not isinstance(data, dict):
        raise SuiteError("must be a mapping (key: value)", shown, lines.get(()))
    return Located(data, lines, text, shown)


def parse_value(text: str, about: str, *, entry: bool = False) -> Json:
    """A value that stands in no file, read as after `key: `, or with `entry` as in a list, where a mapping needs no
    braces. Raises SuiteError, which says what the text is `about` and shows it."""
    inside = text.replace("\n", "\n  ")
    try:
        value = parse_yaml(f"value:\n- {inside}" if entry else f"value: {inside}", about).data["value"]
    except SuiteError as error:
        raise SuiteError(f"{about} {shown_value(text)}: {error.message}") from error
    return value[0] if entry else value


def parse_values(text: str, about: str) -> list[Json]:
    """Values with commas between, as in a list without its brackets: `0, 0.7`. Raises SuiteError as `parse_value`."""
    wrong = f"{about}: {shown_value(text)} must be values with commas between, such as 0, 0.7"
    found: list[Json] = _within("[", text, "]", wrong)
    return found


def parse_keys(text: str, about: str, such_as: str) -> dict[str, Json]:
    """Keys with values, as in a mapping without its braces: `margin: 0.02, confidence: 0.9`. Raises SuiteError, also
    for a key without a value; `such_as` is its example."""
    wrong = f"{about}: {shown_value(text)} must be keys with values, such as {such_as}"
    found: dict[str, Json] = _within("{", text, "}", wrong)
    if None in found.values():
        raise SuiteError(wrong)
    return found


def _within(opened: str, text: str, closed: str, wrong: str) -> Any:
    """What a text means between brackets that nobody wrote, and that no message is to complain of."""
    try:
        return parse_yaml(f"value: {opened}{text}\n {closed}", "").data["value"]
    except SuiteError as error:
        raise SuiteError(f"{wrong}; a text that holds signs of YAML stands in quotes") from error


def validate(model: type[M], located: Located) -> M:
    """The file's data as a model; raises SuiteError for what stands first, saying how much more is wrong."""
    try:
        return model.model_validate(located.data)
    except ValidationError as error:
        found = [_explain(detail, located) for detail in error.errors(include_url=False)]
        line, message = min(found, key=lambda item: item[0] or math.inf)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SuiteError(message + more, located.path, line) from None


class _Loader(yaml.SafeLoader):
    """Composes nodes, with plain values tagged by the rules below instead of YAML 1.1's."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - declared in the base class


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that the reader would take for something else."""

    yaml_implicit_resolvers = dict(_Loader.yaml_implicit_resolvers)  # noqa: RUF012 - declared in the base class

    def ignore_aliases(self, data: Any) -> bool:
        return True


_BREAKS = re.compile("[\n\r\x85\u2028\u2029]")


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TAG + "str", text, style='"' if _BREAKS.search(text) else None)


_Dumper.add_representer(str, _quoted)
_Dumper.add_implicit_resolver(_TAG + "merge", re.compile("^<<$"), ["<"])


def write_yaml(data: Json, *, flow: bool | None = None) -> str:
    """The text that `parse_yaml` reads as this data: lists and mappings of plain values on one line; with `flow` true
    all of it, false none."""
    if flow:  # inside a list, where a comma in a text needs quotes
        text = yaml.dump(
            [data], None, _Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
        )
        return str(text).removesuffix("\n")[1:-1]
    return str(yaml.dump(data, None, _Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=flow))


_PROBLEMS = {
    "that cannot start any token": "a tab can't indent YAML; use spaces",
    "could not find expected ':'": "this is neither a key nor a value; a key ends with ': '",
    "'<stream end>'": "not valid YAML: a '[' or '{' is not closed",
    "unexpected end of stream": "not valid YAML: a quotation mark is not closed",
}


def _plain(problem: str) -> str:
    if "'\\t'" not in problem and "that cannot start any token" in problem:
        return f"not valid YAML: {problem}; put text that begins so in quotes"
    return next((text for part, text in _PROBLEMS.items() if part in problem), f"not valid YAML: {problem}")


class _Builder:
    """Nodes to plain data, noting lines."""

    def __init__(self, shown: str, lines: dict[KeyPath, int]) -> None:
        self.shown, self.lines, self.count = shown, lines, 0

    def fail(self, message: str, node: yaml.Node) -> SuiteError:
        return SuiteError(message, self.shown, node.start_mark.line + 1)

    def build(self, node: yaml.Node, at: KeyPath) -> Json:
        self.count += 1
        if self.count > MAX_NODES:
            raise self.fail(f"holds more than {MAX_NODES} values, aliases expanded; keep cases in a data file", node)
        self.lines[at] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, at)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*at, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        raise self.fail(f"tag '{_short(node.tag)}' is not supported; only plain text, numbers, lists, mappings", node)

    def mapping(self, node: yaml.MappingNode, at: KeyPath) -> dict[str, Json]:
        merged: dict[str, Json] = {}
        own: dict[str, Json] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail("a key must be text; put a value that begins with { or [ in quotes", key)
            name = self.text(key)
            if name == "<<" and key.style is None:
                self.merge(merged, value, at)
            elif name in own:
                raise self.fail(f"key '{name}' stands twice in the same mapping; remove one", key)
            else:
                own[name] = self.build(value, (*at, name))
                self.lines[(*at, name)] = key.start_mark.line + 1
        return {**merged, **own}

    def merge(self, into: dict[str, Json], value: yaml.Node, at: KeyPath) -> None:
        """The first of several merged mappings wins, as in yaml.org/type/merge."""
        for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(item, yaml.MappingNode):
                raise self.fail("'<<' merges a mapping or a list of mappings", item)
            for name, part in self.build(item, (*at, "<<")).items():
                into.setdefault(name, part)

    def scalar(self, node: yaml.ScalarNode) -> Json:
        kind, text = node.tag.removeprefix(_TAG), self.text(node)
        try:
            if kind == "int":
                whole = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
                str(whole)  # Python writes no more digits than it reads
                return whole
            if kind == "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                return _finite(number)
        except ValueError as error:
            raise self.fail(f"'{text[:40]}' is not a value that JSON can hold", node) from error
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise self.fail(f"tag '{_short(node.tag)}' is not supported; only plain text, numbers, lists, mappings", node)

    def text(self, node: yaml.ScalarNode) -> str:
        """What a key or value says. Two escapes that are a pair of surrogates, as JSON writes what lies beyond U+FFFF,
        are one character."""
        try:
            return str(node.value).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            what = f"{node.value[:40]!a} holds half of a surrogate pair"
            raise self.fail(f"{what}; write the character itself, or both escapes", node) from error


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text (put it in quotes)",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}


def _explain(detail: ErrorDetails, located: Located) -> tuple[int | None, str]:
    """The line and the message of one of pydantic's errors."""
    kind, context = detail["type"], detail.get("ctx", {})
    at = _place(detail["loc"], located.data, missing=kind == "missing")
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    if kind == "key":
        return located.line((*at, context["key"])), detail["msg"]
    if kind == "missing":
        return located.line(at[:-1]) if at[1:] else None, f"'{name}' is missing"
    line = located.line(at)
    if kind == "value_error":
        return line, f"{name} {context['error']}".strip()
    if kind == "literal_error":
        return line, f"{name} must be {context['expected']}, not {shown_value(detail['input'])}"
    wanted = _WANTED.get(kind)
    if wanted is None:
        message = detail["msg"].replace("Input should", "must").replace("should", "must")
        return line, f"{name} {message[:1].lower() + message[1:]}, not {shown_value(detail['input'])}".strip()
    return line, f"{name} must be {wanted}, not {shown_value(detail['input'])}".strip()


def _place(loc: tuple[int | str, ...], data: Json, missing: bool) -> KeyPath:
    """A location without the names of union branches, which stand for nothing in the file."""
    at: list[str | int] = []
    for part in loc[:-1] if missing else loc:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]  # type: ignore[index]
            at.append(part)
    return (*at, loc[-1]) if missing else tuple(at)


def shown_value(value: Json) -> str:
    """How a message shows a value: a text in quotes, cut where it is long."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}…'"
    return "nothing" if value is None else str(value).lower()
