"""What comparisons show beside their means, tables as files, and Markdown that can do nothing: pure parts."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from workbench.records import ScoreColumns
from workbench.store.runs import Usage, VariantRow
from workbench.views.board import axes_of, case_values, diff_html, is_numeric, pareto_front, spending, word_diff
from workbench.views.export import csv_table, markdown_table
from workbench.views.markdown import TAGS, safe_html


def variant(number: int, prompt: str = "p", revision: str = "r", model: str = "m", **params: object) -> VariantRow:
    return VariantRow(f"v{number}", number, f"v{number}", prompt, revision, model, {"params": params, "vars": {}})


@pytest.mark.parametrize(
    ("variants", "axes"),
    [
        ([variant(0), variant(1)], {}),
        ([variant(0, t=0), variant(1, t=0.5)], {"t": [0, 0.5]}),
        ([variant(0, "p", "r1"), variant(1, "q", "r2")], {"prompt": ["p", "q"]}),
        ([variant(0, "p", "r1"), variant(1, "p", "r2")], {"revision": ["r1", "r2"]}),
        ([variant(0, t=1), variant(1)], {"t": [1, None]}),
        ([variant(0, stop=["a"]), variant(1, stop=["b"])], {"stop": ['["a"]', '["b"]']}),
    ],
)
def test_axes(variants: list[VariantRow], axes: dict[str, list[object]]) -> None:
    assert axes_of(variants) == axes


@pytest.mark.parametrize(
    ("values", "numeric"),
    [([0, 0.5], True), ([1, 1], False), ([1, None], False), ([True, False], False), (["1", "2"], False)],
)
def test_a_curve_needs_numbers(values: list[object], numeric: bool) -> None:
    assert is_numeric(values) == numeric


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({}, set()),
        ({"a": (1, 1)}, {"a"}),
        ({"a": (1, 1), "b": (2, 2)}, {"a", "b"}),
        ({"a": (1, 2), "b": (2, 1)}, {"a"}),
        ({"a": (1, 1), "b": (1, 1)}, {"a", "b"}),
        ({"a": (1, 1), "b": (1, 2)}, {"b"}),
    ],
)
def test_pareto_front(points: dict[str, tuple[float, float]], front: set[str]) -> None:
    assert pareto_front(points) == front


def test_spending_is_an_average_of_answers() -> None:
    took = spending(Usage(5, 4, 1, 40, 8, 2.0, 10.0))
    assert (took.cost, took.seconds, took.tokens) == (0.5, 2.5, 12.0)
    assert spending(Usage(5, 0, 5, 0, 0, None, 0.0)).tokens is None and spending(None).cost is None


@given(
    some.lists(some.tuples(some.integers(0, 2), some.integers(0, 3), some.sampled_from([0.0, 0.5, 1.0])), max_size=30)
)
def test_counted_values_keep_means_and_counts(scores: list[tuple[int, int, float]]) -> None:
    columns = ScoreColumns(
        "s", "fraction", ("a", "b", "c"), ("w", "x", "y", "z"), (None,) * 4,
        [v for v, _, _ in scores], [c for _, c, _ in scores], list(range(len(scores))), [x for *_, x in scores],
    )  # fmt: skip
    values = case_values(columns)
    for v in range(3):
        for c in range(4):
            own = [x for i, j, x in scores if (i, j) == (v, c)]
            assert values.counts[v, c] == len(own)
            assert values.means[v, c] == pytest.approx(np.mean(own) if own else 0)


@given(some.text(max_size=60), some.text(max_size=60))
def test_a_word_diff_holds_both_texts(old: str, new: str) -> None:
    pieces = word_diff(old, new)
    assert "".join(text for what, text in pieces if what != "added") == old
    assert "".join(text for what, text in pieces if what != "removed") == new


@pytest.mark.parametrize(
    ("old", "new", "html"),
    [
        ("the cat", "the dog", "<span>the </span><del>cat</del><ins>dog</ins>"),
        ("<b>", "<b>", "<span>&lt;b&gt;</span>"),
        ("", "\x1b\u202e", "<ins>␛⟨U+202E⟩</ins>"),
        ("a " * 4000, "b", None),
    ],
)
def test_words_that_differ_as_html(old: str, new: str, html: str | None) -> None:
    found = diff_html(word_diff(old, new))
    assert found == html if html is not None else found.count("<") == 4


class Tags(HTMLParser):
    """What a browser would see of tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, object]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append((tag, attrs))


HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)", "<http://evil.example>", "http://evil.example", "[x]: http://evil.example\n\n[x]",
    "```html onclick=x\n<b>\n```", "&#8238; &lt;script&gt;", "<!-- x -->", "<a href='javascript:x'>", "| a | b |\n|:-|-:|\n| <b> | ![x](y) |",
]  # fmt: skip


def check_safe(html: str) -> None:
    parser = Tags()
    parser.feed(html)
    assert not [tag for tag, _ in parser.seen if tag not in TAGS] and not [found for _, found in parser.seen if found]
    assert not re.search("[\x00-\x08\x0e-\x1f\x1b\u202a-\u202e]", html)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_is_harmless(text: str) -> None:
    html = safe_html(text)
    check_safe(html)
    assert "\u202e" not in html


@given(
    some.lists(
        some.sampled_from([*HOSTILE, "*", "_", "`", "\n", "> ", "- ", "# ", "~~", "a", "\x1b", "\u202e", "|"]),
        max_size=12,
    )
)
def test_any_markdown_gives_the_closed_list_of_tags(parts: list[str]) -> None:
    check_safe(safe_html("".join(parts)))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# a", "<h4>a</h4>\n"),
        ("**a** ~~b~~", "<p><strong>a</strong> <del>b</del></p>\n"),
        ("1. a", "<ol>\n<li>a</li>\n</ol>\n"),
        ("3. a", "<ol>\n<li>a</li>\n</ol>\n"),
        ("```py\nx\n```", "<pre><code>x\n</code></pre>\n"),
    ],
)
def test_markdown_is_markdown(text: str, html: str) -> None:
    assert safe_html(text) == html


ROWS = [{"a": "=1+1", "b|c": "x\ny"}, {"a": -2, "b|c": None}, {"a": "<b>![x](http://evil.example)", "b|c": "-"}]


def test_a_table_as_csv_runs_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(csv_table(ROWS))))
    assert rows[0] == ["a", "b|c"] and rows[1] == ["'=1+1", "x\ny"] and rows[2] == ["-2", ""] and rows[3][1] == "'-"
    assert csv_table([]) == ""


def test_a_table_as_markdown_shows_text_as_text() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert len(lines) == 5 and lines[1] == "| --- | --- |" and lines[0] == r"| a | b\|c |"
    assert "<b>" not in lines[4] and "://" not in lines[4]
    assert markdown_table([]) == ""
