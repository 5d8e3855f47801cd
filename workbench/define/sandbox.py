"""The Jinja environment in which prompts are rendered: no reach into Python, no end without a bound, no chance.

Values inside a template are plain data only (JSON values; generators and views become lists at once), so
whatever is written is the same on every machine: no addresses, no hash order.

A render has a `Budget`. Loops and calls take steps; every operation that makes or walks a value pays for its
size: before, where the result can be larger than what went in, else after. Constants are not folded at
compile time, because that would be work without a budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from types import BuiltinMethodType
from typing import Any

from jinja2 import StrictUndefined, TemplateRuntimeError, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Cycler, Namespace, missing
from jinja2.visitor import NodeTransformer

from workbench.define.budget import BUDGET, MAX_BITS, MAX_DEPTH, RESERVED, bits, kind, limit, text, weigh
from workbench.define.filters import (
    FILTERS,
    MAX_WIDTH,
    METHOD_SIZES,
    TESTS,
    counted_range,
    each,
    names,
    percent_size,
    weighed,
)
from workbench.errors import suggest

ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (
        str,
        names(
            "capitalize casefold center count endswith expandtabs find index isalnum isalpha isascii isdecimal isdigit "
            "islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix "
            "replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title "
            "upper zfill"
        ),
    ),
    (list, names("count index")),
    (tuple, names("count index")),
    (dict, names("get items keys values")),
    (Cycler, names("current next reset")),
    (
        LoopContext,
        names("changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0"),
    ),
)
"""The attributes that a template may use, by type; everything else is refused."""


class _Strict(StrictUndefined):
    """Undefined, with a message that names the nearest right name."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        name, within = str(self._undefined_name), self._undefined_obj
        if self._undefined_hint:
            return self._undefined_hint
        if within is missing:
            budget = BUDGET.get(None)
            return f"variable '{name}' is not defined" + suggest(name, budget.names if budget else ())
        return f"there is no '{name}' here" + (suggest(name, map(str, within)) if isinstance(within, dict) else "")


class _Metered(NodeTransformer):
    """Puts the meters into a parsed template: around what is looped over, compared, sliced and concatenated."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's naming
        self.generic_visit(node)
        node.iter = _metered("_each", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _metered("_concat", nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _metered("_weighed", node.expr)
        for operand in node.ops:
            operand.expr = _metered("_weighed", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _metered("_weighed", node.node)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        if isinstance(node.value, str) and (RESERVED[0] in node.value or RESERVED[1] in node.value):
            raise TemplateSyntaxError(
                "a text inside an expression holds a role marker on a line of its own, or a reserved character; "
                "build the text from shorter pieces",
                node.lineno,
                self.name,
            )
        return node

    def visit_Include(self, node: Any) -> nodes.Node:  # noqa: N802
        if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
            raise TemplateSyntaxError(
                "another template is named by one constant text in quotes, not computed", node.lineno, self.name
            )
        self.generic_visit(node)
        return node  # type: ignore[no-any-return]

    visit_Import = visit_FromImport = visit_Extends = visit_Include  # noqa: N815


def _metered(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Formatter(SandboxedFormatter):
    """`str.format` with bounded fields."""

    size = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        weigh(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if "c" in format_spec or any(int(n) > MAX_WIDTH for n in re.findall(r"\d+", format_spec)):
            raise TemplateRuntimeError(f"format fields are at most {MAX_WIDTH} wide, and never 'c'")
        weigh(value)
        field = str(super().format_field(value, format_spec))
        self.size += len(field)
        limit(self.size)
        return field


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as the module's docstring says. Needs a `BUDGET` to render, none to compile."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, strict: bool) -> None:
        super().__init__(
            undefined=_Strict if strict else Undefined, autoescape=False, optimized=False, finalize=_finalize
        )
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)
        self.globals.pop("lipsum")
        self.globals["range"] = counted_range

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Metered(name).visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def concat(self, pieces: Iterable[str]) -> str:
        total, parts = 0, []
        for piece in pieces:
            total += len(piece)
            limit(total)
            parts.append(piece)
        BUDGET.get().charge(1 + total // 8)
        return "".join(parts)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace) or type(obj).__name__ == "TemplateModule":
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in ATTRIBUTES)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"'{attribute}' of {kind(obj)} values is out of reach for a template")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A dict's own methods, else its keys: `row.copy` is the field, not Python's method."""
        if isinstance(obj, dict) and not self.is_safe_attribute(obj, attribute, None):
            return obj[attribute] if attribute in obj else self._absent(obj, attribute)
        return super().getattr(obj, attribute)

    def _absent(self, obj: Any, name: str) -> Undefined:
        if name.startswith("__"):
            return self.unsafe_undefined(obj, name)
        return self.undefined(obj=obj, name=name)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None or value.__name__ != "format":
            return None
        return lambda *args, **kwargs: _Formatter(self).vformat(value.__self__, args, kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            limit(percent_size(left, *(right if isinstance(right, tuple) else (right,))))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int) and bits(left) * right > MAX_BITS:
            raise TemplateRuntimeError("the template computes an integer that is too large")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, str | list | tuple):
            limit(len(result))
            BUDGET.get().charge(1 + len(result) // 8)
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget = BUDGET.get()
        budget.step()
        if isinstance(__obj, LoopContext) and args:
            args = (each(args[0]), *args[1:])
        if isinstance(__obj, BuiltinMethodType):
            _check_method(__obj, args, kwargs)
        budget.depth += 1
        try:
            if budget.depth > MAX_DEPTH:
                raise TemplateRuntimeError(f"macros call each other more than {MAX_DEPTH} deep")
            result = super().call(__context, __obj, *args, **kwargs)
        finally:
            budget.depth -= 1
        return list(result) if isinstance(result, KeysView | ValuesView | ItemsView) else result


@pass_context
def _finalize(context: Context, value: Any) -> str:
    """Takes the context only to tell jinja2 that nothing may be written at compile time."""
    return text(value)


def _check_product(left: Any, right: Any) -> None:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            limit(len(sequence) * count)
    if bits(left) + bits(right) > MAX_BITS:
        raise TemplateRuntimeError("the template computes an integer that is too large")


def _check_method(method: BuiltinMethodType, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    owner, size = method.__self__, METHOD_SIZES.get(method.__name__)
    if isinstance(owner, dict):
        return
    for value in (owner, *args, *kwargs.values()):
        weighed(value)
    if isinstance(owner, str) and size is not None:
        limit(size(owner, *args, **kwargs))
