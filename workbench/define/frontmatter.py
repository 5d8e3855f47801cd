"""The front matter of a `.prompty` file: split from the body, read with its lines, its references dealt with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.define.properties import Place
from workbench.define.yamlfile import KeyPath, parse_yaml, write_yaml
from workbench.errors import PromptError, SuiteError
from workbench.records import EMPTY, Json

REFERENCE = re.compile(r"\$\{(env|file):([^}]*)\}", re.IGNORECASE)
NOTE = "# the partials as they were, kept with this revision"
AS_WRITTEN = ("metadata", "sample", "authors", "tags", "version", "description", "displayName", "name", "partials")
"""Keys in which a reference is text like any other."""


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """A file's parts."""

    data: Mapping[str, Json]
    place: Place
    body: str
    line_offset: int
    """Lines of the file before the body."""


def split_file(text: str, path: str | None) -> tuple[str, str, int]:
    """Front matter, body, and the lines before the body (specification, 2.2: `---` or `+++`, or none at all)."""
    opening = re.match(r"\s*(---|\+\+\+)[ \t]*\n", text)
    if opening is None:
        return "", text, 0
    closing = re.compile(r"^(---|\+\+\+)[ \t]*(\n|\Z)", re.MULTILINE).search(text, opening.end())
    if closing is None:
        line = text.count("\n", 0, opening.start(1)) + 1
        raise PromptError(f"the front matter has no end; close it with a line '{opening[1]}'", path, line)
    before = "\n" * text.count("\n", 0, opening.end())
    front = text[opening.end() : closing.start()]
    return before + front, text[closing.end() :], text.count("\n", 0, closing.end())


def read_front_matter(text: str, path: str | None, allowed: Mapping[str, Json] = EMPTY) -> FrontMatter:
    """The parts of a file whose newlines are `\n`; raises PromptError.

    `${env:NAME}` and `${file:PATH}` are refused where they could change a request, unless `allowed` has the
    value of `env:NAME` or `file:PATH`. A connection is dropped unread: it is no part of a prompt.
    """
    front, body, offset = split_file(text, path)
    data: dict[str, Json] = {}
    lines: Mapping[KeyPath, int] = {}
    if re.sub(r"#.*", "", front).strip():
        try:
            located = parse_yaml(front, path or "prompt")
        except SuiteError as error:
            raise PromptError(error.message, path, error.line) from error
        data, lines = located.data, located.lines
    place = Place(path, lines)
    read = {k: v if k in AS_WRITTEN else _resolved(v, place / k, allowed) for k, v in data.items()}
    return FrontMatter(read, place, body, offset)


def _resolved(value: Json, at: Place, allowed: Mapping[str, Json]) -> Json:
    if isinstance(value, dict):
        return {key: _resolved(item, at / key, allowed) for key, item in value.items() if key != "connection"}
    if isinstance(value, list):
        return [_resolved(item, at / i, allowed) for i, item in enumerate(value)]
    found = REFERENCE.search(value) if isinstance(value, str) else None
    if found is None:
        return value
    if at.at[:2] == ("model", "configuration"):
        return None  # version 1's name for a connection
    kind, target = found[1].lower(), found[2]
    name = f"{kind}:{target.partition(':')[0] if kind == 'env' else target}"
    if name not in allowed:
        raise at.error(f"the reference '{found[0]}' is not resolved; write the value, or allow '{name}'")
    if found[0] != value:
        raise at.error(f"the reference '{found[0]}' must stand alone as a value")
    return allowed[name]


def with_partials(text: str, partials: Mapping[str, str]) -> str:
    """The file's text with its partials as the last key of the front matter; all else stays as it was written."""
    front, body, _ = split_file(text, None)
    front = front.strip("\n")
    if re.search(r"^\{", front, re.MULTILINE):  # one mapping in braces takes no further line
        return rewritten(read_front_matter(text, None), partials)
    opening = f"{front}\n" if front else ""
    return f"---\n{opening}{NOTE}\n{write_yaml({'partials': dict(partials)}, flow=False)}---\n{body}"


def without_partials(text: str) -> str:
    """The text from which `with_partials` made this one, but for its fences; any other text as it is."""
    start = text.find(f"\n{NOTE}\npartials:")
    end = text.find("\n---\n", start + 1)
    shorter = text[:start] + text[end:] if 0 <= start < end else text
    return shorter.removeprefix("---\n---\n") if shorter != text else text


def rewritten(front: FrontMatter, partials: Mapping[str, str]) -> str:
    """The text of a file with that front matter, references resolved, and these partials."""
    return f"---\n{write_yaml({**front.data, 'partials': dict(partials)}, flow=False)}---\n{front.body}"
