"""Templates: rendered in a sandbox, within bounds, the same on every machine.

A template is Jinja (see `define.sandbox`), autoescape off, whitespace as written, without the newline at its
end. It reaches other templates only through `partials`, by constant names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import (
    FunctionLoader,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    meta,
    nodes,
)
from jinja2.environment import TemplateExpression

from workbench.define.budget import BUDGET, MAX_CHARACTERS, Budget, plain, weigh
from workbench.define.sandbox import PromptEnvironment
from workbench.errors import PromptError, suggest
from workbench.records import EMPTY, Json

MAIN = ""
"""The name of the template that is rendered, among its partials."""

FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template can raise when it runs."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a template names another."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Use:
    """Where a variable is used first."""

    partial: str
    """Empty: in the template itself."""
    line: int


def render_template(
    source: str,
    partials: Mapping[str, str],
    variables: Mapping[str, Json],
    strict: bool = True,
    path: str | None = None,
    line_offset: int = 0,
) -> str:
    """The template's text; raises PromptError with the line in the file, which is the template's plus the offset.

    An undefined variable is an error; with `strict=False` it is empty text.
    """
    with _translated(path, line_offset), _budget(variables):
        values = _plain_variables(variables, path)
        return _program(source, tuple(sorted(partials.items())), strict).render(values)


def render_value(template: str, variables: Mapping[str, Json]) -> Json:
    """A setting that may hold a template: exactly one `{{ expression }}` gives its value (a number stays a
    number), anything else text. Raises PromptError without a place, which the caller knows."""
    with _translated(None, 0), _budget(variables):
        program = _value_program(template)
        if isinstance(program, Template):
            return program.render(_plain_variables(variables, None))
        value = program(_plain_variables(variables, None))
        if isinstance(value, Undefined):
            return str(value)
        weigh(value)
        return plain(value)


def check_template(source: str, partials: Mapping[str, str], path: str | None = None, line_offset: int = 0) -> None:
    """Compiles a template and its partials; raises PromptError for what can be seen without rendering."""
    with _translated(path, line_offset):
        _program(source, tuple(sorted(partials.items())), True)


def variables_used(source: str, partials: Mapping[str, str] = EMPTY) -> set[str]:
    """Names of the variables that a template and the partials which see them read from outside."""
    return set(variable_uses(source, partials))


def variable_uses(
    source: str, partials: Mapping[str, str], path: str | None = None, line_offset: int = 0
) -> dict[str, Use]:
    """Each variable that is read from outside, with its first place.

    What an including template sets anywhere counts as given to what it includes; a partial that is imported
    without context sees no variables. Raises PromptError.
    """
    with _translated(path, line_offset):
        return _uses(MAIN, {**partials, MAIN: source}, ())


def template_references(source: str, path: str | None = None, line_offset: int = 0) -> list[Reference]:
    """The templates that this one includes, imports or extends; raises PromptError for a computed name."""
    with _translated(path, line_offset):
        return [Reference(name, node.lineno) for node, name in _referring(_environment((), True).parse(source))]


@lru_cache(maxsize=512)
def _program(source: str, partials: tuple[tuple[str, str], ...], strict: bool) -> Template:
    environment = _environment((*partials, (MAIN, source)), strict)
    for name, _ in partials:
        environment.get_template(name)
    return environment.get_template(MAIN)


@lru_cache(maxsize=512)
def _value_program(template: str) -> TemplateExpression | Template:
    environment = _environment(((MAIN, template),), True)
    match environment.parse(template, MAIN).body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
            result = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
            tree = nodes.Template([result], lineno=1)
            tree.set_environment(environment)
            return TemplateExpression(environment.from_string(tree), undefined_to_none=False)
    return environment.get_template(MAIN)


def _environment(sources: tuple[tuple[str, str], ...], strict: bool) -> PromptEnvironment:
    texts = dict(sources)

    def load(name: str) -> tuple[str, str, None] | None:
        if len(texts.get(name, "")) > MAX_CHARACTERS:
            raise TemplateSyntaxError(f"the template is longer than {MAX_CHARACTERS:,} characters", 1, name)
        return (texts[name], _filename(name), None) if name in texts else None

    environment = PromptEnvironment(strict)
    environment.loader = FunctionLoader(load)
    return environment


def _filename(name: str) -> str:
    return f"<template:{name}>"


@contextmanager
def _budget(variables: Mapping[str, Json]) -> Iterator[None]:
    token = BUDGET.set(Budget(frozenset(map(str, variables))))
    try:
        yield
    finally:
        BUDGET.reset(token)


def _plain_variables(variables: Mapping[str, Json], path: str | None) -> dict[str, Json]:
    values = {}
    for name, value in variables.items():
        try:
            values[str(name)] = plain(value)
        except (TypeError, ValueError, RecursionError) as error:
            reason = "it holds itself, or is nested too deeply" if isinstance(error, RecursionError) else error
            raise PromptError(f"the value of '{name}' can't be used: {reason}", path) from error
    return values


def _referring(tree: nodes.Template) -> Iterator[tuple[Any, str]]:
    """The nodes that name other templates; the environment has refused names that are not constant."""
    node: Any
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield node, node.template.value


def _uses(name: str, sources: Mapping[str, str], within: tuple[str, ...]) -> dict[str, Use]:
    if name not in sources:
        return {}  # `ignore missing`: what must be there was checked when the partials were collected
    if name in within:
        raise TemplateSyntaxError(f"'{name}' includes itself: {' → '.join((*within[1:], name))}", 1, name)
    tree = _environment((), True).parse(sources[name], name, _filename(name))
    first: dict[str, int] = {}
    given: set[str] = {macro.name for macro in tree.find_all(nodes.Macro)}
    for variable in tree.find_all(nodes.Name):
        if variable.ctx == "load":
            first[variable.name] = min(variable.lineno, first.get(variable.name, variable.lineno))
        else:
            given.add(variable.name)
    uses = {v: Use(name, first.get(v, 1)) for v in sorted(meta.find_undeclared_variables(tree))}
    for node, partial in _referring(tree):
        inner = _uses(partial, sources, (*within, name))
        if getattr(node, "with_context", True):
            uses = {**{v: use for v, use in inner.items() if v not in given}, **uses}
    return uses


@contextmanager
def _translated(path: str | None, line_offset: int) -> Iterator[None]:
    """Turns what jinja2 and a template raise into a PromptError with its place."""
    try:
        yield
    except TemplateSyntaxError as error:
        raise _placed(_message(error), error.name or MAIN, error.lineno, path, line_offset) from error
    except (SyntaxError, MemoryError) as error:
        raise PromptError("the template is nested too deeply; make it simpler", path) from error
    except FAILURES as error:
        name, line = _place(error.__traceback__)
        raise _placed(_message(error), name, line, path, line_offset) from error


def _placed(message: str, name: str, line: int | None, path: str | None, line_offset: int) -> PromptError:
    if name not in (MAIN, "<introspection>"):  # jinja2.meta names the source that it looks into so
        return PromptError(message, name, line)
    if path is None and line is not None and line > 1:
        message = f"line {line}: {message}"
    return PromptError(message, path, line + line_offset if line is not None else None)


def _place(trace: TracebackType | None) -> tuple[str, int | None]:
    """Template and line of an error; jinja2 gives the frames of templates the lines of their sources."""
    name, line = MAIN, None
    while trace is not None:
        found = re.fullmatch(r"<template:(.*)>", trace.tb_frame.f_code.co_filename, re.DOTALL)
        if found:
            name, line = found.group(1), trace.tb_lineno
        trace = trace.tb_next
    return name, line


def _message(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, TemplateNotFound):
        return f"there is no partial '{error.name}' in the library; create the file, or correct the name"
    if isinstance(error, RecursionError):
        return "the template is nested too deeply, or includes itself; make it simpler"
    if isinstance(error, TemplateSyntaxError):
        text = error.message or text
        unknown = re.match(r"No (filter|test) named '([^']*)'", text)
        if unknown:
            known: Any = _environment((), True)
            names = known.filters if unknown[1] == "filter" else known.tests
            return f"there is no {unknown[1]} '{unknown[2]}'" + suggest(unknown[2], (n for n in names if n[0] != "_"))
    if not isinstance(error, TemplateError):
        return f"the template fails: {text}"
    return text.rstrip(".")
