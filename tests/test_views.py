"""What people read: numbers with their uncertainty, tables, reports; foreign text stays text everywhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from workbench.errors import UnknownName, UseError
from workbench.records import (
    Case,
    Failure,
    Message,
    Output,
    Request,
    Run,
    Score,
    ScoreColumns,
    ScorerSpec,
    Suite,
    Trial,
    Variant,
)
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.runs import TrialRow, Usage, VariantRow, trial_rows
from workbench.views import format as f
from workbench.views import tables
from workbench.views.charts import axis, interval_svg, text_bar
from workbench.views.html import OUTPUT_CHARS
from workbench.views.model import RunView, find_variant, load_view, scorer_view, side_by_side
from workbench.views.write import csv_cell, markdown_text, view_json, write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![i](https://evil.example/x.png) `a` | b | <b>",
    "\x1b[31mred\x1b[0m \x9b2J \x07",
    "\u202egnp.exe\u2066 \u200b\ufeff\U000e0041",
    '=HYPERLINK("http://evil.example")',
    "@SUM(1)",
    "[bold red]markup[/bold red] [/nothing]",
    "\ud800 lone",
    "{{ 7 * 7 }} {% raw %}",
    "'\"><svg onload=alert(1)>",
)


def make_view(texts=("good", "bad"), cases=12, status="complete", kind="pass") -> tuple[RunView, list[TrialRow]]:
    """A run of two variants whose every text is foreign."""
    name = " ".join(texts)
    variants = tuple(
        VariantRow(f"va1-{i}", i, f"{name} {i}", name, "pr1-abcdef0123456789", name, {"params": {"x": name}})
        for i in range(2)
    )
    index = [(v, c) for v in range(2) for c in range(cases)]
    values = [float(v == 1 or c % 3 == 0) for v, c in index]
    columns = ScoreColumns(
        name, kind, tuple(v.id for v in variants), tuple(f"{name} {c}" for c in range(cases)), (None,) * cases,
        [v for v, _ in index], [c for _, c in index], [0] * len(index), values, (1, 0),
    )  # fmt: skip
    labels = {v.id: v.label for v in variants}
    run = Run("20250101-abcd", name, "prompt", status, "2025-01-01T10:00:00+00:00", None, 2 * cases, 2 * cases - 1, 1,
              {"seed": 0, "suite": name, "note": name})  # fmt: skip
    used = {v.id: Usage(cases, cases - 1, 1, 1234, 56, None, 7.5) for v in variants}
    rows = [
        TrialRow(
            f"tr1-{v}-{c}", variants[v].id, f"{name} {c}", 0, "rq1-0", [{"role": "user", "content": name}],
            {"text": name}, name, (), output(v, c, name),
            (Score(f"tr1-{v}-{c}", name, "sk1-0", value, kind, name),),
        )
        for (v, c), value in zip(index, values, strict=True)
    ]  # fmt: skip
    view = RunView((run,), variants, (scorer_view(columns, labels, "va1-0", 0.05, 0.95),), used, "va1-0")
    return view, rows


def output(v: int, c: int, text: str) -> Output | None:
    if (v, c) == (0, 1):
        return Output("rq1-0", finish_reason="failed", failure=Failure("timeout", text))
    return None if (v, c) == (0, 2) else Output("rq1-0", text, cost=float("nan"), extra={"x": float("inf")})


def written(view: RunView, rows, to: str) -> str:
    stream = io.StringIO()
    write_report(view, iter(rows), to, stream)
    return stream.getvalue()


def shown(renderable, width=120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(renderable)
    return stream.getvalue()


# Numbers


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (f.seconds, None, "–"),
        (f.seconds, 0.0123, "12 ms"),
        (f.seconds, 0.9996, "1.0 s"),
        (f.seconds, 3.44, "3.4 s"),
        (f.seconds, 59.97, "1 min 00 s"),
        (f.seconds, 123, "2 min 03 s"),
        (f.seconds, 3_900, "1 h 05 min"),
        (f.money, None, "unknown"),
        (f.money, 0.0, "$0"),
        (f.money, 0.00123, "$0.0012"),
        (f.money, 1234.5, "$1,234.50"),
        (f.money, 1e-9, "<$0.0001"),
        (f.tokens, 12345, "12,345"),
        (f.tokens, None, "unknown"),
        (f.short_id, "va1-0123456789abcdef", "va1-01234567"),
        (f.p_value, 1e-9, "<0.001"),
        (f.p_value, 0.0312, "0.031"),
        (f.p_value, 1.0, "1.00"),
        (f.p_value, None, "–"),
        (f.number, -1234.5, "−1,234"),
        (f.number, 0.0, "0"),
        (lambda x: f.number(x, 1e-31), 1.2e-30, "1.20e−30"),
        (lambda x: f.number(x, 1e98), -1e100, "−1.000e100"),
        (lambda x: f.number(x, 1e-30), 0.0, "0"),
        (lambda x: f.number(x, 3e-6), 0.000015, "0.0000150"),
        (lambda x: f.number(x, 1e-13), 7.0000001, "7.00000010000000"),
        (f.percent, -0.001, "0"),
        (lambda x: f.number(x, 0.034), 1.23456, "1.235"),
        (lambda x: f.percent(x, 0.001), 0.7654, "76.5"),
    ],
)
def test_numbers(write, value, text) -> None:
    assert write(value) == text


def test_estimates_carry_their_uncertainty() -> None:
    view, _ = make_view()
    (scorer,) = view.scorers
    assert f.estimate(scorer.summaries[0]) == "33 % [14, 61]"
    assert f.estimate(scorer.summaries[1]) == "100 % [74, 100]"
    assert f.difference(scorer.comparisons[0]) == "+67 [30, 86]"
    assert f.estimate(replace(scorer.summaries[0], interval=None)) == "33 % [?]"
    assert f.estimate(replace(scorer.summaries[0], mean=None, counts=(("yes", 3),))) == "yes 3"


# Foreign text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("a\r\nb\tc", "a␍\nb\tc"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("\x9b2J\x7f\x00", "⟨U+009B⟩2J␡␀"),
        ("\ud800", "⟨U+D800⟩"),
        ("日本語 é 👩‍💻 שלום", "日本語 é 👩‍💻 שלום"),
    ],
)
def test_printable(text, expected) -> None:
    assert f.printable(text) == expected


@given(st.text(st.characters(blacklist_categories=())))
def test_printable_text_can_steer_nothing(text) -> None:
    safe = f.printable(text)
    assert not f.UNSAFE.search(safe)
    assert f.printable(safe) == safe
    safe.encode()
    assert "\n" not in f.one_line(text)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("\r=1", "'␍=1"),
        (" =1", "' =1"),
        (-1.5, -1.5),
        (None, None),
        ("plain", "plain"),
    ],
)
def test_csv_cells_are_no_formulas(cell, expected) -> None:
    assert csv_cell(cell) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("`x` *y*\nz", "\\`x\\` \\*y\\*␊z"),
        ("@someone https://x.example", "&#64;someone https:&#47;/x.example"),
    ],
)
def test_markdown_text_stays_text(text, expected) -> None:
    assert markdown_text(text) == expected


class Tags(HTMLParser):
    """All tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))


ALLOWED = """html head meta title style body header main section h1 h2 h3 p strong span br div table thead tbody
tr th td a pre details summary ul li svg line circle"""


def check_page(page: str) -> None:
    """Nothing but the page's own tags, no outside address, a policy that allows its own style sheet only."""
    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.found} <= set(ALLOWED.split())
    for _, attributes in tags.found:
        assert not {a for a in attributes if a.startswith("on") or a in ("src", "style", "action")}
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for t, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy
    assert "<script" not in page
    assert not f.UNSAFE.search(page)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_every_report(text) -> None:
    view, rows = make_view((text,))
    check_page(written(view, rows, "html"))
    markdown = written(view, rows, "md")
    assert not f.UNSAFE.search(markdown)
    assert "<script" not in markdown
    assert "](" not in markdown
    assert "://" not in markdown
    for table in (
        *tables.run_tables(view),
        tables.run_line(view),
        tables.compare_table(view, view.scorers[0]),
        tables.trial_panel(rows[0], text),
        tables.runs_table(view.runs),
        tables.variants_table(view.variants),
    ):
        assert not f.UNSAFE.search(re.sub("\x1b\\[[0-9;]*m", "", shown(table)))
    if text.startswith("[bold"):
        assert "[bold red]markup" in " ".join(shown(tables.trial_panel(rows[0], text)).split())


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(blacklist_categories=()), max_size=40))
def test_any_text_survives_the_reports(text) -> None:
    view, rows = make_view((text,), cases=3)
    check_page(written(view, rows, "html"))
    found = json.loads(written(view, rows, "json"))
    assert found["trials"][0]["output"]["text"] == text
    assert found["run"]["suite"] == text
    lines = list(csv.reader(io.StringIO(written(view, rows, "csv"), newline="")))
    assert len(lines) == 1 + len(rows)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert not [cell for line in lines for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


# Reports


def test_json_report_has_its_documented_shape() -> None:
    view, rows = make_view()
    text = written(view, rows, "json")
    assert "NaN" not in text
    assert "Infinity" not in text
    found = json.loads(text)
    assert list(found) == ["schema", "run", "reference", "quarantined", "variants", "scorers", "gates", "trials"]
    assert found["schema"] == "workbench-report/1"
    assert {k: v for k, v in found.items() if k != "trials"} == json.loads(json.dumps(view_json(view)))
    assert len(found["trials"]) == 24
    assert found["trials"][3]["output"]["cost"] is None
    assert found["variants"][0]["usage"]["cost"] is None
    (scorer,) = found["scorers"]
    shape = [
        "name",
        "kind",
        "summaries",
        "comparisons",
        "sentence",
        "ranking",
        "sees",
        "power",
        "standing",
        "equal_length",
    ]
    assert list(scorer) == shape
    assert scorer["comparisons"][0]["verdict"] == "better"
    assert scorer["summaries"][0]["missing"] == 1


@pytest.mark.parametrize(
    ("cases", "told"), [(4, "[?]: not enough data: 4 cases"), (12, "[?]: all 12 values are the same")]
)
def test_a_table_says_why_an_interval_is_missing(cases: int, told: str) -> None:
    view, _ = make_view(cases=cases, kind="number")
    (table,) = tables.run_tables(view)
    assert str(table.caption) == told


def test_html_report_shows_what_matters() -> None:
    view, rows = make_view()
    page = written(view, rows, "html")
    check_page(page)
    for text in ("✓", "✗", "!", "33 % [14, 61]", "+67 [30, 86]", "timeout", "not asked yet", "unknown", "(reference)",
                 "1 trials unscored", view.scorers[0].sentence.replace("'", "&#39;"), "pr1-abcdef01", "Wilson",
                 "prefers-color-scheme: dark", 'name="viewport"', "The suite as it was"):  # fmt: skip
        assert text in page
    assert page.count('<svg class="interval"') == 3
    assert "Incomplete" not in page


def test_an_unfinished_run_says_so_everywhere() -> None:
    view, rows = make_view(status="interrupted")
    assert "Incomplete" in written(view, rows, "html")
    assert "Incomplete" in written(view, rows, "md")
    assert "incomplete" in shown(tables.run_line(view))


def test_a_long_output_is_cut_with_a_note() -> None:
    view, rows = make_view(cases=3)
    long = replace(rows[0], output=Output("rq1-0", "x" * 1_000_000))
    page = written(view, [long], "html")
    assert len(page) < 100_000
    assert f"[{OUTPUT_CHARS:,} of 1,000,000 characters shown]" in page
    assert len(written(view, [long], "json")) > 1_000_000


def test_a_large_run_is_cut_in_html_only() -> None:
    view, rows = make_view(cases=3)
    many = [replace(rows[0], case_id=f"case {i}") for i in range(700)]
    page = written(view, many, "html")
    assert "The first 500 cases are shown; 200 trials of other cases are left out." in page
    assert page.count("<details id=") == 500
    assert len(json.loads(written(view, many, "json"))["trials"]) == 700


def test_a_run_without_scores_has_a_report() -> None:
    view, rows = make_view()
    bare = replace(view, scorers=(), usage={})
    for to in ("html", "md", "json", "csv"):
        assert written(bare, [replace(r, scores=()) for r in rows], to)
    assert "variant" in shown(tables.run_tables(bare)[0])


def test_a_report_replaces_the_old_one_only_when_it_is_whole(tmp_path) -> None:
    view, rows = make_view()
    path = tmp_path / "new" / "report.html"
    write_report(view, rows, "html", path)
    before = path.read_text()
    check_page(before)

    def breaks():
        yield rows[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_report(view, breaks(), "json", path)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_what_can_t_be_written_is_one_line(tmp_path) -> None:
    view, rows = make_view()
    (tmp_path / "file").write_text("")
    with pytest.raises(UseError, match=r"^can't write .*file/report.md: .*; choose another place with --out$"):
        write_report(view, rows, "md", tmp_path / "file" / "report.md")
    with pytest.raises(UnknownName, match="unknown report form 'htlm'; did you mean 'html'"):
        write_report(view, rows, "htlm", io.StringIO())


# Tables and charts


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_table_fits_the_terminal(width: int) -> None:
    view, _ = make_view()
    for table in tables.run_tables(view, width):
        lines = shown(table, width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[-1].endswith("┘"), "no column is cut off"
        assert width < 80 or any(
            word in "".join(lines) for word in ("not enough data", "better", "worse", "equivalent")
        )


@pytest.mark.parametrize(("width", "drawn"), [(80, False), (120, True)])
def test_intervals_are_drawn_whole_or_not_at_all(width: int, drawn: bool) -> None:
    view, _ = make_view()
    text = shown(tables.compare_table(view, view.scorers[0], width), width)
    assert ("●" in text) is drawn
    assert not drawn or re.search(r"│ [·─┼│●]{21} │", text)


def test_a_comparison_shows_what_would_settle_it() -> None:
    view, _ = make_view(cases=3)
    text = " ".join(shown(tables.compare_table(view, view.scorers[0]), 160).split())
    assert "not enough data" in text
    assert "more cases" in text


def test_a_trial_shows_messages_answer_and_reasons() -> None:
    _, rows = make_view(("hello",))
    assert shown(tables.trial_panel(rows[3], "few-shot")).count("hello") == 6
    assert "failed (timeout): hello" in shown(tables.trial_panel(rows[1], "few-shot"))
    assert "not asked yet" in shown(tables.trial_panel(rows[2], "few-shot"))
    assert tables.trial_json(rows[0], "few-shot")["variant"] == "few-shot"


@pytest.mark.parametrize(
    ("place", "bar"),
    [
        ((0.25, 0.5, 0.75, 0, 1), "··──●──··"),
        ((-0.5, 0.5, 0.75, -1, 1), "··──┼─●─·"),
        ((0.5, 0.75, 1, -1, 1), "····│·─●─"),
        ((0.5, 0.5, 0.5, 0.5, 1), "●········"),
    ],
)
def test_text_bars(place, bar) -> None:
    assert text_bar(*place, width=9) == bar


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=5), st.booleans())
def test_drawn_intervals_stay_on_their_axis(rows, symmetric) -> None:
    bounds = [(low, low + width) for low, width in rows]
    lo, hi = axis(bounds, symmetric)
    assert lo < hi
    for low, high in bounds:
        assert len(text_bar(low, (low + high) / 2, high, lo, hi)) == 21
        places = re.findall(r'(?:x1|x2|cx)="([\d.]+)"', interval_svg(low, (low + high) / 2, high, lo, hi))
        assert all(0 <= float(x) <= 160 for x in places)


# From the store


@pytest.fixture
def two_runs(tmp_path):
    """Two runs of one suite, in a store: variants a and b on 30 cases; in the second run, a is better too."""
    variants = [Variant("p", "pr1-0", "m", {"temperature": t}, label=f"t={t}") for t in (0, 1)]
    cases = tuple(Case(f"c{i:02}", {"text": f"text {i}"}, "yes") for i in range(30))
    suite = Suite("demo", "prompt", tuple(variants), cases, (ScorerSpec("exact", "exact"),), {}, {})
    database = Database.open(f"sqlite:///{tmp_path}/runs.db")
    for run in ("r1", "r2"):
        trials = [(Trial(v, c, 0), f"rq1-{run}-{i}-{c.id}") for i, v in enumerate(variants) for c in cases]
        answered, scores = [], []
        for i, (trial, request) in enumerate(trials):
            good = trial.variant is variants[1] or run == "r2" or i % 2 == 0
            answered.append(
                (Request(request, "m", (Message.of("user", "hi"),)), "m1", Output(request, "yes", cost=0.5))
            )
            scores.append(Score(trial.id, "exact", "sk1-0", float(good), "pass", "equal"))
        with database.write() as connection:
            header = {"scorers": ["exact"], "reference": variants[0].id, "margin": 0.1}
            recording.start_run(connection, run, suite, recording.Plan(run, trials), header)
            recording.keep(connection, run, answered)
            recording.save_scores(connection, run, scores)
            recording.end_run(connection, run, "complete", {})
    yield database
    database.close()


def test_a_run_is_viewed_and_reported_from_the_store(two_runs) -> None:
    with two_runs.read() as connection:
        view = load_view(connection, "r1")
        for to in ("html", "md", "json", "csv"):
            assert written(view, trial_rows(connection, "r1"), to)
        other = load_view(connection, "r1", reference="t=1")
    (scorer,) = view.scorers
    assert scorer.sentence == ("On exact, t=1 beats the reference t=0 by 50 points (95 % interval 30 to 67, 30 cases).")
    assert scorer.comparisons[0].margin == 0.1
    assert view.usage[view.variants[0].id].cost == 15.0
    assert other.scorers[0].comparisons[0].verdict == "worse"


def test_runs_are_compared_from_the_store(two_runs) -> None:
    with two_runs.read() as connection:
        view = load_view(connection, ["r1", "r2"])
        with pytest.raises(UnknownName, match="unknown run 'r3'"):
            load_view(connection, "r3")
    (scorer,) = view.scorers
    assert [v.label for v in view.variants] == ["t=0 @ r1", "t=1 @ r1", "t=0 @ r2", "t=1 @ r2"]
    assert view.reference == view.variants[0].id
    assert [row.verdict for row in scorer.comparisons] == ["better"] * 3
    assert "t=0 @ r1" in shown(tables.run_tables(view)[0])


# Several runs


def test_runs_side_by_side_pair_their_cases_by_id() -> None:
    first = ScoreColumns("s", "pass", ("a",), ("x", "y"), (None, "k"), [0, 0], [0, 1], [0, 0], [1.0, 0.0], (0,))
    second = ScoreColumns("s", "pass", ("a",), ("y", "z"), (None, None), [0, 0], [0, 1], [0, 0], [1.0, 1.0], (2,))
    both = side_by_side([first, second], ["1/a", "2/a"])
    assert (both.variants, both.cases, both.clusters) == (("1/a", "2/a"), ("x", "y", "z"), (None, "k", None))
    assert (list(both.variant), list(both.case), both.missing) == ([0, 0, 1, 1], [0, 1, 1, 2], (0, 2))
    row = scorer_view(both, {"1/a": "one", "2/a": "two"}, "1/a", 0.05, 0.95).comparisons[0]
    assert (row.pairs, row.difference) == (1, 1.0)
    with pytest.raises(UseError, match="gives another kind of value in each run"):
        side_by_side([first, replace(second, kind="number")], ["1/a", "2/a"])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (None, "1/va1-aa"),
        ("1/va1-ab", "1/va1-ab"),
        ("va1-aa", "1/va1-aa"),
        ("few-shot", "1/va1-ab"),
        ("va1-ab", "1/va1-ab"),
        ("va1-a", UnknownName),
        ("few", UnknownName),
    ],
)
def test_a_variant_is_found_by_id_label_or_beginning(name, found) -> None:
    rows = [
        VariantRow(f"{run}/{identity}", 0, f"{label} @ {run}", "p", "r", "m", {})
        for run in (1, 2)
        for identity, label in (("va1-aa", "zero-shot"), ("va1-ab", "few-shot"))
    ]
    if isinstance(found, str):
        assert find_variant(rows, name) == found
    else:
        with pytest.raises(found, match="unknown variant"):
            find_variant(rows, name)
