"""The sandbox: what a template may do, what it may not reach, and that nothing it does is without a bound."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.define.template import (
    Use,
    check_template,
    render_template,
    render_value,
    template_references,
    variable_uses,
    variables_used,
)
from workbench.errors import PromptError

VARIABLES = {"xs": ["a", "b"], "d": {"text": "<t>", "copy": 1, "items": 2}, "text": "s", "n": 3}


def render(source: str, partials: dict[str, str] | None = None, **kwargs) -> str:
    return render_template(source, partials or {}, VARIABLES, path="prompts/x.prompty", line_offset=3, **kwargs)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hi {{ text }}\n", "Hi s"),
        ("  a\n    b", "  a\n    b"),
        ("{{ d.text }} {{ d['text'] }} {{ d.copy }}", "<t> <t> 1"),
        ("{{ xs | map('upper') }}", "['A', 'B']"),
        ("{{ xs | map('upper') | join(', ') }}", "A, B"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"a": 1, "b": "<é>"}'),
        ("{{ d.text | e }}{{ d.text | upper }}", "&lt;t&gt;<T>"),
        ("{% for x in xs %}{{ loop.index }}{{ x }}{{ ',' if not loop.last }}{% endfor %}", "1a,2b"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "text=<t>;copy=1;items=2;"),
        ("{% macro q(a) %}<{{ caller(a) }}>{% endmacro %}{% call(x) q(1) %}in{{ x }}{% endcall %}", "<in1>"),
        ("{% set ns = namespace(i=0) %}{% for x in xs %}{% set ns.i = ns.i + 1 %}{% endfor %}{{ ns.i }}", "2"),
        ("{{ absent is defined }}{{ absent | default('none') }}", "Falsenone"),
        ("{{ '%05.1f|%s' % (2.5, text) }}{{ '{:>3}'.format(n) }}", "002.5|s  3"),
        ("{{ text ~ n ~ [1] }}", "s3[1]"),
        ("{{ 'a,b'.split(',')[::-1] }}", "['b', 'a']"),
        ("{% include 'p' %}{% from 'm' import twice %}{{ twice('x') }}", "P:sxx"),
        ("{% extends 'base' %}{% block body %}mine{% endblock %}", "<mine>"),
    ],
)
def test_it_renders(source: str, expected: str) -> None:
    partials = {
        "p": "P:{{ text }}",
        "m": "{% macro twice(a) %}{{ a }}{{ a }}{% endmacro %}",
        "base": "<{% block body %}{% endblock %}>",
    }
    assert render(source, partials) == expected


TOO_MUCH = "more than 1,048,576 characters"
TOO_LONG = "more than 100,000 loop steps"
BOMBS = [
    ("{% for i in range(10 ** 12) %}x{% endfor %}", TOO_LONG),
    ("{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}", TOO_LONG),
    ("{% for i in range(10000) %}" + "x" * 1000 + "{% endfor %}", TOO_MUCH),
    ("{% macro m() %}{% for i in range(9999) %}" + "x" * 1000 + "{% endfor %}{% endmacro %}{{ m() }}", TOO_MUCH),
    ("{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", "40 deep"),
    ("{% macro m(a) %}{% if a %}{{ m(a - 1) }}{{ m(a - 1) }}{% endif %}{% endmacro %}{{ m(30) }}", TOO_LONG),
    ("{% for x in xs recursive %}{{ loop(xs) }}{% endfor %}", "40 deep"),
    ("{% block a %}{{ self.a() }}{% endblock %}", "40 deep"),
    ("{{ 'a' * 10 ** 9 }}", TOO_MUCH),
    ("{{ [0] * 10 ** 9 }}", TOO_MUCH),
    ("{{ 99 ** 99999999 }}", "too large"),
    ("{% set n = namespace(i=2) %}{% for i in range(99) %}{% set n.i = n.i * n.i %}{% endfor %}", "too large"),
    ("{{ 'x' | center(10 ** 9) }}", TOO_MUCH),
    ("{{ 'x'.ljust(10 ** 9) }}", TOO_MUCH),
    ("{{ 'x'.zfill(10 ** 9) }}", TOO_MUCH),
    ("{{ '\t'.expandtabs(10 ** 9) }}", TOO_MUCH),
    ("{{ 'a' | indent(10 ** 9, true) }}", TOO_MUCH),
    ("{{ 'a b' | wordwrap(1, wrapstring='x' * 1000000) | wordwrap(1, wrapstring='x' * 1000000) }}", TOO_MUCH),
    ("{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}", TOO_MUCH),
    ("{{ ('a' * 1000000).replace('', 'b' * 1000000) }}", TOO_MUCH),
    ("{{ range(90000) | join('x' * 1000000) }}", TOO_MUCH),
    ("{{ ('x' * 1000000).join(range(40000) | map('string')) }}", TOO_MUCH),
    ("{{ '%1000000000d' % 3 }}", "1000 wide"),
    ("{{ '%*d' % (1000000000, 3) }}", "1000 wide"),
    ("{{ '%1000000000d' | format(3) }}", "1000 wide"),
    ("{{ '%(a)s' * 100000 % {'a': 'b' * 100000} }}", TOO_MUCH),
    ("{{ '{:1000000000}'.format(3) }}", "1000 wide"),
    ("{{ '{:{}}'.format(3, 1000000000) }}", "1000 wide"),
    ("{{ ('{0}' * 100000).format('b' * 100000) }}", TOO_MUCH),
    ("{{ [1] | batch(10 ** 9, 1) }}", TOO_MUCH),
    ("{{ [1] | slice(10 ** 9) }}", TOO_MUCH),
    ("{{ 5 | round(-(10 ** 9)) }}", "precision"),
    ("{{ [[1]] | sum(start=[]) }}", "numbers only"),
    ("{{ [1] | tojson(10 ** 9) }}", "at most 16"),
    ("{% set n = namespace(a=['x']) %}{% for i in range(64) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}", "much"),
    ("{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a ~ n.a %}{% endfor %}", TOO_MUCH),
    ("{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a + n.a %}{% endfor %}", TOO_MUCH),
    ("{% for i in range(90000) %}{% set x = 'a' * 1000000 %}{% endfor %}", "too much data"),
    ("{{ 1" + " + 1" * 20000 + " }}", "nested too deeply"),
    ("(" * 2_000_000, "longer than"),
]


@pytest.mark.parametrize(("source", "error"), BOMBS, ids=range(len(BOMBS)))
def test_nothing_is_without_a_bound(source: str, error: str) -> None:
    started = time.monotonic()
    with pytest.raises(PromptError, match=error):
        render(source)
    assert time.monotonic() - started < 20  # generous: the bound is counted, and the machine may be busy


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ d['__class__'] }}",
        "{{ d.__class__ }}",
        "{{ [].append(1) }}",
        "{{ xs.append(1) }}",
        "{{ d.pop('text') }}",
        "{{ 'a'.encode() }}",
        "{{ (1).to_bytes(9, 'big') }}",
        "{{ 'a'.format_map(d) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ xs | map(attribute='__class__') }}",
        "{{ xs | attr('__class__') }}",
        "{{ dict.fromkeys(xs) }}",
        "{{ range.__call__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% macro m() %}{% endmacro %}{{ m._environment }}",
        "{{ cycler('a').__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ lipsum() }}",
        "{{ xs | random }}",
        "{{ range }}",
        "{% macro m() %}{% endmacro %}{{ m }}",
        "{% macro m() %}{% endmacro %}{{ [m] | string }}",
        "{{ namespace() }}",
        "{% include text %}",
        "{% include '/etc/passwd' %}",
        "{% import text as t %}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    with pytest.raises(PromptError):
        render(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{{ txt }}", "prompts/x.prompty:5: variable 'txt' is not defined; did you mean 'text'?"),
        ("{{ d.txt }}", "prompts/x.prompty:4: there is no 'txt' here; did you mean 'text'?"),
        ("\n\n{% if %}", "prompts/x.prompty:6: Expected an expression, got 'end of statement block'"),
        ("{{ text | uper }}", "prompts/x.prompty:4: there is no filter 'uper'; did you mean 'upper'?"),
        ("{{ 1 / 0 }}", "prompts/x.prompty:4: the template fails: division by zero"),
        ("{{ ''.__class__ }}", "prompts/x.prompty:4: '__class__' of str values is out of reach for a template"),
        ("{% include 'p' %}", "p:2: variable 'zz' is not defined; known: d, n, text, xs"),
        ("\n{% include text %}", "prompts/x.prompty:5: another template is named by one constant text in quotes"),
        ("{% include 'q' %}", "prompts/x.prompty:4: there is no partial 'q' in the library; create the file"),
        ("{{ '\\ufdd0' }}", "prompts/x.prompty:4: a text inside an expression holds a role marker"),
    ],
)
def test_an_error_names_file_line_and_remedy(source: str, message: str) -> None:
    with pytest.raises(PromptError) as caught:
        render(source, {"p": "x\n{{ zz }}"})
    assert str(caught.value).startswith(message)


def test_the_bounds_leave_room() -> None:
    assert render("{% for i in range(99990) %}x{% endfor %}") == "x" * 99_990
    assert render("{{ 'x' * 1000000 }}") == "x" * 1_000_000


def test_undefined_is_empty_where_asked_for() -> None:
    assert render("{{ zz }}|{% if zz %}1{% endif %}|{{ d.zz }}", strict=False) == "||"


@pytest.mark.parametrize(
    ("value", "error"),
    [("a\ufdd0b", "U\\+FDD0"), ({"k": ["\ufdd1"]}, "U\\+FDD0"), ({1, 2}, "not a JSON value"), (b"x", "not a JSON")],
)
def test_values_are_plain_data(value: object, error: str) -> None:
    with pytest.raises(PromptError, match=f"the value of 'v' can't be used: .*{error}"):
        render_template("{{ v }}", {}, {"v": value})


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(PromptError, match="it holds itself"):
        render_template("{{ v }}", {}, {"v": loop})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ label }}", 3),
        ("{{ label + 1 }}", 4),
        ("{{ xs | map('upper') }}", ["A"]),
        ("{{ none }}", None),
        ("{{ label }}!", "3!"),
        ("{{ label }}{{ label }}", "33"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_one_expression_keeps_its_type(template: str, expected: object) -> None:
    assert render_value(template, {"label": 3, "xs": ["a"]}) == expected


@pytest.mark.parametrize("template", ["{{ lable }}", "{{ lable }}!", "{{ label.x }}", "{{ range }}", "{{ label"])
def test_a_value_that_is_not_there_is_an_error(template: str) -> None:
    with pytest.raises(PromptError):
        render_value(template, {"label": 3})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ a }}{% set b = c %}{{ b }}", {"a", "c"}),
        ("{% for item in items %}{% include 'p' %}{% endfor %}", {"items", "other"}),
        ("{% from 'm' import q %}{{ q(1) }}", set()),
        ("{% from 'm' import q with context %}{{ q(1) }}", {"zz"}),
        ("{% extends 'base' %}{% set title = 1 %}", {"foot"}),
        ("{{ range(3) }}{{ namespace() }}{{ x is defined }}", {"x"}),
    ],
)
def test_variables_used(source: str, expected: set[str]) -> None:
    partials = {
        "p": "{{ item }}{{ other }}",
        "m": "{% macro q(a) %}{{ a }}{{ zz }}{% endmacro %}",
        "base": "{{ title }}{{ foot }}",
    }
    assert variables_used(source, partials) == expected


def test_a_use_names_its_first_line() -> None:
    uses = variable_uses("{{ a }}\n{% include 'p' %}\n{{ b }}\n{{ b }}", {"p": "\n{{ c }}"})
    assert uses == {"a": Use("", 1), "b": Use("", 3), "c": Use("p", 2)}


@pytest.mark.parametrize("partials", [{"p": "{% include 'p' %}"}, {"p": "{% include 'q' %}", "q": "{% include 'p' %}"}])
def test_a_cycle_is_refused(partials: dict[str, str]) -> None:
    with pytest.raises(PromptError, match="includes itself"):
        variables_used("{% include 'p' %}", partials)
    with pytest.raises(PromptError, match="includes itself"):
        render("{% include 'p' %}", partials)


def test_references_and_checks_need_no_rendering() -> None:
    found = template_references("{% include 'a/b.jinja' %}\n{% from 'm' import x %}")
    assert [(r.name, r.line) for r in found] == [("a/b.jinja", 1), ("m", 2)]
    with pytest.raises(PromptError, match=r"^p:1: there is no filter 'nope'"):
        check_template("{% include 'p' %}", {"p": "{{ 1 | nope }}"}, "x.prompty")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(exclude_categories=["Cs", "Cn"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_a_value_comes_through_as_it_is(value: object) -> None:
    assert render_value("{{ v }}", {"v": value}) == value
    if isinstance(value, str):
        assert render_template("[{{ v }}]", {}, {"v": value}) == f"[{value}]"
