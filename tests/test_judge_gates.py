"""Gates on judges: decided by what people say of outputs drawn at random, never by the judge's own mean alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_judge_calibration import PAIR, RUBRIC

from workbench.cli import main
from workbench.judges.estimates import people_estimates
from workbench.judges.labelling import Sample, draw, write_labels
from workbench.loopback import Script, serve
from workbench.records import Json
from workbench.stats.gates import Claim, decide
from workbench.stats.ppi import PeopleSample, labels_for
from workbench.store import runs
from workbench.store.database import Database

MODELS = """
models:
  house: {engine: echo}
  lenient: {engine: echo, options: {answers: {'Please': good, 'fine|smooth': good, 'poor': bad}}}
  first: {engine: echo, options: {answers: {'First: Please': first, 'Second: Please': second}}}
"""
KINDS = ("fine", "fine", "fine", "smooth", "poor")
"""Of five texts people like three, the judge four."""
CASES = 300
Row = dict[str, Json]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def suite(root: Path, gate: str, more: str = "prompts: [plain]", scorers: str = "") -> None:
    judge = "judge: {rubric: good, model: lenient, passes: [good]}"
    write(
        root / "evals/ask.yaml",
        f"name: ask\nmodels: [house]\ncases: data.jsonl\n{more}\nscorers: [{scorers or judge}]\ngates:\n  - {{{gate}}}\n",
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cases = [{"id": f"c{i:03}", "text": f"{KINDS[i % 5]} {i}"} for i in range(CASES)]
    write(tmp_path / "data.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
    write(tmp_path / "prompts/good.prompty", RUBRIC)
    write(tmp_path / "prompts/pair.prompty", PAIR)
    write(tmp_path / "prompts/plain.prompty", "user:\n{{ text }}")
    write(tmp_path / "prompts/polite.prompty", "user:\nPlease, {{ text }}")
    write(tmp_path / "workbench.yaml", MODELS)
    return tmp_path


def call(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def store(root: Path) -> Database:
    return Database.open(f"sqlite:///{root}/.workbench/runs.db")


def licence(root: Path) -> None:
    """One for each judge of the newest run, as if it had been measured on other outputs."""
    with store(root).read() as connection:
        judges = runs.get_run(connection, "latest").header["judges"]
    figures = {"random": 200, "n": 200, "kappa": {"value": 0.8, "low": 0.7, "high": 0.9}, "position": None}
    bar = {"labels": 100, "kappa_low": 0.4, "position_bias": 0.1}
    for name, (part, *_) in judges.items():
        told = {**part, "figures": figures, "bar": bar, "made": "2026-01-01", "expires": "2999-01-01"}
        write(root / f"evals/judges/{name}.json", json.dumps(told))


def run(root: Path) -> None:
    assert call(root, "run", "ask", "--quiet") == 0
    licence(root)


def people(row: Row) -> str:
    return "good" if "fine" in row["output"] else "bad"


def label(root: Path, rows: list[Row], says: Callable[[Row], str] = people, name: str = "a") -> None:
    write_labels(root, f"evals/labels/{name}.jsonl", [{**row, "label": says(row)} for row in rows])


def judged(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = call(root, "gate", "latest")
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("bound", "code", "verdict"),
    [
        (0.75, 1, "FAIL: judge at least 0.75 · plain: "),
        (0.6, 4, "not enough data: judge at least 0.6 · plain: "),
        (0.4, 0, "pass: judge at least 0.4 · plain: "),
    ],
)
def test_a_lenient_judge_does_not_decide(root: Path, capsys, bound: float, code: int, verdict: str) -> None:
    """The judge likes 80 %, which would pass at 0.75; people like 60 %."""
    suite(root, f"scorer: judge, at_least: {bound}")
    run(root)
    label(root, draw(store(root), "latest", Sample(90, seed=1)))
    found, told = judged(root, capsys)
    assert found == code
    assert verdict in told
    assert "by people's labels of 90 (the judge alone 80.0 %) on 300 cases" in told
    assert ("prediction-powered 95 % bound" in told) == (code != 4)
    assert bool(re.search(r"about [\d,]+ cases, each with a label, would bring", told)) == (code == 4)
    assert call(root, "gate", "latest", "--json") == code
    result = json.loads(capsys.readouterr().out.splitlines()[0])
    decision = result["decision"]
    assert (decision["method"], decision["labels"], decision["judge"]) == ("prediction-powered", 90, 0.8)
    assert decision["lower"] < 0.6 < decision["upper"]


def skipped(rows: list[Row]) -> list[Row]:
    return [{**row, "label": people(row) if people(row) == "good" else None} for row in rows]


def cut(rows: list[Row]) -> list[Row]:
    return [row for row in skipped(rows) if row["label"]]


def begun(rows: list[Row]) -> list[Row]:
    return [{**row, "label": people(row) if i < 80 else None} for i, row in enumerate(rows)]


def by_hand(rows: list[Row]) -> list[Row]:
    return [{**row, "label": people(row), "probability": None} for row in rows]


def other_scale(rows: list[Row]) -> list[Row]:
    return [{**row, "label": "7"} for row in rows]


@pytest.mark.parametrize(
    ("labelled", "code", "said"),
    [
        (lambda rows: [{**row, "label": people(row)} for row in rows], 0, "by people's labels of 200"),
        (begun, 0, "by people's labels of 80"),
        (lambda rows: begun(rows[:0]), 4, "0 of its outputs, drawn at random, have a label of people; 50 are needed"),
        (lambda rows: [{**r, "label": people(r) if i < 49 else None} for i, r in enumerate(rows)], 4, "49 of its outputs"),
        (skipped, 4, "note: labels that don't count: evals/labels/a.jsonl was not labelled in its order (line "),
        (cut, 4, "note: labels that don't count: rows of a draw are gone"),
        (by_hand, 4, "0 of its outputs, drawn at random"),
        (lambda rows: [{**row, "label": "good", "scorer": "panel"} for row in rows], 4, "0 of its outputs"),
    ],
)  # fmt: skip
def test_which_labels_count(root: Path, capsys, labelled, code: int, said: str) -> None:
    """All labels, or all up to a row: the file's order is random. Where people chose, nothing is said."""
    suite(root, "scorer: judge, at_least: 0.4")
    run(root)
    write_labels(root, "evals/labels/a.jsonl", labelled(draw(store(root), "latest", Sample(200, seed=2))))
    found, told = judged(root, capsys)
    assert found == code, told
    assert said in told
    assert "workbench judge sample RUN -n 100" in told or code == 0


def test_a_label_that_the_judge_lacks_is_told(root: Path, capsys) -> None:
    numbers = "judge: {rubric: good, model: lenient, scale: [1, 2, 3]}"
    suite(root, "scorer: judge, at_least: 0.4", scorers=numbers)
    write(root / "workbench.yaml", MODELS.replace("good", "'3'").replace("bad", "'1'"))
    run(root)
    label(root, draw(store(root), "latest", Sample(60, seed=2)), lambda row: "fair")
    found, told = judged(root, capsys)
    assert found == 4
    assert "the label 'fair' of case 'c" in told


def test_the_judges_own_mean_decides_only_where_the_suite_says_so_and_says_it(root: Path, capsys) -> None:
    suite(root, "scorer: judge, at_least: 0.7, unlicensed: allow")
    assert call(root, "run", "ask", "--quiet") == 0
    found, told = judged(root, capsys)
    assert found == 0
    assert "note: scorer 'judge': the judge's own mean decides, as 'unlicensed: allow' has it; 0 of its outputs" in told


GOOD = "judge: {rubric: good, model: lenient, passes: [good]}"
MIXED = f"weighted: {{parts: [{{score: {{{GOOD}}}}}, {{score: {{contains: fine}}, weight: 3}}]}}"


@pytest.mark.parametrize(
    ("scorers", "code", "said"),
    [
        (f"{{{MIXED}, as: both}}, {{{GOOD}}}", 0, "% by people's labels of 90 (the judge alone 65.0 %)"),
        (f"{{{MIXED}, as: both}}", 4, "put the same judge among the scorers too"),
        (f"{{all: [{{{GOOD}}}, {{contains: fine}}], as: both}}, {{{GOOD}}}", 4, "give the judge a gate of its own"),
        (f"{{{MIXED[:-1]}, at_least: 0.5}}, as: both}}, {{{GOOD}}}", 4, "or in a 'weighted' without at_least"),
        (f"{{not: {{all: [{{{GOOD}}}]}}, as: both}}, {{{GOOD}}}", 4, "only as 'not' of a judge"),
        (f"{{not: {{{GOOD}}}, as: both}}", 4, "put the same judge among the scorers too"),
        (
            f"{{weighted: {{parts: [{{score: {{{MIXED}}}}}]}}, as: both}}, {{{GOOD}}}",
            4,
            "that holds one judge, unnested",
        ),
    ],
)
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_judge_among_others_is_corrected_where_it_adds_up(
    root: Path, capsys, scorers: str, code: int, said: str, repeats: int
) -> None:
    """The judge's 80 % are a quarter of 65; by people's 60 % it is 60."""
    suite(root, "scorer: both, at_least: 0.5", f"prompts: [plain]\nrepeats: {repeats}", scorers)
    run(root)
    label(root, draw(store(root), "latest", Sample(90, seed=1)))
    found, told = judged(root, capsys)
    assert found == code, told
    assert said in told
    assert code or re.search(r"plain: (59|60|61)\.\d %", told), told


@pytest.mark.parametrize(("bound", "code"), [(0.25, 0), (0.55, 1)])
@pytest.mark.parametrize("repeats", [1, 2])
def test_not_of_a_judge_is_corrected_the_other_way_round(
    root: Path, capsys, bound: float, code: int, repeats: int
) -> None:
    """The judge dislikes 20 %, people 40 %: what is said of the one is that of the other taken from 1."""
    more, scorers = f"prompts: [plain]\nrepeats: {repeats}", f"{{not: {{{GOOD}}}, as: both}}, {{{GOOD}}}"
    suite(root, f"scorer: both, at_least: {bound}", more, scorers)
    run(root)
    label(root, draw(store(root), "latest", Sample(120, seed=1)))
    found, told = judged(root, capsys)
    assert found == code, told
    assert "(the judge alone 20.0 %)" in told
    with store(root).read() as connection:
        newest = runs.get_run(connection, "latest").id
    estimates = {scorer: found for (scorer, _), found in people_estimates(root, store(root), newest).items()}
    own, turned = estimates["both"], estimates["judge"]
    assert own.value == pytest.approx(1 - turned.value)
    assert own.interval == pytest.approx((1 - turned.interval[1], 1 - turned.interval[0]))


@pytest.mark.parametrize(
    ("often", "code", "said"),
    [
        (0.9, 0, "by people's labels of "),
        (0.3, 0, "by people's labels of "),
        (0.25, 4, "drawn with probabilities from 0.25 to 0.9; of repeats and clusters they may differ 3 times at most"),
    ],
)
def test_labels_drawn_by_someone_with_probabilities_of_their_own(
    root: Path, capsys, often: float, code: int, said: str
) -> None:
    """Each output by itself, those that the judge likes with another chance; the rows tell no draw of ours."""
    suite(root, "scorer: judge, at_least: 0.4", "prompts: [plain]\nrepeats: 2")
    run(root)
    rng, rows = np.random.default_rng(3), []
    for row in draw(store(root), "latest", Sample(600, seed=1)):
        chance = often if "poor" not in row["output"] else 0.9
        own = {name: value for name, value in row.items() if name not in ("of", "drawn", "seed", "frame")}
        rows += [{**own, "probability": chance}] if rng.random() < chance else []
    label(root, rows)
    found, told = judged(root, capsys)
    assert found == code, told
    assert said in told
    assert code or re.search(r"plain: (5[5-9]|6[0-5])\.\d %", told), told


CLUSTERS = [{"id": f"c{i:03}", "text": f"{KINDS[i % 5]} {i}", "cluster": f"d{i // 20}"} for i in range(CASES)]
FEW = [{**case, "cluster": f"d{i % 4}"} for i, case in enumerate(CLUSTERS)]
PLAIN = [{"id": f"c{i:03}", "text": f"{KINDS[i % 5]} {i}"} for i in range(CASES)]


@pytest.mark.parametrize(
    ("cases", "repeats", "labels", "bound", "code", "said"),
    [
        (PLAIN, 2, 120, 0.4, 0, "lower clustered prediction-powered 95 % bound"),
        (PLAIN, 2, 120, 0.75, 1, "upper clustered prediction-powered 95 % bound"),
        (PLAIN, 3, 120, 0.6, 4, "labels in "),
        (PLAIN, 2, 49, 0.4, 4, "49 of its outputs, drawn at random, have a label of people; 50 are needed"),
        (CLUSTERS, 1, 150, 0.3, 0, "by people's labels of 150 (the judge alone 80.0 %) on 300 cases"),
        (CLUSTERS, 3, 150, 0.95, 1, "FAIL: judge at least 0.95"),
        (
            FEW,
            1,
            100,
            0.3,
            4,
            "its 100 labels lie in 4 clusters, 5 with labels are needed; there are 4 clusters; cases",
        ),
    ],
)
def test_repeats_and_clusters_are_corrected(
    root: Path, capsys, cases: list[Row], repeats: int, labels: int, bound: float, code: int, said: str
) -> None:
    """The judge likes 80 %, people 60 %."""
    write(root / "data.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
    suite(root, f"scorer: judge, at_least: {bound}", f"prompts: [plain]\nrepeats: {repeats}")
    run(root)
    label(root, draw(store(root), "latest", Sample(labels, seed=1)))
    found, told = judged(root, capsys)
    assert found == code, told
    assert said in told
    assert call(root, "show", "latest") == 0
    shown = capsys.readouterr().err
    assert ("people would say 0.6" in shown or "people would say 0.5" in shown) == (labels > 49 and cases is not FEW)


def test_points_of_a_scale_are_held_to_its_ends(root: Path, capsys) -> None:
    numbers = "judge: {rubric: good, model: lenient, scale: [1, 2, 3]}"
    suite(root, "scorer: judge, at_least: 1.8", "prompts: [plain]\nrepeats: 2", numbers)
    write(root / "workbench.yaml", MODELS.replace("good", "'3'").replace("bad", "'1'"))
    run(root)
    label(root, draw(store(root), "latest", Sample(100, seed=2)), lambda row: "3" if "fine" in row["output"] else "1")
    found, told = judged(root, capsys)
    assert found == 0, told
    assert "(the judge alone 2.6" in told
    label(root, draw(store(root), "latest", Sample(60, seed=3)), lambda row: "4", name="b")
    found, told = judged(root, capsys)
    assert (found, "the label '4' of case 'c" in told) == (4, True)


def test_a_hosted_judge_of_sampled_answers_is_held_to_people(root: Path, capsys) -> None:
    """From `run --gate` to `gate`, over HTTP: five answers to each of 60 documents' questions; the judge is lenient."""
    answers = {
        "Is it good. (fine|smooth)": '{"verdict": "good"}',
        "Is it good": '{"verdict": "bad"}',
        "question": ("fine one", "fine two", "smooth", "poor"),
    }
    cases = [{"id": f"c{i:03}", "text": f"question {i}", "cluster": f"d{i // 3}"} for i in range(180)]
    write(root / "data.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
    suite(root, "scorer: judge, at_least: 0.65", "prompts: [plain]\nrepeats: 5\nparams: {temperature: 1}")
    with serve(Script(answers=answers)) as server:
        model = f"{{engine: openai, model: fake, base_url: '{server.url}'}}"
        write(root / "workbench.yaml", f"models:\n  house: {model}\n  lenient: {model}\n")
        assert call(root, "run", "ask", "--quiet") == 0
        licence(root)
        label(root, draw(store(root), "latest", Sample(200, seed=4)))
        calls = sum(server.calls.values())
        capsys.readouterr()
        assert call(root, "run", "ask", "--gate") == 1
        assert sum(server.calls.values()) == calls, "answers are reused"
        told = "".join(capsys.readouterr())
    found = re.search(
        r"FAIL: judge at least 0.65 · plain: ([\d.]+) % by people's labels of 200 \(the judge alone ([\d.]+) %", told
    )
    assert found, told
    assert float(found[1]) < 58 < 70 < float(found[2])
    assert judged(root, capsys)[0] == 1


@pytest.mark.parametrize(("says", "code"), [(people, 0), (lambda row: "bad", 1)])
def test_repeats_against_a_baseline_in_another_store(root: Path, capsys, says, code: int) -> None:
    """Of the baseline only a case's mean is kept; labels of its outputs are in git like it."""
    more = "prompts: [plain]\nrepeats: 2"
    suite(root, "scorer: judge, no_worse_than: baseline, margin: 0.15", more)
    run(root)
    assert call(root, "baseline", "bless", "latest") == 0
    label(root, draw(store(root), "latest", Sample(100, seed=0, cases=True)), name="before")
    for place in (root / ".workbench").iterdir():
        place.unlink()
    write(root / "prompts/plain.prompty", "user:\nPlease, {{ text }}")
    run(root)
    label(root, draw(store(root), "latest", Sample(150, seed=5)), says, name="after")
    found, told = judged(root, capsys)
    assert found == code, told
    assert "by people's labels of 350 (the judge alone +20.0 points)" in told


BOTH = "prompts: [plain, polite]\nreference: {prompt: plain}"


@pytest.mark.parametrize(
    ("count", "says", "code", "said"),
    [
        (120, people, 0, "pass: judge no worse than reference by 0.08 · polite: 0.0 points"),
        (
            120,
            lambda row: "bad" if "Please" in row["output"] and int(row["case"][1:]) % 3 else people(row),
            1,
            "FAIL: judge no worse than reference by 0.08 · polite: ",
        ),
        (30, people, 4, "30 cases whose outputs people labelled on both sides, drawn at random; 50 are needed"),
    ],
)
def test_a_judge_that_likes_manners_is_held_to_people(
    root: Path, capsys, count: int, says, code: int, said: str
) -> None:
    """By the judge the polite prompt is 20 points better; people see no difference, or a loss."""
    suite(root, "scorer: judge, no_worse_than: reference, margin: 0.08", BOTH)
    run(root)
    rows = draw(store(root), "latest", Sample(count, seed=3, cases=True))
    assert len(rows) == 2 * count
    assert [rows[i]["case"] for i in range(0, 8, 2)] == [rows[i]["case"] for i in range(1, 9, 2)]
    label(root, rows, says)
    found, told = judged(root, capsys)
    assert found == code, told
    assert said in told
    assert f"by people's labels of {count} (the judge alone +20.0 points)" in told or code == 4


def test_against_a_baseline_both_sides_need_labels(root: Path, capsys) -> None:
    suite(root, "scorer: judge, no_worse_than: baseline, margin: 0.08")
    run(root)
    assert call(root, "baseline", "bless", "latest") == 0
    label(root, draw(store(root), "latest", Sample(100, seed=0, cases=True)), name="before")
    write(root / "prompts/plain.prompty", "user:\nPlease, {{ text }}")
    run(root)
    found, told = judged(root, capsys)
    assert found == 4
    assert "0 cases whose outputs people labelled on both sides" in told
    rows = draw(store(root), "latest", Sample(100, seed=0, cases=True))
    label(root, rows, lambda row: "bad" if int(row["case"][1:]) % 2 else people(row), name="after")
    found, told = judged(root, capsys)
    assert found == 1
    assert re.search(
        r"FAIL: judge no worse than baseline by 0.08 · plain: −\d\d\.\d points by people's labels of 100", told
    )
    assert main(["--project", str(root), "report", "latest", "--to", "html", "--out", "-"]) == 0
    page = capsys.readouterr().out
    assert "FAIL" in page
    assert "prediction-powered" in page


def test_labels_hold_for_the_same_answers_of_a_later_run(root: Path, capsys) -> None:
    """Also in a store that has never seen the run they were drawn from; not for other answers."""
    suite(root, "scorer: judge, at_least: 0.4")
    run(root)
    label(root, draw(store(root), "latest", Sample(90, seed=1)))
    for place in (root / ".workbench").iterdir():
        place.unlink()
    run(root)
    assert judged(root, capsys)[0] == 0
    cases = (root / "data.jsonl").read_text()
    write(root / "data.jsonl", cases + json.dumps({"id": "new", "text": "fine"}) + "\n")
    run(root)
    found, told = judged(root, capsys)
    assert (found, "0 of its outputs" in told) == (4, True)


def test_pairs_are_corrected_by_labels_of_pairs(root: Path, capsys) -> None:
    """The judge prefers manners each time; people call every third pair a tie, and lose the others."""
    scorers = "{judge: {rubric: pair, model: first, against: {prompt: plain}}, as: better}"
    suite(root, "scorer: better, at_least: 0.5, variant: {prompt: polite}", BOTH, scorers)
    run(root)
    rows = draw(store(root), "latest", Sample(90, seed=1, against="plain"))

    def says(row: Row) -> str:
        if int(row["case"][1:]) % 3 == 0:
            return "tie"
        return "second" if row["first_variant"] == "polite" else "first"

    label(root, rows, says)
    found, told = judged(root, capsys)
    assert found == 1, told
    assert "by people's labels of 90 (the judge alone 100.0 %)" in told


def test_a_pairwise_judges_win_rate_is_told_at_equal_length(root: Path, capsys) -> None:
    """The judge takes the longer answer, in three of four cases the polite one's; none where it always is longer."""
    judge = "{judge: {rubric: pair, model: long, against: {prompt: plain}}, as: better}"
    cases = [{"id": f"c{i:03}", "text": str(i), "more": "x" * (9 if i % 4 == 0 else 1)} for i in range(60)]
    write(root / "data.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
    write(root / "prompts/plain.prompty", "user:\n{{ more }} {{ text }}")
    write(root / "prompts/polite.prompty", "user:\nxxxx{{ text }}")
    answers = "'First: x{4}': first, 'First: x{9}': first, 'First: ': second"
    write(
        root / "workbench.yaml",
        f"models:\n  house: {{engine: echo}}\n  long: {{engine: echo, options: {{answers: {{{answers}}}}}}}\n",
    )
    suite(root, "scorer: better, at_least: 0.5, unlicensed: allow", BOTH, judge)
    assert call(root, "run", "ask", "--quiet") == 0
    capsys.readouterr()
    assert call(root, "compare", "latest") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "better, polite: wins " in told and "; at equal length " in told and "the longer ones on" in told
    assert call(root, "show", "latest", "--json") == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    (rate,) = row["equal_length"]
    assert 0 < rate["longer"] < 1 and rate["units"] == 60 and bool(rate["rate"]) != bool(rate["why"])
    for form in ("md", "html", "json"):
        assert call(root, "report", "latest", "--to", form, "--out", "-") == 0
        assert ("at equal length" if form != "json" else "equal_length") in capsys.readouterr().out


# Statistics

RUNS = 1_000


@pytest.mark.parametrize(("share", "labels"), [(0.8, 50), (0.9, 60), (0.6, 150)])
def test_a_gate_passes_by_chance_as_rarely_as_it_says(share: float, labels: int) -> None:
    """People like exactly the share that is wanted; the judge calls half of the rest good, too. Its mean would pass."""
    rng = np.random.default_rng(60)
    passed = raw = 0
    for _ in range(RUNS):
        truth = (rng.random(400) < share).astype(float)
        judge = np.where(rng.random(400) < 0.5, 1.0, truth)
        data = PeopleSample(truth[:labels], judge[:labels], judge[labels:], (0.0, 1.0))
        passed += decide([Claim(data, "at_least", share, 0.05)])[0].answer == "pass"
        raw += judge.mean() - 1.645 * judge.std() / 20 >= share
    assert raw / RUNS > 0.5
    assert passed / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


@pytest.mark.parametrize("loss", [0.0, 0.08])
def test_differences_err_as_rarely_as_they_say(loss: float) -> None:
    """Without a loss gates fail, with one of the whole margin they pass, at most in 5 %; the judge sees a gain in both."""
    rng = np.random.default_rng(61)
    wrong = 0
    for _ in range(RUNS):
        difference = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1 + loss, 0.8 - loss, 0.1])
        judge = np.where(rng.random(400) < 0.3, 1.0, difference)
        data = PeopleSample(difference[:100], judge[:100], judge[100:], (-1.0, 1.0))
        (found,) = decide([Claim(data, "no_worse_than", loss, 0.05)])
        wrong += found.answer == ("pass" if loss else "fail")
        assert (found.judge or 0) > 0
    assert wrong / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_labels_needed_are_as_many_as_it_takes() -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random(4_000) < 0.7).astype(float)
    judge = np.where(rng.random(4_000) < 0.9, truth, 1 - truth)
    data = PeopleSample(truth[:60], judge[:60], judge[60:], (0.0, 1.0))
    needed = labels_for(data, data.estimate(0.95).error / 2)
    assert needed is not None
    more = PeopleSample(truth[:needed], judge[:needed], judge[needed:], (0.0, 1.0))
    assert more.estimate(0.95).error == pytest.approx(data.estimate(0.95).error / 2, rel=0.25)
    assert labels_for(data, 0.001) is None


def test_equal_numbers_without_a_range_decide_nothing() -> None:
    data = PeopleSample(np.full(60, 4.0), np.full(60, 4.0), np.full(100, 4.0))
    (found,) = decide([Claim(data, "at_least", 1.0, 0.05)])
    assert (found.answer, found.why) == ("not enough data", "all values are the same")
