"""Scorers of answers in XML and SQL: whether they can be read as such. Nothing is fetched, expanded or run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args
from xml.etree.ElementTree import ParseError

from workbench.errors import UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed, quote
from workbench.scorers.language import need
from workbench.scorers.structure import YAML_FENCE as BLOCK

Statement = Literal["select", "insert", "update", "delete", "merge", "create", "alter", "drop", "truncate"]

MOST_CHARACTERS = 100_000
"""Of SQL: sqlglot is written in Python, and a longer text takes seconds."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""By which sqlglot underlines the place in its messages."""


def _block(text: str, fence: bool, languages: Sequence[str]) -> str:
    """The first Markdown code block of one of the languages or of none, else the whole text."""
    blocks = BLOCK.findall(text) if fence else []
    return next((block for language, block in blocks if language.lower() in ("", *languages)), text)


@dataclass(frozen=True)
class Xml:
    """The answer is well-formed XML 1.0, read by defusedxml: entities are refused, so that none can grow without
    bound, and nothing outside is ever read."""

    root: str | None = None
    """The name of the outermost element, where it matters; with a namespace `{uri}name`."""
    fence: bool = True
    """Where there is a Markdown code block, it is read in place of the whole answer."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "root"

    def __post_init__(self) -> None:
        need("defusedxml", "xml")

    def __call__(self, answer: Answered) -> Judgement:
        from defusedxml.common import DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden
        from defusedxml.ElementTree import fromstring

        text = _block(answer.text, self.fence, ("xml", "svg", "html", "xhtml")).strip()
        if not text:
            return passed(False, "the answer is empty")
        try:
            element = fromstring(text)
        except ParseError as error:
            what = str(error).partition(": line")[0]
            line, column = error.position
            return passed(False, f"not XML: {what} in line {line}, column {column + 1}")
        except (DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden):
            return passed(False, "it declares entities or refers to another file, which is not read")
        except ValueError as error:
            return passed(False, f"not XML: {quote(str(error))}")
        if self.root is not None and element.tag != self.root:
            return passed(False, f"the outermost element is {quote(str(element.tag))}, wanted {quote(self.root)}")
        return passed(True, f"is XML: {quote(text)}")


@dataclass(frozen=True)
class Sql:
    """The answer is SQL: statements that sqlglot parses in a dialect. Parsed, not run: tables and columns need not
    exist. Statements that sqlglot does not parse itself (`SHOW`, `VACUUM` and the like) do not pass."""

    dialect: str | None = None
    """Such as `postgres`, `sqlite`, `mysql`, `duckdb`, `bigquery`; None: sqlglot's own, which is tolerant."""
    only: Statement | Sequence[Statement] | None = None
    """The kinds of statement that may stand in it, at any depth; None: all."""
    fence: bool = True
    """Where there is a Markdown code block, it is read in place of the whole answer."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "dialect"

    def __post_init__(self) -> None:
        need("sqlglot", "sql")
        from sqlglot.dialects.dialect import Dialect

        known = sorted(name for name in Dialect.classes if name)
        if self.dialect is not None and self.dialect not in known:
            raise UseError(f"sql: '{self.dialect}' is no dialect of sqlglot; it knows {', '.join(known)}")
        for kind in self._allowed:
            if kind not in get_args(Statement):
                raise UseError(f"sql: '{kind}' is no kind of statement; use {', '.join(get_args(Statement))}")

    def __call__(self, answer: Answered) -> Judgement:
        from sqlglot import parse
        from sqlglot.errors import ParseError as SqlParseError
        from sqlglot.errors import SqlglotError

        text = _block(answer.text, self.fence, ("sql", self.dialect or "sql")).strip()
        if len(text) > MOST_CHARACTERS:
            return passed(False, f"it has more than {MOST_CHARACTERS:,} characters")
        logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements that it does not parse
        try:
            statements = [one for one in parse(text, read=self.dialect) if one is not None]
        except SqlParseError as error:
            first = error.errors[0] if error.errors else {}
            where = f" in line {first['line']}, column {first['col']}" if first.get("line") else ""
            return passed(False, f"not SQL: {quote(COLOURS.sub('', str(first.get('description') or error)))}{where}")
        except SqlglotError as error:
            return passed(False, f"not SQL: {quote(COLOURS.sub('', str(error)))}")
        except RecursionError:
            return passed(False, "not SQL: it is nested too deeply")
        return self._judged(statements)

    def _judged(self, statements: Sequence[Any]) -> Judgement:
        if not statements:
            return passed(False, "the answer is empty")
        found: list[str] = []
        for statement in statements:
            kinds = list(dict.fromkeys(_kinds(statement)))
            if not _is_statement(statement):
                return passed(False, f"not a statement: {quote(statement.sql())}")
            found += kinds
        refused = next((kind for kind in found if self._allowed and kind not in self._allowed), None)
        if refused:
            return passed(False, f"it holds {refused}, wanted only {', '.join(self._allowed)}")
        return passed(True, f"is SQL: {', '.join(dict.fromkeys(found))}")

    @property
    def _allowed(self) -> tuple[str, ...]:
        return (self.only,) if isinstance(self.only, str) else tuple(self.only or ())


def _table() -> dict[str, Any]:
    """Kind of statement → the classes of sqlglot's tree; `SELECT … INTO` makes a table."""
    from sqlglot import exp

    return {
        "select": (exp.Query, exp.Values), "insert": exp.Insert, "update": exp.Update, "delete": exp.Delete,
        "merge": exp.Merge, "create": (exp.Create, exp.Into), "alter": exp.Alter, "drop": exp.Drop,
        "truncate": exp.TruncateTable,
    }  # fmt: skip


def _is_statement(tree: Any) -> bool:
    return any(isinstance(tree, classes) for classes in _table().values())


def _kinds(tree: Any) -> Iterator[str]:
    """What a statement does, itself and in its parts. A query inside another statement is no kind of its own."""
    table = _table()
    for node in tree.walk():
        for kind, classes in table.items():
            if isinstance(node, classes) and (kind != "select" or node is tree):
                yield kind
