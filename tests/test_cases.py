"""Cases that deserve a look: the kernels on tables small enough to check by hand, the lists on a run on `echo`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import UnknownName
from workbench.evaluate import run_suite
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.stats import cases as kernels
from workbench.stats.cases import CaseValues
from workbench.store.database import Database
from workbench.views import cases as views
from workbench.views.model import load_view


def counted(scores: list[list[list[float]]]) -> CaseValues:
    """Scores, variant × case × repeat, of any number of repeats, counted."""
    cells = [
        (v, c, value, repeats.count(value))
        for v, row in enumerate(scores)
        for c, repeats in enumerate(row)
        for value in dict.fromkeys(repeats)
    ]
    variant, case, value, count = zip(*cells, strict=True) if cells else ((), (), (), ())
    ints = [np.array(x, dtype=np.int64) for x in (variant, case, count)]
    return CaseValues(len(scores), len(scores[0]), ints[0], ints[1], np.array(value, dtype=float), ints[2])


TABLE = counted(
    [
        [[1, 1], [0, 0], [1, 0], [1], [1, 1]],
        [[1, 1], [0, 0], [1, 1], [], [0, 1]],
        [[0, 0], [0, 1], [0, 0], [0], [1, 0]],
    ]
)


def test_the_hardest_come_first_with_what_they_rest_on() -> None:
    order, mean, variants = kernels.hardest(TABLE)
    assert order.tolist() == [1, 2, 3, 0, 4]
    assert mean == pytest.approx([1 / 6, 1 / 2, 1 / 2, 2 / 3, 2 / 3])
    assert variants.tolist() == [3, 3, 2, 3, 3]


def test_disputed_cases() -> None:
    order, gap = kernels.disputed(TABLE, 0, 2)
    assert order.tolist() == [0, 3, 1, 2, 4]
    assert gap.tolist() == [1, 1, -0.5, 0.5, 0.5]
    swapped, other = kernels.disputed(TABLE, 2, 0)
    assert (swapped.tolist(), other.tolist()) == (order.tolist(), (-gap).tolist())
    assert kernels.disputed(TABLE, 0, 0)[0].tolist() == []


def test_flaky_cases() -> None:
    order, chance, variants = kernels.flaky(TABLE)
    assert order.tolist() == [4, 1, 2]
    assert chance == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert variants.tolist() == [2, 1, 1]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=8))
def test_flakiness_is_the_share_of_pairs_of_repeats_that_differ(repeats: list[float]) -> None:
    pairs = [(a, b) for i, a in enumerate(repeats) for b in repeats[i + 1 :]]
    chance, there = counted([[repeats]]).flips()
    assert there.all()
    assert chance[0, 0] == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))


def test_suspicious_cases_are_failed_by_every_strong_variant() -> None:
    values = counted([[[1], [0], [1], [1]], [[1], [0], [1], [0]], [[0], [1], [0], [0]]])
    strong = kernels.strong_variants(values)
    assert strong.tolist() == [0, 1], "means 0.75, 0.5, 0.25"
    order, bits = kernels.suspicious(values, strong)
    assert order.tolist() == [1]
    assert bits == pytest.approx([-math.log2(0.25) - math.log2(0.5)])
    weak = counted([[[0], [0], [1]]])
    assert kernels.suspicious(weak, kernels.strong_variants(weak))[0].tolist() == [], "no variant is strong"


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        ([], []),
        (["", ""], [[0, 1]]),
        (["one of a kind"], []),
        (["The cat sat on the mat today.", "Nothing like it at all.", "the  CAT sat on the mat today!"], [[0, 2]]),
        (["a" * 50, "b" * 50, "a" * 51, "b" * 50, "a" * 52], [[0, 2, 4], [1, 3]]),
        (["what is 2 + 2?", "what was the year of the great fire of London?"], []),
        (["ééé 漢字 漢字 漢字 text", "ééé 漢字 漢字 漢字 texts"], [[0, 1]]),
    ],
)
def test_near_duplicates(texts: list[str], groups: list[list[int]]) -> None:
    assert kernels.near_duplicates(texts) == groups


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_copies_with_a_small_edit_are_found_among_others(seed: int) -> None:
    random = Random(seed)
    words = ["".join(random.choices("abcdefghijklmnop", k=6)) for _ in range(400)]
    texts = [" ".join(random.sample(words, 25)) for _ in range(30)]
    texts += [text.replace(" ", "  ", 3)[:-1] + "X" for text in texts[:5]]
    found = kernels.near_duplicates(texts)
    assert sorted(found) == [[i, 30 + i] for i in range(5)]


def test_many_cases_meet_only_their_like() -> None:
    """10,000 templated cases: not each with each, which would be 50 million comparisons."""
    random = np.random.default_rng(0)
    words = np.array(["".join(map(chr, random.integers(97, 123, 7))) for _ in range(3_000)])
    texts = [f"Question: {' '.join(random.choice(words, 12))}?" for _ in range(2_000)]
    texts += texts[:100]
    assert len(kernels._meetings(texts)) < 10 * len(texts)
    assert len(kernels.near_duplicates(texts)) == 100


@pytest.mark.parametrize(
    ("sizes", "cases", "worth"), [([], 10, 10), ([10], 10, 1), ([2], 4, 16 / 6), ([5, 5], 10, 2), ([], 0, 0)]
)
def test_what_copies_are_worth(sizes: list[int], cases: int, worth: float) -> None:
    assert kernels.effective_cases(sizes, cases) == pytest.approx(worth)


# Lists

SUITE = """
name: s
prompts: [a, b]
models: [house]
params: {temperature: 1, max_tokens: 5}
repeats: 8
cases: data.jsonl
scorers: [contains, latency]
"""
ANSWERS = (
    "'^A .*wrong': '[red]no', '^A .*flaky': ['yes', 'no'], '^A ': 'yes', '^B .*easy': 'yes', '^B .*wrong': '[red]no'"
)
HOUSE = f"models: {{house: {{engine: echo, options: {{answers: {{{ANSWERS}}}}}}}}}"
CASES = ["an easy question 1", "an easy question 2", "an easy question 3", "hard", "flaky one", "wrong \x1b[31m"]


@pytest.fixture
def run(tmp_path: Path):
    for name in "ab":
        write(tmp_path / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ what }}}}")
    rows = [{"id": f"c{i}", "what": what, "expected": "yes"} for i, what in enumerate(CASES)]
    write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    write(tmp_path / "workbench.yaml", HOUSE)
    write(tmp_path / "evals/s.yaml", SUITE)
    project = load_project(tmp_path)
    suite = load_suite("s", project, Library(project.library_root), SCORERS.names())
    database = Database.open(project.store_url)
    progress, _ = run_suite(prepare_suite(suite, tmp_path), database)
    with database.read() as connection:
        yield connection, progress.run, tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_lists_of_a_run(run) -> None:
    connection, name, _ = run
    hard = views.hardest_cases(connection, name)
    assert (hard.scorer, hard.found, hard.cases) == ("contains", 6, 6)
    assert (hard.rows[0].case, hard.rows[0].figure, hard.rows[0].variants) == ("c5", 0.0, 2)
    assert views.hardest_cases(connection, name, limit=1).rows == hard.rows[:1]
    disputed = views.disputed_cases(connection, name, "a", "b")
    assert [row.case for row in disputed.rows] == ["c3", "c4"]
    assert disputed.rows[0].note == "a 1, b 0"
    flaky = views.flaky_cases(connection, name)
    assert [row.case for row in flaky.rows] == ["c4"]
    suspicious = views.suspicious_cases(connection, name)
    assert [(row.case, row.note) for row in suspicious.rows] == [("c5", "8 of 8 answers: [red]no")]
    alike = views.duplicate_cases(connection, name)
    assert alike.groups == (("c0", "c1", "c2"),)
    assert (alike.cases, alike.different, alike.effective) == (6, 4, 3.0)
    assert "n is inflated by 100 %" in alike.note
    assert views.cases_not_asked(connection, name).rows == ()


@pytest.mark.parametrize(
    ("options", "code", "seen"),
    [
        ([], 0, "6 of 6 cases hardest"),
        (["--flaky"], 0, "repeats of 1 variant differ"),
        (["--suspicious"], 0, "8 of 8 answers: [red]no"),
        (["--disagree", "a", "b"], 0, "a is higher on 2, b on 0"),
        (["--duplicates"], 0, "group of near-duplicates"),
        (["--not-asked"], 0, "0 of 6 cases not asked"),
        (["--scorer", "latency"], 0, "lowest first, by scorer latency"),
        (["--suspicious", "--scorer", "latency"], 2, "gives numbers, of which none is a failure"),
        (["--scorer", "contians"], 2, "unknown scorer 'contians'; did you mean 'contains'?"),
        (["--disagree", "a", "c"], 2, "unknown variant 'c'"),
        (["--flaky", "--disagree", "a", "b"], 2, "choose one list"),
        (["--limit", "0"], 2, "0 is not in the range"),
    ],
)
def test_the_command(run, capsys, monkeypatch, options: list[str], code: int, seen: str) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    capsys.readouterr()
    assert main(["--project", str(run[2]), "cases", "latest", *options]) == code
    told = capsys.readouterr()
    assert seen in told.out + told.err
    assert "\x1b[31m" not in told.out, "what a case says steers no terminal"


@pytest.mark.parametrize(
    ("options", "key"),
    [([], "figure"), (["--flaky"], "figure"), (["--suspicious"], "note"), (["--duplicates"], "groups")],
)
def test_the_command_as_json(run, capsys, options: list[str], key: str) -> None:
    capsys.readouterr()
    assert main(["--project", str(run[2]), "cases", "latest", "--json", *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(key in line and line["run"] == run[1] for line in lines)
    assert lines


@pytest.mark.parametrize(
    ("cases", "field", "inputs"),
    [
        ("{file: d.jsonl, expected: gold}", "gold", ["what", "why"]),
        ("{file: d.jsonl, expected: gold, inputs: {answer: gold}}", "gold", ["what", "why", "answer"]),
        ("{file: d.jsonl}", "expected", ["what", "why"]),
        ("d.jsonl", "expected", ["what", "why"]),
        ("{file: d.jsonl}", "gold", ["what", "why", "gold"]),
    ],
)
def test_an_expected_answer_under_another_name_is_no_input_of_the_lists(
    run, capsys, cases: str, field: str, inputs: list[str]
) -> None:
    root = run[2]
    rows = [{"id": f"r{i}", "what": "same words", "why": "no", field: gold} for i, gold in enumerate(["yes", "never"])]
    write(root / "d.jsonl", "\n".join(map(json.dumps, rows)))
    scorers = "[exact, contains]" if inputs[-1] != "gold" else "[{exact: {expected: '{{ gold }}'}}]"
    write(root / "evals/d.yaml", f"prompts: a\nmodels: house\ncases: {cases}\nscorers: {scorers}\n")
    assert main(["--project", str(root), "run", "d", "--quiet"]) == 0
    capsys.readouterr()
    for options in ([], ["--duplicates"], ["--not-asked"]):
        assert main(["--project", str(root), "cases", "latest", "--json", *options]) == 0
        for line in map(json.loads, capsys.readouterr().out.splitlines()):
            shown = line["inputs"] if options == ["--duplicates"] else [line["inputs"]]
            assert all(list(one) == inputs for one in shown)
    assert main(["--project", str(root), "cases", "latest"]) == 0
    assert capsys.readouterr().out.count("never") == (2 if inputs[-1] == "answer" else 1)


def test_lists_that_cannot_be(run) -> None:
    connection, name, _ = run
    with pytest.raises(UnknownName):
        views.hardest_cases(connection, "nosuchrun")
    with pytest.raises(UnknownName):
        views.flaky_cases(connection, name, "nosuchscorer")


def test_answers_held_against_themselves_are_unchanged(run) -> None:
    """A second run reuses all answers: its comparison with the first shows nothing."""
    connection, first, root = run
    assert main(["--project", str(root), "run", "s", "--quiet"]) == 0
    connection.rollback()
    second = views.get_run(connection, "latest").id
    assert second != first
    view = load_view(connection, [first, second], "a")
    rows = {row.variant: row.verdict for row in view.scorers[0].comparisons}
    a, b = (v.id.rpartition("/")[2] for v in view.variants[:2])
    assert rows[f"{second}/{a}"] == "unchanged, not measured again"
    assert rows[f"{first}/{b}"] == rows[f"{second}/{b}"] != "unchanged, not measured again"
    assert "unchanged, not measured again: the same answers as" in view.scorers[0].sentence
